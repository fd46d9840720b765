"""Bins of sequences laid end to end, in which those that begin with the same prompt may share one copy of it.

    apart:   prompt answer-1 | prompt answer-2 | prompt answer-3
    shared:  promp | t answer-1 | t answer-2 | t answer-3

A prompt's last token stays with every answer, since it is what predicts the answer's first one. So each position
predicts one token in both bins, and sees the same tokens.

Sharing saves copies of the prompt and costs reach: before a query finds its prompt it passes by the answers in between,
to see nothing of them. So a prompt is written anew where the copy before it is too far away to pay.

>>> shared = Bin()
>>> for number in (1, 2):
...     shared.add(number, {"input_ids": [5, 6, 7, 8]}, prompt=3)
>>> shared.positions, [(family.prompt, len(family.members)) for family in shared.families]
(5, [(3, 2)])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_KEYS_PER_TOKEN = 2000
"""Keys a query can pass by in the time of one more token: kernels take some 12 dim² products a token and layer,
attention 2 dim a key, so 6 dim, less what small products lose. A lower bound for models of dim 576 and up."""

Tokens = Mapping[str, Any]
"""One sequence: arrays of equal length by name, `input_ids` among them."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Sequences that stay together.

    Attributes:
        sequences: of one row, or one of them.
        prompt: how many of each one's first tokens may be shared.
    """

    sequences: Sequence[Tokens]
    prompt: int

    @property
    def tokens(self) -> int:
        """Tokens of all its sequences."""
        return sum(len(sequence["input_ids"]) for sequence in self.sequences)


@dataclass(slots=True)
class Family:
    """Sequences behind one copy of their prompt.

    Attributes:
        prompt: tokens of the copy; the first so many of every member.
        members: number and arrays of each.
    """

    prompt: int
    members: list[tuple[int, Tokens]]


@dataclass(slots=True)
class Bin:
    """What lies in a bin, and what more would take.

    Attributes:
        positions: that hold a token.
        families: in the order in which they were begun.
    """

    positions: int = 0
    families: list[Family] = field(default_factory=list)
    _newest: dict[bytes, Family] = field(default_factory=dict)
    _between: dict[bytes, int] = field(default_factory=dict)

    def cost(self, piece: Piece) -> int:
        """Returns positions that a piece would take."""
        between = dict(self._between)
        return sum(_added(between, one, piece.prompt) for one in piece.sequences)

    def add(self, number: int, sequence: Tokens, *, prompt: int = 0) -> None:
        """Lays a sequence into the bin.

        Args:
            number: by which its tokens will be known.
            sequence: its arrays.
            prompt: how many of its first tokens may be shared.
        """
        key, added = _key(sequence, prompt), _added(self._between, sequence, prompt)
        self.positions += added
        if added < len(sequence["input_ids"]):
            self._newest[key].members.append((number, sequence))
            return
        self._newest[key] = Family(prompt, [(number, sequence)])
        self.families.append(self._newest[key])

    def take(self, piece: Piece) -> None:
        """Lays a piece into the bin whose numbers nobody asks for."""
        for sequence in piece.sequences:
            self.add(0, sequence, prompt=piece.prompt)


def spread(pieces: Sequence[Piece], *, count: int, most: int | None = None) -> list[list[int]]:
    """Spreads pieces evenly: longest first, each to the bin that is shortest with it.

    No bin counts as long before it has its even share, so that pieces find copies of their prompts.

    Args:
        pieces: to be spread.
        count: number of bins.
        most: pieces of one bin; `None` = any number.

    Returns:
        Indices of the pieces of every bin.
    """
    if count == 1:
        return [list(range(len(pieces)))]
    together = Bin()
    for piece in pieces:
        together.take(piece)
    even, bins, chosen = together.positions // count, [Bin() for _ in range(count)], [[] for _ in range(count)]

    def lengths_with_it(number: int) -> tuple[int, int, int]:
        cost, held = bins[number].cost(piece), bins[number].positions
        return max(held + cost, even), cost, held

    for index in sorted(range(len(pieces)), key=lambda index: -pieces[index].tokens):
        piece = pieces[index]
        with_room = [number for number in range(count) if most is None or len(chosen[number]) < most]
        best = min(with_room, key=lengths_with_it)
        bins[best].take(piece)
        chosen[best].append(index)
    return chosen


def _key(sequence: Tokens, prompt: int) -> bytes:
    return np.asarray(sequence["input_ids"][:prompt], np.int32).tobytes()


def _added(between: dict[bytes, int], sequence: Tokens, prompt: int) -> int:
    """Returns positions that a sequence takes; `between` has the answers' tokens behind the newest copy of each
    prompt.
    """
    key, length = _key(sequence, prompt), len(sequence["input_ids"])
    own, passed = length - prompt, between.get(key)
    shares = prompt > 0 and passed is not None and prompt * _KEYS_PER_TOKEN > own * passed
    between[key] = own + (passed if shares and passed is not None else 0)
    return own if shares else length
