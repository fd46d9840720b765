"""Tokenizing in distinct pieces gives what tokenizing whole texts gives."""

import numpy as np
import pytest
from easydata_tokenize import load_tokenizer
from easydata_tokenize.batch_tokenizer import BatchTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, pre_tokenizers

PARTS = st.one_of(
    st.sampled_from(["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "\n", " ", "12", "user\n", "👩‍🚀", "<"]),
    st.text(max_size=6),
)
TEXTS = st.lists(st.lists(PARTS, max_size=8).map("".join), max_size=4)


@settings(max_examples=80, deadline=None)
@given(TEXTS)
def test_pieces_give_the_ids_and_offsets_of_the_whole(tokenizer_with, texts):
    batch, backend = BatchTokenizer(tokenizer_with("chatml")), tokenizer_with("chatml").backend_tokenizer
    for found, whole in zip(batch.encode(texts, offsets=True), backend.encode_batch(texts), strict=True):
        assert found.ids.tolist() == whole.ids
        assert found.offsets.tolist() == [list(offset) for offset in whole.offsets]
    assert [tokens.ids.tolist() for tokens in batch.encode(texts)] == [
        whole.ids for whole in backend.encode_batch(texts)
    ]


@pytest.fixture(params=["first word only", "swallowing token", "special tokens as text"])
def odd_tokenizer(request, golden):
    """A tokenizer whose texts must not be taken apart."""
    tokenizer = load_tokenizer(golden / "tokenizer")
    if request.param == "first word only":
        metaspace = pre_tokenizers.Metaspace(replacement="Ġ", prepend_scheme="first")
        tokenizer.backend_tokenizer.pre_tokenizer = metaspace
    elif request.param == "swallowing token":
        tokenizer.backend_tokenizer.add_special_tokens([AddedToken("<|eat|>", rstrip=True, normalized=False)])
    else:
        tokenizer.backend_tokenizer.encode_special_tokens = True
    return tokenizer


def test_odd_tokenizers_get_whole_texts(odd_tokenizer):
    texts = ["<|im_start|>user\nHi<|im_end|>\n<|im_start|>a", "x<|eat|>  y <|im_end|> z", "a b"]
    found = [tokens.ids.tolist() for tokens in BatchTokenizer(odd_tokenizer).encode(texts)]
    assert found == [whole.ids for whole in odd_tokenizer.backend_tokenizer.encode_batch(texts)]


def test_white_space_that_a_token_swallows_is_not_its_own(golden):
    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken("<|eat|>", rstrip=True, normalized=False)])
    batch = BatchTokenizer(tokenizer)
    (tokens,) = batch.encode(["x<|eat|>  y"], offsets=True)
    np.testing.assert_array_equal(tokens.offsets, [[0, 1], [1, 8], [10, 11]])
    assert not batch.decodes_exactly
