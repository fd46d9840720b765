"""A small run to be killed: `python killable_run.py sft|grpo DIRECTORY [KILL_AFTER_STEP]`.

All that a position and a checkpoint have to hold is in them. `sft`: a mixture of two files whose shares change from
step to step, shuffled anew every epoch, packed; adapters, whose inputs are left out at random. `grpo`: three steps on
each rollout, the next one sampled meanwhile, so that most checkpoints fall between two steps on one rollout and hold
another; prompts shuffled anew every epoch.

Writes the trained parameters to DIRECTORY/parameters.npz when it ends. Given a step, it kills itself with SIGKILL
right after that step was logged, as an out-of-memory killer would: no handler runs, nothing is flushed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from easydata_mix import MixedShardedSource, WeightSchedulePoint, WeightScheduler
from easydata_sources import JsonShardedSource
from easydata_tokenize import load_tokenizer
from easydel_models import AutoEasyDeLModelForCausalLM, LoraConfig
from easydel_models.parameters import split_params
from easydel_trainers import Callback, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

GOLDEN = Path(__file__).parent / "golden"
STEPS = 24


class KillAfter(Callback):
    """A callback that kills its own process."""

    def __init__(self, step: int):
        self.step = step

    def on_log(self, record, run) -> None:
        if record["step"] >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def sft(directory: Path, shared: dict[str, Any], **options: Any) -> SFTTrainer:
    config = SFTConfig(**shared, total_batch_size=4, max_length=192, packing=True, lora=LoraConfig(rank=4, dropout=0.2))
    return SFTTrainer(policy(), config, train_dataset=mixture(directory / "rows"), **options)


def mixture(rows: Path) -> MixedShardedSource:
    """Conversations in two files, with shares that change over the run; so few that it goes through several epochs."""
    rows.mkdir(exist_ok=True)
    lines = (GOLDEN / "rows" / "messages.jsonl").read_text().splitlines(keepends=True)
    for name, part in {"even": lines[0::2], "odd": lines[1::2]}.items():
        (rows / f"{name}.jsonl").write_text("".join(part))
    points = [WeightSchedulePoint(0, {"even": 0.8, "odd": 0.2}), WeightSchedulePoint(24, {"even": 0.1, "odd": 0.9})]
    sources = {name: JsonShardedSource(str(rows / f"{name}.jsonl")) for name in ("even", "odd")}
    return MixedShardedSource(sources, block_size=10, weight_scheduler=WeightScheduler(points))


def grpo(directory: Path, shared: dict[str, Any], **options: Any) -> GRPOTrainer:
    config = GRPOConfig(
        **shared,
        num_iterations=3,
        steps_off_policy=1,
        num_return_sequences=4,
        total_batch_size=16,
        max_prompt_length=48,
        max_completion_length=8,
    )
    # Four prompts a rollout out of twenty: several epochs.
    rows = JsonShardedSource(str(GOLDEN / "rows" / "prompt_only_text.jsonl"))
    return GRPOTrainer(policy(), config, train_dataset=rows, reward_funcs=small_tokens, **options)


def small_tokens(completion_ids: list[list[int]], **columns: Any) -> list[float]:
    return [-float(np.mean(ids)) for ids in completion_ids]


def policy() -> Any:
    return AutoEasyDeLModelForCausalLM.from_pretrained(GOLDEN / "models" / "policy")


def main() -> None:
    kind, directory = {"sft": sft, "grpo": grpo}[sys.argv[1]], Path(sys.argv[2])
    shared = {"learning_rate": 1e-3, "max_training_steps": STEPS, "save_epochs": False, "log_steps": 1}
    shared["save_steps"] = 3 if kind is sft else 2
    trainer = kind(
        directory,
        {**shared, "save_directory": str(directory)},
        processing_class=load_tokenizer(GOLDEN / "tokenizer"),
        callbacks=[KillAfter(int(step)) for step in sys.argv[3:]],
    )
    output = trainer.train()
    assert output.global_step == STEPS
    leaves = jax.tree.leaves(split_params(trainer.model)[1])
    np.savez(directory / "parameters.npz", *[np.asarray(leaf) for leaf in leaves])


if __name__ == "__main__":
    main()
