"""The same SFT steps in TRL, for a ratio in one sitting. Needs an environment of its own:

    python -m venv trl && trl/bin/pip install torch==2.13.0 trl==1.16.0
    trl/bin/python benchmarks/peers/trl_sft_step.py --model FOLDER --rows chats.jsonl

FOLDER is a Hugging Face folder of the same model, for instance what `save_pretrained` of ours wrote.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

from datasets import load_dataset
from peak_memory import peak_gb
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """Seconds of each optimizer step."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs):
        self._began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self._began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument(
        "--precision", default="float32", choices=("float32", "default"), help="default: TRL's bf16=True"
    )
    options = parser.parse_args()
    rows = load_dataset("json", data_files=options.rows, split="train").select_columns(["messages"])
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(options.model, dtype="float32"),
            processing_class=AutoTokenizer.from_pretrained(options.model),
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=options.batch,
                max_length=512,
                max_steps=options.steps,
                bf16=options.precision == "default",
                report_to=[],
                save_strategy="no",
                logging_steps=1,
                use_cpu=True,
                packing=False,
            ),
            train_dataset=rows,
            callbacks=[clock],
        )
        trainer.train()
    counts = [entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry]
    print(
        json.dumps(
            {
                "real tokens/s": round(counts[-1] / sum(clock.seconds), 1),
                "peak memory GB": round(peak_gb(), 2),
                "steps": options.steps,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
