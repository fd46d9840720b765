"""Products of bfloat16 numbers are added up in float32, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
from easydel_models.layers.linear import product


def test_bfloat16_products_lose_only_their_factors_rounding():
    keys = jax.random.split(jax.random.key(0), 3)
    rows = jax.random.normal(keys[0], (64, 48)).astype(jnp.bfloat16)
    kernel = jax.random.normal(keys[1], (48, 32))
    weight = jax.random.normal(keys[2], (64, 32)).astype(jnp.bfloat16)
    result, back = jax.vjp(product, rows, kernel)
    of_rows, of_kernel = back(weight)
    assert (result.dtype, of_rows.dtype, of_kernel.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    x, w, g = (np.asarray(array.astype(jnp.bfloat16), np.float64) for array in (rows, kernel, weight))
    np.testing.assert_allclose(np.asarray(result, np.float64), x @ w, rtol=2**-8, atol=1e-4)
    np.testing.assert_allclose(np.asarray(of_rows, np.float64), g @ w.T, rtol=2**-8, atol=1e-4)
    # Not rounded to bfloat16 on its way to the float32 kernel.
    np.testing.assert_allclose(np.asarray(of_kernel, np.float64), x.T @ g, rtol=1e-5, atol=1e-5)


def test_float32_products_are_as_they_were():
    rows, kernel = jax.random.normal(jax.random.key(1), (5, 7)), jax.random.normal(jax.random.key(2), (7, 3))
    np.testing.assert_array_equal(product(rows, kernel), rows @ kernel)
