"""A small SFT run to be killed: `python killable_run.py ROWS DIRECTORY [KILL_AFTER_STEP]`.

All that a position and a checkpoint have to hold is in it: a mixture of ROWS/even.jsonl and ROWS/odd.jsonl whose shares
change from step to step, shuffled anew every epoch, packed; adapters, whose inputs are left out at random.

Writes the trained parameters to DIRECTORY/parameters.npz when it ends. Given a step, it kills itself with SIGKILL
right after that step was logged, as an out-of-memory killer would: no handler runs, nothing is flushed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np
from easydata_mix import MixedShardedSource, WeightSchedulePoint, WeightScheduler
from easydata_sources import JsonShardedSource
from easydata_tokenize import load_tokenizer
from easydel_models import AutoEasyDeLModelForCausalLM, LoraConfig
from easydel_models.parameters import split_params
from easydel_trainers import Callback, SFTConfig, SFTTrainer

GOLDEN = Path(__file__).parent / "golden"


class KillAfter(Callback):
    """A callback that kills its own process."""

    def __init__(self, step: int):
        self.step = step

    def on_log(self, record, run) -> None:
        if record["step"] >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def mixture(rows: Path) -> MixedShardedSource:
    """The two files of rows, with shares that change over the run."""
    points = [WeightSchedulePoint(0, {"even": 0.8, "odd": 0.2}), WeightSchedulePoint(24, {"even": 0.1, "odd": 0.9})]
    sources = {name: JsonShardedSource(str(rows / f"{name}.jsonl")) for name in ("even", "odd")}
    return MixedShardedSource(sources, block_size=10, weight_scheduler=WeightScheduler(points))


def main() -> None:
    rows, directory = Path(sys.argv[1]), Path(sys.argv[2])
    trainer = SFTTrainer(
        AutoEasyDeLModelForCausalLM.from_pretrained(GOLDEN / "models" / "policy"),
        SFTConfig(
            learning_rate=1e-3,
            total_batch_size=4,
            max_training_steps=24,
            max_length=192,
            packing=True,
            lora=LoraConfig(rank=4, dropout=0.2),
            save_directory=str(directory),
            save_steps=3,
            log_steps=1,
        ),
        processing_class=load_tokenizer(GOLDEN / "tokenizer"),
        train_dataset=mixture(rows),
        callbacks=[KillAfter(int(step)) for step in sys.argv[3:]],
    )
    output = trainer.train()
    assert output.global_step == 24
    leaves = jax.tree.leaves(split_params(trainer.model)[1])
    np.savez(directory / "parameters.npz", *[np.asarray(leaf) for leaf in leaves])


if __name__ == "__main__":
    main()
