"""Keys of seeds: every bit of a seed counts, whatever its size."""

import jax
import numpy as np
from easydel_models.config import DecoderConfig
from easydel_models.generation.http_engine import request_body
from easydel_models.generation.options import GenerationOptions
from easydel_models.parameters import init_params
from easydel_models.random_keys import key_of_seed

SEEDS = [0, 5, 2**31, 2**32, 2**32 + 5, 2**63, 2**64 - 1, 2**64 + 5, 2**130, -1, -6, -(2**32), 2**32 - 1, -(2**64)]


def test_every_seed_has_a_key_of_its_own_and_small_ones_have_that_of_jax():
    keys = {tuple(jax.random.key_data(key_of_seed(seed)).tolist()) for seed in SEEDS}
    assert len(keys) == len(SEEDS)
    for seed in (0, 5, 2**31, 2**32 - 1):
        assert (jax.random.key_data(key_of_seed(seed)) == jax.random.key_data(jax.random.key(seed))).all()


def test_parameters_drawn_by_large_seeds_differ():
    config = DecoderConfig(vocab_size=7, dim=4, num_layers=1, num_heads=1, num_kv_heads=1, mlp_dim=4, max_positions=4)
    drawn = [
        np.asarray(jax.tree.leaves(init_params(config, seed=seed, dtype=np.dtype("float32")))[0]) for seed in SEEDS[:5]
    ]
    assert len({array.tobytes() for array in drawn}) == 5


def test_servers_are_asked_with_seeds_of_31_bits_that_differ():
    asked = [
        request_body("m", n, [1], GenerationOptions(max_new_tokens=1, seed=seed))["seed"]
        for seed in SEEDS
        for n in range(3)
    ]
    assert len(set(asked)) == len(asked)
    assert all(0 <= seed < 2**31 for seed in asked)
