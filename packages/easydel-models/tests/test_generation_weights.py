"""Decoding reads the model's weights where they lie, and what it must copy it copies once for each update."""

import dataclasses
import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.adapters.config import LoraConfig
from easydel_models.adapters.lora import with_lora
from easydel_models.config import DecoderConfig
from easydel_models.experts.routing import RouterConfig
from easydel_models.generation import generate
from easydel_models.generation.weights import decode_weights, forget_copy
from easydel_models.layers.attention import Attention
from easydel_models.layers.convolution import ShortConvolution
from easydel_models.layers.experts import Experts
from easydel_models.layers.gated import Gated
from easydel_models.layers.layer import LayerConfig
from easydel_models.parameters import split_params, update_params

# Layers whose sizes are multiples of 64 bytes, as all real ones are: JAX takes no other memory as it is.
CONFIG = DecoderConfig(
    vocab_size=64, dim=32, num_layers=3, num_heads=4, num_kv_heads=2, mlp_dim=64, max_positions=96, eos_token_ids=(2,)
)
PROMPTS = [[5, 6, 7], [8, 9]]
IN_PLACE, COPIED = 2, 3


@pytest.fixture(autouse=True)
def without_avx512(monkeypatch):
    """As on a CPU on which a few rows are multiplied by a copy."""
    monkeypatch.setattr("easydel_models.generation.weights._has_avx512", lambda: False)


def address(array):
    return array.unsafe_buffer_pointer()


def test_layers_are_read_where_they_lie(random_model):
    model = random_model(CONFIG, seed=1)
    layers = split_params(model)[1]["layers"]
    weights = decode_weights(model, IN_PLACE)
    for name, stack in layers.items():
        size = stack[0].nbytes
        for number in range(CONFIG.num_layers):
            assert address(weights.layers[number][name]) == address(stack) + number * size


@pytest.mark.parametrize("rows", [1, IN_PLACE, COPIED, 64])
def test_with_avx512_all_rows_are_read_in_place(random_model, monkeypatch, rows):
    monkeypatch.setattr("easydel_models.generation.weights._has_avx512", lambda: True)
    model = random_model(CONFIG, seed=1)
    weights = decode_weights(model, rows)
    assert address(weights.layers[0]["gate"]) == address(split_params(model)[1]["layers"]["gate"])


@pytest.mark.parametrize("rows", [1, IN_PLACE, COPIED])
def test_half_precision_parameters_are_read_in_place_where_they_are_computed_with(random_model, rows):
    model = random_model(CONFIG, seed=1, dtype="bfloat16")
    model.cast(param_dtype="bfloat16")
    weights = decode_weights(model, rows)
    stack = split_params(model)[1]["layers"]["gate"]
    assert weights.head.dtype == stack.dtype == jnp.bfloat16
    assert address(weights.layers[1]["gate"]) == address(stack) + stack[0].nbytes


ATTENTION = Attention(num_heads=4, num_kv_heads=2, head_dim=8)
EXPERTS = Experts(router=RouterConfig(num_experts=4, experts_per_token=2), width=16)
ALIKE, OTHER, OF_EXPERTS, CONVOLUTION = (
    LayerConfig(mixer=mixer, feed_forward=feed_forward)
    for mixer, feed_forward in (
        (ATTENTION, Gated(width=64)),
        (dataclasses.replace(ATTENTION, window=4), Gated(width=64)),
        (ATTENTION, EXPERTS),
        (ShortConvolution(width=32), Gated(width=64)),
    )
)


@pytest.mark.parametrize(
    "layers",
    [(ALIKE,) * 3, (ALIKE, ALIKE, OTHER), (ALIKE, OF_EXPERTS, OF_EXPERTS), (CONVOLUTION, ALIKE), (ALIKE, OTHER) * 2],
    ids=["alike", "one is other", "experts", "none repeats", "a period"],
)
def test_parameters_in_half_precision_are_read_as_the_same_numbers_in_float32(random_model, layers):
    config = DecoderConfig(vocab_size=64, dim=32, layers=layers, max_positions=96, eos_token_ids=(2,))
    model = random_model(config, seed=1, dtype="bfloat16")
    model.cast(param_dtype="bfloat16")
    results = []
    for param_dtype in ("bfloat16", "float32"):
        model.cast(param_dtype=param_dtype)
        results.append(generate(model, [[5, 6, 7, 8, 9, 10, 11], [3, 4, 5]], max_new_tokens=8, eos_token_id=[]))
    assert results[0].token_ids == results[1].token_ids
    np.testing.assert_array_equal(results[0].logprobs, results[1].logprobs)


def test_both_ways_of_holding_weights_give_the_same_tokens(random_model):
    model = random_model(CONFIG, seed=1)
    few = generate(model, PROMPTS, max_new_tokens=8, eos_token_id=[], batch_size=IN_PLACE)
    many = generate(model, PROMPTS * 2, max_new_tokens=8, eos_token_id=[], batch_size=COPIED)
    assert many.token_ids == few.token_ids * 2


def test_nothing_holds_the_parameters_once_generation_is_over(random_model):
    """Or the next training step could not update them in place."""
    model = random_model(CONFIG, seed=1)
    generate(model, PROMPTS, max_new_tokens=4, eos_token_id=[], batch_size=IN_PLACE)
    gc.disable()  # nor may it wait for a collection
    try:
        stack = split_params(model)[1]["layers"]["gate"]
        before = address(stack)
        assert address(jax.jit(lambda array: array + 1, donate_argnums=0)(stack)) == before
        assert stack.is_deleted()
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["rows", "half precision", "adapters"])
def test_a_copy_is_made_once_for_each_update(random_model, kind):
    model, rows = random_model(CONFIG, seed=1, dtype="bfloat16" if kind == "half precision" else "float32"), IN_PLACE
    model = with_lora(model, LoraConfig(rank=2)) if kind == "adapters" else model
    rows = COPIED if kind == "rows" else rows
    first = decode_weights(model, rows)
    assert decode_weights(model, rows) is first
    params = split_params(model)[1]
    update_params(model, {"layers": {"gate": params["layers"]["gate"] + 1}})
    second = decode_weights(model, rows)
    assert second is not first
    kernel = second.layers[0]["gate"]
    kernel = kernel.reshape(-1, CONFIG.dim).T if kernel.ndim == 3 else kernel  # cut up
    np.testing.assert_allclose(kernel, np.asarray(params["layers"]["gate"][0] + 1, kernel.dtype), rtol=1e-2)
    forget_copy(model)
    assert decode_weights(model, rows) is not second


def test_a_copy_goes_with_its_model(random_model):
    from easydel_models.generation import weights

    gc.collect()
    before = len(weights._COPIES)
    model = random_model(CONFIG, seed=1)
    decode_weights(model, COPIED)
    assert len(weights._COPIES) == before + 1
    del model
    gc.collect()
    assert len(weights._COPIES) == before


def test_parameters_kept_in_half_precision_are_widened_once(random_model, monkeypatch):
    monkeypatch.setenv("EASYDEL_CPU_BFLOAT16", "float32")
    model = random_model(CONFIG, seed=1, dtype="bfloat16")
    model.cast(param_dtype="bfloat16")
    weights = decode_weights(model, IN_PLACE)
    assert weights.head.dtype == jnp.float32
    assert weights.layers[0]["gate"].dtype == jnp.float32
    assert decode_weights(model, IN_PLACE) is weights
