"""The same DPO steps and rows in TRL, for a ratio in one sitting; `../preference.py --peer` runs it.

Needs an environment of its own:

    python -m venv trl && trl/bin/pip install torch==2.13.0 trl==1.16.0

Defaults of TRL but for f32 and the order of rows: a reference model beside the policy, gradient checkpointing, padded
batches.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

from datasets import disable_caching, load_dataset
from peak_memory import peak_gb
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self):
        self.times: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        self.times.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--prepared", type=int, default=2000)
    parser.add_argument(
        "--precision", default="float32", choices=("float32", "default"), help="default: TRL's bf16=True"
    )
    options = parser.parse_args()
    disable_caching()  # a second run must prepare its rows too
    rows = load_dataset("json", data_files=options.rows, split="train").select_columns(["prompt", "chosen", "rejected"])
    with tempfile.TemporaryDirectory() as folder:
        trainer, clock = make(options, rows, folder)
        trainer.train()
        seconds = clock.times[-1] - clock.times[0]
        peak = peak_gb()
        prepared = preparation_rate(trainer, rows, options.prepared)
    print(
        json.dumps(
            {"pairs/s": options.batch * options.steps / seconds, "peak memory GB": peak, "rows/s": prepared},
        )
    )


def make(options: argparse.Namespace, rows, folder: str) -> tuple[DPOTrainer, Clock]:
    clock = Clock()
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(options.model, dtype="float32"),
        ref_model=AutoModelForCausalLM.from_pretrained(options.model, dtype="float32"),
        processing_class=AutoTokenizer.from_pretrained(options.model),
        args=DPOConfig(
            output_dir=folder,
            per_device_train_batch_size=options.batch,
            max_length=512,
            max_steps=options.steps + 1,
            lr_scheduler_type="constant",
            train_sampling_strategy="sequential",
            bf16=options.precision == "default",
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            use_cpu=True,
        ),
        train_dataset=rows,
        callbacks=[clock],
    )
    return trainer, clock


def preparation_rate(trainer: DPOTrainer, rows, count: int) -> float:
    """Rows per second from raw rows to token ids."""
    whole = rows.select([number % len(rows) for number in range(count)])
    began = time.perf_counter()
    trainer._prepare_dataset(whole, trainer.processing_class, trainer.args, "train")
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
