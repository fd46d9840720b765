"""A model that knows nothing and learns something within seconds, to try a script with."""

from __future__ import annotations

from typing import Any


def tiny_model(tokenizer: Any, *, scores: bool = False, seed: int = 0) -> Any:
    """Returns a new model of two layers, 64 wide, with random parameters.

    Args:
        tokenizer: whose tokens it knows.
        scores: whether it gives one score to a text, as a reward model does, instead of writing on.
        seed: of its parameters.

    Returns:
        a `CausalLM`, or a `SequenceClassifier` of one label.
    """
    from easydel_models import (
        AutoEasyDeLModelForCausalLM,
        AutoEasyDeLModelForSequenceClassification,
        DecoderConfig,
    )

    config = DecoderConfig(
        vocab_size=len(tokenizer),
        dim=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        mlp_dim=128,
        tie_embeddings=True,
        eos_token_ids=(tokenizer.eos_token_id,),
        pad_token_id=tokenizer.pad_token_id,
    )
    kind = AutoEasyDeLModelForSequenceClassification if scores else AutoEasyDeLModelForCausalLM
    return kind.from_config(config, seed=seed)
