"""A language of a few dozen words, and a model too small to know anything of it."""

from __future__ import annotations

import pytest
from easydel_models import DecoderConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = [f"w{number}" for number in range(48)]
MARKS = [".", ",", "!", "?"]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words and punctuation marks; `<s>` 1, `</s>` 2, `<pad>` 3."""
    vocabulary = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", "<pad>", *MARKS, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


@pytest.fixture(scope="session")
def tiny_config(tokenizer) -> DecoderConfig:
    """Two layers, 32 wide: about 20,000 parameters."""
    return DecoderConfig(
        vocab_size=len(tokenizer),
        dim=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        mlp_dim=64,
        tie_embeddings=True,
        initializer_range=0.1,
        eos_token_ids=(tokenizer.eos_token_id,),
        pad_token_id=tokenizer.pad_token_id,
    )
