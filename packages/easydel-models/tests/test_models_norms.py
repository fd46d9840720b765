"""Norms: the written-out gradient is that of the formula, in whatever shape, offset and dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.layers.norms import layer_norm, rms_norm

EPS = 1e-5


def formula(x, weight, offset=0.0):
    out = x / jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPS)
    return out if weight is None else out * (weight + offset).reshape((1,) * (x.ndim - 1) + weight.shape)


def both(shape, *, dtype="float32"):
    keys = jax.random.split(jax.random.key(0), 3)
    x, g = (jax.random.normal(key, shape).astype(dtype) for key in keys[:2])
    return x, jax.random.normal(keys[2], shape[-1:]), g


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(7, 16), (2, 5, 16), (2, 5, 3, 8)])
def test_gradients_are_those_of_the_formula(shape, offset):
    x, weight, g = both(shape)
    result, back = jax.vjp(lambda x, weight: rms_norm(x, weight, EPS, offset), x, weight)
    expected, expected_back = jax.vjp(lambda x, weight: formula(x, weight, offset), x, weight)
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)
    for ours, theirs in zip(back(g), expected_back(g), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_gradient_without_a_weight():
    x, _, g = both((2, 5, 16))
    ours, theirs = (jax.vjp(f, x)[1](g)[0] for f in (lambda x: rms_norm(x, None, EPS), lambda x: formula(x, None)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_half_precision_is_only_rounded_at_the_end():
    x, weight, g = both((2, 5, 16), dtype="bfloat16")
    result, back = jax.vjp(lambda x, weight: rms_norm(x, weight, EPS), x, weight)
    wide = [array.astype(jnp.float32) for array in (x, g)]
    expected, expected_back = jax.vjp(formula, wide[0], weight)
    of_x, of_weight = back(g)
    assert (result.dtype, of_x.dtype, of_weight.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(result, expected.astype(jnp.bfloat16))
    np.testing.assert_allclose(of_weight, expected_back(wide[1])[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.float32(of_x), expected_back(wide[1])[0], rtol=2**-7, atol=1e-3)


def test_layer_norm_and_its_gradients():
    x, weight, g = both((2, 5, 16))
    bias = jnp.linspace(-1, 1, 16)

    def by_formula(x, weight, bias):
        return formula(x - x.mean(axis=-1, keepdims=True), weight) + bias[None, None]

    result, back = jax.vjp(lambda *args: layer_norm(*args, EPS), x, weight, bias)
    expected, expected_back = jax.vjp(by_formula, x, weight, bias)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(back(g), expected_back(g), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_an_axis_in_parts_is_normalised_as_a_whole():
    """Two halves of the features, each on a device of its own: here, mapped over with a name."""
    x, weight, g = both((3, 16))

    def halves(array):
        return jnp.moveaxis(array.reshape(*array.shape[:-1], 2, 8), -2, 0)

    def norm(x, weight):
        return rms_norm(x, weight, EPS, whole_mean=lambda mean: jax.lax.pmean(mean, "parts"))

    def run(x, weight, g):
        result, back = jax.vjp(norm, x, weight)
        return result, *back(g)

    found = jax.vmap(run, axis_name="parts")(halves(x), halves(weight), halves(g))
    expected, expected_back = jax.vjp(formula, x, weight)
    for ours, theirs in zip(found, (expected, *expected_back(g)), strict=True):
        np.testing.assert_allclose(ours, halves(theirs), rtol=1e-4, atol=1e-5)
