"""Grouped products and routers against the plain way of writing them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.errors import ConfigError
from easydel_models.experts.grouped import gathered, grouped_dot
from easydel_models.experts.routing import RouterConfig, choose, load_balancing_loss, router_load
from easydel_models.layers.feed_forward import Routing

SIZES = {
    "even": [8, 8, 8, 8],
    "empty groups": [0, 20, 0, 7],
    "one group takes all": [0, 0, 32, 0],
    "rows of no group": [3, 1, 0, 10],
    "no rows at all": [0, 0, 0, 0],
}


def plain(rows, kernels, sizes):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    product = jnp.einsum("ni,nio->no", rows[: len(groups)], kernels[groups])
    return jnp.concatenate([product, jnp.zeros((rows.shape[0] - len(groups), kernels.shape[2]))])


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_grouped_products_and_their_gradients_are_those_of_each_row_alone(sizes):
    keys = jax.random.split(jax.random.key(1), 3)
    rows, kernels = jax.random.normal(keys[0], (32, 6)), jax.random.normal(keys[1], (4, 6, 5))
    weight = jax.random.normal(keys[2], (32, 5))
    groups = jnp.asarray(sizes, jnp.int32)

    def loss(product, *arrays):
        return (product(*arrays) * weight).sum()

    found = jax.jit(lambda r, k, s: jax.value_and_grad(lambda *a: loss(grouped_dot, *a, s), (0, 1))(r, k))
    value, grads = found(rows, kernels, groups)
    expected, expected_grads = jax.value_and_grad(lambda *a: loss(plain, *a, sizes), (0, 1))(rows, kernels)
    np.testing.assert_allclose(grouped_dot(rows, kernels, groups), plain(rows, kernels, sizes), atol=1e-5)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_bfloat16_products_lose_only_their_factors_rounding():
    sizes = jnp.asarray([9, 0, 20, 3], jnp.int32)
    keys = jax.random.split(jax.random.key(4), 3)
    rows = jax.random.normal(keys[0], (32, 600)).astype(jnp.bfloat16)
    kernels = jax.random.normal(keys[1], (4, 600, 8))
    weight = jax.random.normal(keys[2], (32, 8)).astype(jnp.bfloat16)
    found, back = jax.vjp(lambda r, k: grouped_dot(r, k, sizes), rows, kernels)
    of_rows, of_kernels = back(weight)
    assert (found.dtype, of_rows.dtype, of_kernels.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    r, k, w = (np.asarray(array.astype(jnp.bfloat16), np.float64) for array in (rows, kernels, weight))
    own = k[np.repeat(np.arange(4), sizes)]
    # One rounding of a sum of 600 products; added up in bfloat16 it would have hundreds.
    np.testing.assert_allclose(np.asarray(found, np.float64), np.einsum("ni,nio->no", r, own), rtol=2**-8, atol=1e-3)
    np.testing.assert_allclose(np.asarray(of_rows, np.float64), np.einsum("no,nio->ni", w, own), rtol=2**-8, atol=1e-3)
    first = r[:9].T @ w[:9]
    np.testing.assert_allclose(np.asarray(of_kernels[0], np.float64), first, rtol=1e-5, atol=1e-4)


def test_blocks_longer_and_shorter_than_groups_give_the_same():
    sizes = [130, 1, 0, 69, 300]  # 500 rows of 5 groups: blocks of 128
    rows = jax.random.normal(jax.random.key(2), (500, 3))
    kernels = jax.random.normal(jax.random.key(3), (5, 3, 4))
    np.testing.assert_allclose(
        grouped_dot(rows, kernels, jnp.asarray(sizes, jnp.int32)), plain(rows, kernels, sizes), atol=1e-5
    )


def test_rows_taken_several_times_pass_their_gradients_back():
    rows = jnp.arange(6.0).reshape(3, 2)
    order = jnp.array([2, 0, 1, 0, 2, 1], jnp.int32)
    back = jnp.array([[1, 3], [2, 5], [0, 4]], jnp.int32)
    weight = jnp.arange(12.0).reshape(6, 2)
    ours = jax.grad(lambda r: (gathered(r, order, back) * weight).sum())(rows)
    np.testing.assert_array_equal(ours, jax.grad(lambda r: (r[order] * weight).sum())(rows))


def test_softmax_over_all_is_weighed_as_it_is_or_by_its_share():
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
    plain_weights = choose(RouterConfig(num_experts=3, experts_per_token=2), logits)
    np.testing.assert_array_equal(plain_weights.experts, [[0, 1]])
    np.testing.assert_allclose(plain_weights.weights, [[0.5, 0.3]], rtol=1e-6)
    shares = choose(RouterConfig(num_experts=3, experts_per_token=2, normalize=True, scale=2.0), logits)
    np.testing.assert_allclose(shares.weights, [[2 * 0.5 / 0.8, 2 * 0.3 / 0.8]], rtol=1e-6)


def test_softmax_of_the_chosen_leaves_the_others_out():
    # exp(2) / (exp(2) + exp(1)) = 0.7310586
    routing = choose(
        RouterConfig(num_experts=4, experts_per_token=2, scores="softmax_of_chosen"), jnp.array([[1.0, -5.0, 2.0, 0.5]])
    )
    np.testing.assert_array_equal(routing.experts, [[2, 0]])
    np.testing.assert_allclose(routing.weights, [[0.7310586, 0.2689414]], rtol=1e-6)


def test_a_selection_bias_chooses_and_does_not_weigh():
    config = RouterConfig(num_experts=3, experts_per_token=1, scores="sigmoid")
    routing = choose(config, jnp.array([[1.0, 0.0, -1.0]]), jnp.array([0.0, 0.0, 5.0]))
    np.testing.assert_array_equal(routing.experts, [[2]])
    np.testing.assert_allclose(routing.weights, [[0.26894143]], rtol=1e-6)  # sigmoid(-1)


def test_groups_are_chosen_by_their_two_best():
    # The best expert of all stands in the first group, whose second is bad: 0.9 + 0.1 < 0.6 + 0.5.
    scores = jnp.array([[0.9, 0.1, 0.05, 0.6, 0.5, 0.4]])
    config = RouterConfig(num_experts=6, experts_per_token=2, scores="sigmoid", groups=2, groups_per_token=1)
    routing = choose(config, jnp.log(scores / (1 - scores)))
    np.testing.assert_array_equal(routing.experts, [[3, 4]])
    np.testing.assert_allclose(routing.weights, [[0.6, 0.5]], rtol=1e-5)


def test_the_balancing_loss_by_hand_and_over_any_split():
    # Two tokens, two experts, one each: probabilities (0.75, 0.25) and (0.25, 0.75). Expert shares 1/2 and 1/2,
    # mean probabilities 1/2 and 1/2: 2 * (1/4 + 1/4) = 1.
    config = RouterConfig(num_experts=2, experts_per_token=1)
    logits = jnp.log(jnp.array([[0.75, 0.25], [0.25, 0.75], [0.9, 0.1]]))
    real = jnp.array([True, True, False])
    whole = router_load(config, logits, real)
    assert float(load_balancing_loss(whole)) == pytest.approx(1.0)
    parts = [router_load(config, logits[i : i + 1], real[i : i + 1]) for i in range(3)]
    together = jax.tree.map(lambda *a: sum(a), *parts)
    assert float(load_balancing_loss(together)) == pytest.approx(1.0)
    # Only the first token: 2 * (1 * 0.75 + 0 * 0.25).
    assert float(load_balancing_loss(parts[0])) == pytest.approx(1.5)
    assert float(load_balancing_loss(Routing(jnp.zeros(2), jnp.zeros(2), jnp.zeros(())))) == 0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"experts_per_token": 5}, "experts_per_token"),
        ({"groups": 3}, "groups"),
        ({"groups": 2, "groups_per_token": 3}, "groups_per_token"),
        ({"groups": 4, "groups_per_token": 1, "experts_per_token": 2}, "experts_per_token"),
    ],
)
def test_impossible_routers_are_refused_by_name(fields, named):
    with pytest.raises(ConfigError, match=f"`{named}`"):
        RouterConfig(**{"num_experts": 4, "experts_per_token": 2, **fields})
