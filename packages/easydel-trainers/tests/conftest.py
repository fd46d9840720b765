"""Shared by all tests of the trainers: a tiny model and strict numerics."""

from __future__ import annotations

import jax
import pytest
from easydel_models import AutoEasyDeLModelForCausalLM, CausalLM, DecoderConfig

jax.config.update("jax_numpy_rank_promotion", "raise")


def tiny_config() -> DecoderConfig:
    return DecoderConfig(
        vocab_size=97,
        dim=16,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        mlp_dim=32,
        tie_embeddings=True,
        initializer_range=0.1,
        eos_token_ids=(2,),
        pad_token_id=2,
    )


@pytest.fixture
def tiny_model() -> CausalLM:
    return AutoEasyDeLModelForCausalLM.from_config(tiny_config(), seed=7)
