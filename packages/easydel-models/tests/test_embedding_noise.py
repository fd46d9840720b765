"""Noise on embeddings: as large as each document's own length says, and in training only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from easydel_models import AutoEasyDeLModelForCausalLM, DecoderConfig
from easydel_models.decoder import _default_positions, _tokens_behind
from easydel_models.embedding_noise import EmbeddingNoise, add_noise

SEGMENTS = jnp.asarray([np.repeat([1, 2, 0], [4, 64, 4])], jnp.int32)


def test_its_size_follows_the_documents_length():
    ids, dim, alpha = jnp.zeros_like(SEGMENTS), 256, 5.0
    positions = _default_positions(ids, SEGMENTS), _tokens_behind(ids, SEGMENTS)
    noisy = add_noise(jnp.ones((1, 72, dim)), EmbeddingNoise(jax.random.key(0), alpha), *positions)
    noise = np.asarray(noisy - 1)[0]
    for start, length in ((0, 4), (4, 64)):
        part, bound = noise[start : start + length], alpha / np.sqrt(length * dim)
        assert 0.95 * bound < np.abs(part).max() <= bound * (1 + 1e-5)
        np.testing.assert_allclose(np.linalg.norm(part), alpha / np.sqrt(3), rtol=0.05)


def test_only_training_asks_for_it():
    config = DecoderConfig(vocab_size=11, dim=8, num_layers=1, num_heads=2, num_kv_heads=1, mlp_dim=16)
    model = AutoEasyDeLModelForCausalLM.from_config(config)
    ids, key = jnp.asarray([[1, 2, 3]]), jax.random.key(1)
    plain = model.hidden(ids)
    assert jnp.array_equal(model.hidden(ids, dropout_key=key), plain)
    assert jnp.array_equal(model.hidden(ids, neftune_alpha=5.0), plain)
    noisy = model.hidden(ids, dropout_key=key, neftune_alpha=5.0)
    assert not jnp.array_equal(noisy, plain)
    assert jnp.array_equal(noisy, model.hidden(ids, dropout_key=key, neftune_alpha=5.0))
    assert not jnp.array_equal(noisy, model.hidden(ids, dropout_key=jax.random.key(2), neftune_alpha=5.0))
