"""Memory of one step, by the compiled program's own account."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models import AutoEasyDeLModelForCausalLM, DecoderConfig
from easydel_models.parameters import split_params
from easydel_trainers import SFTConfig
from easydel_trainers.algorithms.sft.algorithm import SFTObjective
from easydel_trainers.step.optimizer import make_optimizer
from easydel_trainers.step.step import TrainState, make_train_step

TOKENS, VOCABULARY, DIM, MLP = 4096, 4999, 32, 80


@pytest.fixture(autouse=True)
def _compiled_in_full():
    """The other tests compile lightly; what XLA fuses decides what it keeps."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@functools.cache
def compiled(
    *,
    layers: int,
    remat: str = "full",
    tokens: int = TOKENS,
    vocabulary: int = VOCABULARY,
    heads: tuple[int, int] = (2, 1),
    longest: int = 256,
):
    config = DecoderConfig(
        vocab_size=vocabulary,
        dim=DIM,
        num_layers=layers,
        num_heads=heads[0],
        num_kv_heads=heads[1],
        head_dim=DIM // 2,
        mlp_dim=MLP,
        tie_embeddings=True,
    )
    structure, params = split_params(AutoEasyDeLModelForCausalLM.from_config(config))
    arguments = SFTConfig(gradient_checkpointing=remat, max_length=longest, scheduler="constant")
    optimizer = make_optimizer(arguments, lambda step: 1e-3)
    step = make_train_step(SFTObjective(structure=structure, config=arguments), optimizer, lambda step: 1e-3)
    batch = {name: jax.ShapeDtypeStruct((1, 1, tokens), jnp.int32) for name in ("input_ids", "labels", "segment_ids")}
    state = jax.eval_shape(lambda p: TrainState(p, optimizer.init(p), jnp.int32(0)), params)
    # The code generator that is quicker for what the other tests compile takes five times as long for this.
    emitters = {"xla_cpu_use_fusion_emitters": True}
    return jax.jit(step.function, donate_argnums=0).lower(state, batch).compile(emitters)


def tokens_times_words(program) -> set[int]:
    """How many numbers per word the arrays of the program hold that have the vocabulary as an axis."""
    shapes = re.findall(r"\b(?:f32|bf16|f16|s32|u32|pred)\[([\d,]+)\]", program.as_text())
    sizes = [[int(size) for size in shape.split(",")] for shape in shapes]
    return {int(np.prod(shape)) // VOCABULARY for shape in sizes if VOCABULARY in shape}


def test_no_array_holds_a_number_for_every_token_and_word():
    program = compiled(layers=2)
    found = tokens_times_words(program)
    assert DIM in found  # the table itself, so arrays of that axis are found
    assert max(found) <= 512 < TOKENS  # a chunk of the loss's
    # Beside parameters and optimizer state, which are donated, a step needs less than one such array in all.
    assert program.memory_analysis().temp_size_in_bytes < 4 * TOKENS * VOCABULARY * 0.75


@pytest.mark.thorough
def test_full_remat_keeps_little_of_a_layer_and_the_same_of_each():
    """A layer's input, its attention's result (as wide as the input) and one number per head and token."""
    few, some, many = (temporary(layers, "full") for layers in (2, 6, 10))
    assert many - some == pytest.approx(some - few, rel=0.02)
    in_arrays = 4 * TOKENS * DIM
    # The gradients of a layer's kernels are temporary too.
    assert 1 < ((many - few) / 8 - 4 * LAYER_PARAMETERS) / in_arrays < 3
    # Else the line above would prove nothing.
    assert (temporary(10, "none") - many) / 10 / in_arrays > 10


@pytest.mark.parametrize(
    ("tokens", "remat"),
    [
        (512, "full"),
        pytest.param(2048, "full", marks=pytest.mark.thorough),
        pytest.param(2048, "none", marks=pytest.mark.thorough),
    ],
)
def test_memory_of_a_step_grows_with_its_length_not_with_the_square(tokens, remat):
    """Masks of whole rows, which are length² for every head, must not outlive the block that they are computed for."""
    short, long = (
        compiled(layers=2, remat=remat, tokens=length, longest=length, vocabulary=99, heads=(9, 3))
        .memory_analysis()
        .temp_size_in_bytes
        for length in (tokens, 2 * tokens)
    )
    assert long < 2.2 * short


def temporary(layers: int, remat: str) -> int:
    return compiled(layers=layers, remat=remat).memory_analysis().temp_size_in_bytes


LAYER_PARAMETERS = 2 * DIM * DIM + 2 * DIM * DIM // 2 + 3 * DIM * MLP + 2 * DIM
