"""Characters to tokens."""

import numpy as np
import pytest
from easydata_tokenize import common_prefix, cut_at_spans, kept_tokens, mask_spans
from hypothesis import given, settings
from hypothesis import strategies as st

#            "ab" "cd" " e" "f"; byte-level tokenizers report " e" without its space
OFFSETS = np.array([[0, 2], [2, 4], [5, 6], [6, 7]], np.int32)


@pytest.mark.parametrize(
    ("spans", "mask"),
    [
        ([], [0, 0, 0, 0]),
        ([(2, 4)], [0, 1, 0, 0]),
        ([(0, 2), (6, 7)], [1, 0, 0, 1]),
        ([(4, 7)], [0, 0, 1, 1]),  # the space at 4 belongs to the token that begins with it
        ([(5, 7)], None),  # so a span that begins behind the space cuts the token
        ([(1, 4)], None),
        ([(2, 3)], None),
        ([(3, 3)], [0, 0, 0, 0]),
    ],
)
def test_mask_selects_exactly_the_span_or_nothing(spans, mask):
    found = mask_spans(OFFSETS, spans)
    assert (None if found is None else found.astype(int).tolist()) == mask


def test_tokens_that_share_one_character_go_together():
    # An emoji as three byte tokens, all with the offsets of the one character.
    offsets = np.array([[0, 1], [1, 2], [1, 2], [1, 2], [2, 3]], np.int32)
    assert mask_spans(offsets, [(1, 2)]).tolist() == [False, True, True, True, False]


def test_a_span_whose_letters_got_no_token_has_no_exact_mask():
    assert mask_spans(np.array([[0, 2], [3, 4]], np.int32), [(4, 5)]) is None
    assert mask_spans(np.zeros((0, 2), np.int32), [(0, 1)]) is None


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20), st.lists(st.integers(0, 20), max_size=6))
def test_pieces_put_together_are_the_text(text, edges):
    edges = sorted(min(edge, len(text)) for edge in edges)
    spans = [(edges[i], edges[i + 1]) for i in range(0, len(edges) - 1, 2)]
    pieces = cut_at_spans(text, spans)
    assert "".join(piece for piece, _ in pieces) == text
    assert "".join(piece for piece, inside in pieces if inside) == "".join(text[a:b] for a, b in spans)


@pytest.mark.parametrize(
    ("left", "right", "length"),
    [([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 2], 2), ([1, 9], [1, 2, 3], 1), ([], [1], 0), ("abc", "abd", 2)],
)
def test_common_prefix(left, right, length):
    assert common_prefix(left, right) == length


def test_truncation_keeps_one_end():
    ids = list(range(10))
    assert ids[kept_tokens(10, 4)] == [0, 1, 2, 3]
    assert ids[kept_tokens(10, 4, "keep_end")] == [6, 7, 8, 9]
    assert ids[kept_tokens(10, 10)] == ids[kept_tokens(10, None)] == ids
