"""The same GRPO steps in TRL, called by `benchmarks/grpo.py`. Needs an environment of its own:

python -m venv trl && trl/bin/pip install torch==2.13.0 trl==1.16.0
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time

from datasets import load_dataset
from peak_memory import peak_gb
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class Clock(TrainerCallback):
    """Seconds of each optimizer step, its generation included."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs):
        self._began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self._began)


def length_of_text(completions, **columns):
    return [float(len(completion[-1]["content"])) for completion in completions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--completions", type=int, required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument(
        "--precision", default="float32", choices=("float32", "default"), help="default: TRL's bf16=True"
    )
    options = parser.parse_args()
    clock = Clock()
    with tempfile.TemporaryDirectory() as output:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(options.model, dtype="float32"),
            processing_class=AutoTokenizer.from_pretrained(options.model),
            reward_funcs=length_of_text,
            args=GRPOConfig(
                output_dir=output,
                per_device_train_batch_size=options.completions,
                num_generations=options.completions // 2,
                max_completion_length=options.length,
                generation_kwargs={"min_new_tokens": options.length},
                max_steps=1 + options.steps,
                lr_scheduler_type="constant",
                shuffle_dataset=False,
                gradient_checkpointing=False,
                bf16=options.precision == "default",
                use_cpu=True,
                report_to=[],
                save_strategy="no",
                logging_steps=1,
                disable_tqdm=True,
            ),
            train_dataset=load_dataset("json", data_files=options.rows, split="train"),
            callbacks=[clock],
        )
        trainer.train()
    history = [record for record in trainer.state.log_history if "completions/mean_length" in record]
    print(
        json.dumps(
            {
                "seconds": statistics.median(clock.seconds[1:]),
                "mean completion": history[-1]["completions/mean_length"],
                "peak GB": peak_gb(),
            }
        )
    )


if __name__ == "__main__":
    main()
