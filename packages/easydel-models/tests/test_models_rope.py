import math

import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.errors import ConfigError
from easydel_models.layers.rope import RopeConfig, apply_rope, rope_frequencies, rope_tables


def test_frequencies_form_a_geometric_series():
    # theta ** (-2 i / 8) for i = 0..3 with theta = 10000: 1, 1/10, 1/100, 1/1000
    np.testing.assert_allclose(rope_frequencies(RopeConfig(), 8), [1.0, 0.1, 0.01, 0.001], rtol=1e-6)


def test_linear_scaling_slows_every_pair():
    config = RopeConfig(kind="linear", factor=4.0)
    np.testing.assert_allclose(rope_frequencies(config, 4), [0.25, 0.0025], rtol=1e-6)


def test_llama3_scaling_keeps_fast_pairs_and_slows_slow_ones():
    config = RopeConfig(kind="llama3", factor=8.0, original_max_positions=1000)
    fast, slow = rope_frequencies(config, 4)
    # wavelengths: 2 pi = 6.3 < 1000 / 4 stays; 2 pi * 100 = 628 lies between 250 and 1000, so it is blended:
    # (1000 / 628.3 - 1) / (4 - 1) = 0.19718 of the unscaled, the rest divided by 8
    assert fast == pytest.approx(1.0)
    share = (1000 / (200 * math.pi) - 1) / 3
    assert slow == pytest.approx((1 - share) * 0.01 / 8 + share * 0.01, rel=1e-5)
    very_slow = rope_frequencies(RopeConfig(kind="llama3", factor=8.0, theta=1e6, original_max_positions=1000), 4)[1]
    assert very_slow == pytest.approx(0.001 / 8, rel=1e-5)


def test_a_quarter_turn():
    # One pair of frequency 1; at position p it turns by p radians: (1, 0) -> (cos p, sin p).
    positions = jnp.asarray([[0, 1, 5]], jnp.int32)
    cos, sin = rope_tables(RopeConfig(), 2, positions)
    turned = apply_rope(jnp.tile(jnp.asarray([[[[1.0, 0.0]]]]), (1, 3, 1, 1)), cos, sin)
    expected = [[math.cos(p), math.sin(p)] for p in (0, 1, 5)]
    np.testing.assert_allclose(turned[0, :, 0], expected, atol=1e-6)


def test_scores_depend_on_the_distance_only():
    rng = np.random.default_rng(0)
    query, key = (jnp.asarray(rng.standard_normal((1, 1, 1, 16)), jnp.float32) for _ in range(2))

    def score(at, distance):
        tables = [rope_tables(RopeConfig(), 16, jnp.asarray([[place]], jnp.int32)) for place in (at, at - distance)]
        return float((apply_rope(query, *tables[0]) * apply_rope(key, *tables[1])).sum())

    assert score(7, 3) == pytest.approx(score(100, 3), abs=1e-4)


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="must be positive"):
        RopeConfig(theta=0.0)
    with pytest.raises(ConfigError, match="0 < `low_freq_factor` < `high_freq_factor`"):
        RopeConfig(kind="llama3", low_freq_factor=4.0)
