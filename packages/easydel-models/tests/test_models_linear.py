"""Products of bfloat16 numbers are added up in float32, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.products import product, wide_product, wide_product_of_transposed


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize(("rows", "columns"), [(1, 32), (2, 32), (33, 32), (33, 2)])
def test_products_with_transposed_factors(dtype, batch, rows, columns):
    keys = jax.random.split(jax.random.key(0), 2)
    left = jax.random.normal(keys[0], (*batch, rows, 48)).astype(dtype)
    right = jax.random.normal(keys[1], (*batch, 48, columns)).astype(dtype)
    expected = np.asarray(left, np.float64) @ np.asarray(right, np.float64)
    turned_left, turned_right = (array.swapaxes(-1, -2) for array in (left, right))
    for result in (
        jax.jit(wide_product)(left, right),
        jax.jit(wide_product, static_argnames="transposed_right")(left, turned_right, transposed_right=True),
        jax.jit(wide_product_of_transposed)(turned_left, right),
    ):
        assert result.dtype == jnp.float32
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-4)


def test_a_transposed_factor_can_be_mapped_over():
    left, right = jnp.arange(24.0).reshape(2, 4, 3), jnp.arange(40.0).reshape(2, 4, 5)
    result = jax.vmap(wide_product_of_transposed)(left, right)
    np.testing.assert_allclose(result, left.swapaxes(1, 2) @ right)
