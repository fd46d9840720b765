"""From characters to tokens: which tokens lie in a span, and where the completion's tokens begin.

A mask is exact when the tokens it selects cover the spans and nothing else. A token that reaches over the edge of a
span (a template's newline glued to the first newline of an answer) has no right mask; the caller then tokenizes the
text in pieces cut at the edges, which is also what a model sees that generates after a tokenized prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["common_prefix", "cut_at_spans", "mask_spans", "moved_over_space"]

Offsets = NDArray[np.int32]
"""Character `[start, end)` of every token, shape [tokens, 2]."""


def mask_spans(
    offsets: Offsets, spans: Sequence[tuple[int, int]], *, swallowed: bool = False
) -> NDArray[np.bool_] | None:
    """Returns which tokens lie in the spans, or None if no selection of tokens covers exactly the spans.

    >>> offsets = np.array([[0, 4], [4, 5], [5, 8], [8, 9]], np.int32)
    >>> mask_spans(offsets, [(5, 9)]).tolist()
    [False, False, True, True]
    >>> mask_spans(offsets, [(6, 9)]) is None
    True

    Args:
        offsets: Shape [tokens, 2], in order.
        spans: Character spans, in order, not overlapping.
        swallowed: Whether letters between two tokens belong to neither: some special tokens swallow the white space
            beside them. Otherwise they belong to the later one.
    """
    starts, ends = _without_gaps(offsets)
    if swallowed:
        spans = _without_swallowed(offsets, spans)
        starts = offsets[:, 0]
    mask = np.zeros(len(starts), np.bool_)
    for start, end in spans:
        touching = (starts < end) & (ends > start)
        inside = touching & (starts >= start) & (ends <= end)
        if end > start and (not inside.any() or (touching != inside).any()):
            return None
        if end > start and (starts[inside].min() != start or ends[inside].max() != end):
            return None
        mask |= inside
    return mask


def moved_over_space(text: str, offsets: Offsets, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns the spans with edges moved over white space to where a token begins or ends.

    SentencePiece has the space before a word in the word's own token; such a token is the word's.

    >>> moved_over_space("A: Yes", np.array([[0, 2], [2, 6]], np.int32), [(3, 6)])
    [(2, 6)]
    """
    moved = []
    for start, end in spans:
        for first, last in offsets.tolist():
            if first < start < last and text[first:start].isspace():
                start = first  # noqa: PLW2901 - the edge moves
            if first < end < last and text[first:end].isspace():
                end = first  # noqa: PLW2901
        moved.append((start, end))
    return moved


def cut_at_spans(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[str, bool]]:
    """Returns the text in pieces, cut at the edges of the spans, each with whether it lies in a span.

    >>> cut_at_spans("ask: yes. bye", [(5, 9)])
    [('ask: ', False), ('yes.', True), (' bye', False)]
    """
    pieces, position = [], 0
    for start, end in spans:
        pieces += [(text[position:start], False), (text[start:end], True)]
        position = end
    pieces.append((text[position:], False))
    return [(piece, inside) for piece, inside in pieces if piece]


def common_prefix(left: str | Sequence[int] | NDArray[Any], right: str | Sequence[int] | NDArray[Any]) -> int:
    """Returns how many elements at the start of two sequences (tokens, letters) are the same.

    On the tokens of a prompt and of the whole row this is where the completion starts. The prompt's own length would
    be wrong wherever the prompt's last token merges with the completion's first letters: it would leave out a token
    of the completion, or train one of the prompt.

    >>> common_prefix([5, 6, 7], [5, 6, 9, 4])
    2
    """
    shorter = min(len(left), len(right))
    if isinstance(left, str) or isinstance(right, str):
        return next((index for index in range(shorter) if left[index] != right[index]), shorter)
    differing = np.flatnonzero(np.asarray(left[:shorter]) != np.asarray(right[:shorter]))
    return int(differing[0]) if len(differing) else shorter


def _without_swallowed(offsets: Offsets, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns the spans without letters at their edges that no token covers."""
    real = offsets[offsets[:, 1] > offsets[:, 0]]
    moved = []
    for start, end in spans:
        later, earlier = real[real[:, 1] > start], real[real[:, 0] < end]
        first = max(start, int(later[0, 0])) if len(later) else start
        last = min(end, int(earlier[-1, 1])) if len(earlier) else end
        moved.append((first, last))
    return moved


def _without_gaps(offsets: Offsets) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    # Byte-level tokenizers may report a token without the space it begins with; the space is the token's all the same.
    starts, ends = offsets[:, 0], offsets[:, 1]
    before = np.concatenate([np.zeros(1, ends.dtype), np.maximum.accumulate(ends)])[: len(ends)]
    return np.minimum(starts, before), ends
