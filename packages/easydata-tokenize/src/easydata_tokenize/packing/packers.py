"""Packers that are fed one document at a time, for loops of one's own; sources are packed by `PackTransform`.

Each document gets one end-of-text token unless it has one. A packed row is always `seq_length` long, with segments
numbered from 1 and 0 where it is padded, and positions that restart in every segment. No token is lost: rows that are
ready wait in the packer until they are taken.

>>> packer = GreedyPacker(4, eos_token_id=0, pad_token_id=9)
>>> packer.add([1, 2, 3, 4, 5])["input_ids"].tolist()
[1, 2, 3, 4]
>>> [row["input_ids"].tolist() for row in packer.flush_all()]
[[5, 0, 9, 9]]
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from easydata_tokenize.packing.plan import plan_packs
from easydata_tokenize.token_ids import IGNORE_INDEX, as_int32

__all__ = ["FirstFitPacker", "GreedyPacker", "PackedSequence", "PoolPacker"]

logger = logging.getLogger(__name__)

Column: TypeAlias = NDArray[Any]
_PADDING: Mapping[str, int] = {"labels": IGNORE_INDEX}


@dataclass(frozen=True, slots=True)
class PackedSequence:
    """One packed row.

    Attributes:
        input_ids: int32 `[seq_length]`.
        attention_mask: int32 `[seq_length]`: 1 for tokens, 0 for padding.
        segment_ids: int32 `[seq_length]`: 1, 2, … for the documents in it, 0 for padding; None if left out.
        position_ids: int32 `[seq_length]`: from 0 in every segment.
        source_ids: where each segment came from, as `add` was told.
        num_segments: documents, or parts of some, in it.
        columns: what else `add` was given for each token, padded.
    """

    input_ids: Column
    attention_mask: Column
    segment_ids: Column | None
    position_ids: Column
    source_ids: tuple[Any, ...]
    num_segments: int
    columns: Mapping[str, Column] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Column]:
        """Returns the columns of the row as trainers read them."""
        named = {"input_ids": self.input_ids, "attention_mask": self.attention_mask, "position_ids": self.position_ids}
        segments = {} if self.segment_ids is None else {"segment_ids": self.segment_ids}
        return {**named, **segments, **self.columns}

    def __getitem__(self, name: str) -> Column:
        return self.to_dict()[name]


@dataclass(frozen=True, slots=True)
class _Document:
    """A document, or a part of one."""

    columns: Mapping[str, Column]
    source: Any

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def part(self, start: int, stop: int) -> _Document:
        return _Document({name: values[start:stop] for name, values in self.columns.items()}, self.source)

    def pieces(self, size: int) -> list[_Document]:
        return [self.part(start, start + size) for start in range(0, len(self), size)]


class _Form:
    """How the rows of a packer look."""

    def __init__(self, seq_length: int, eos_token_id: int, pad_token_id: int, include_segment_ids: bool) -> None:
        if seq_length < 1:
            raise ValueError(f"`seq_length` must be at least 1; found {seq_length}.")
        self.length, self._eos, self._pad, self._segments = seq_length, eos_token_id, pad_token_id, include_segment_ids

    def document(self, tokens: ArrayLike, source: Any, columns: Mapping[str, ArrayLike]) -> _Document:
        """Returns a document that ends in the end-of-text token; what it adds continues the last value of a column."""
        ids = np.asarray(tokens)
        ids = as_int32(ids if ids.size else ids.astype(np.int32), "input_ids", least=0)
        arrays = {"input_ids": ids, **{name: np.asarray(col) for name, col in columns.items()}}
        sizes = {name: values.shape for name, values in arrays.items()}
        if len(set(sizes.values())) > 1 or arrays["input_ids"].ndim != 1:
            raise ValueError(f"Columns to pack have one value for each token; found the shapes {sizes}.")
        if not len(arrays["input_ids"]) or arrays["input_ids"][-1] == self._eos:
            return _Document(arrays, source)
        ends = {name: values[-1] for name, values in arrays.items()} | {"input_ids": self._eos}
        if "labels" in ends and ends["labels"] != _PADDING["labels"]:
            ends["labels"] = self._eos
        return _Document(
            {name: np.append(values, ends[name]).astype(values.dtype) for name, values in arrays.items()}, source
        )

    def row(self, documents: Sequence[_Document]) -> PackedSequence:
        """Returns a row of documents that fit."""
        lengths = np.array([len(document) for document in documents])
        used, empty = int(lengths.sum()), self.length - int(lengths.sum())
        names = documents[0].columns.keys()
        if any(document.columns.keys() != names for document in documents):
            raise ValueError(f"All documents must have the columns of the first: {', '.join(names)}.")
        values = {name: np.concatenate([document.columns[name] for document in documents]) for name in names}
        padding = {"input_ids": self._pad, **_PADDING}
        padded = {
            name: np.concatenate([column, np.full(empty, padding.get(name, 0), column.dtype)])
            for name, column in values.items()
        }
        segments = np.repeat(np.arange(1, len(lengths) + 1, dtype=np.int32), lengths)
        positions = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
        zeros = np.zeros(empty, np.int32)
        return PackedSequence(
            input_ids=padded.pop("input_ids"),
            attention_mask=np.concatenate([np.ones(used, np.int32), zeros]),
            segment_ids=np.concatenate([segments, zeros]) if self._segments else None,
            position_ids=np.concatenate([positions, zeros]),
            source_ids=tuple(document.source for document in documents),
            num_segments=len(documents),
            columns=padded,
        )


@final
class GreedyPacker:
    """Documents end to end, cut wherever a row is full; only the last row is padded.

    Args:
        seq_length: Tokens of a row.
        eos_token_id: Ends every document.
        pad_token_id: Fills the last row.
        include_segment_ids: Whether rows tell their segments apart.
    """

    def __init__(
        self, seq_length: int, eos_token_id: int, pad_token_id: int = 0, include_segment_ids: bool = True
    ) -> None:
        self._form = _Form(seq_length, eos_token_id, pad_token_id, include_segment_ids)
        self._open: list[_Document] = []
        self._flushed = False
        self._ready: deque[PackedSequence] = deque()

    def add(self, tokens: ArrayLike, source_id: Any = None, **columns: ArrayLike) -> PackedSequence | None:
        """Takes a document; returns a row that is ready, if any (more may wait: `flush_all` gives them).

        Args:
            tokens: Its tokens.
            source_id: Where it comes from.
            columns: One value for each token, such as `labels`.

        Raises:
            ValueError: If a column is of another length.
        """
        document = self._form.document(tokens, source_id, columns)
        while len(document):
            room = self._form.length - sum(map(len, self._open))
            self._open.append(document.part(0, room))
            document = document.part(room, len(document))
            if sum(map(len, self._open)) == self._form.length:
                self._ready.append(self._form.row(self._open))
                self._open = []
        return self._ready.popleft() if self._ready else None

    def flush_all(self) -> list[PackedSequence]:
        """Returns the rows that are left, the last one padded."""
        if self._open:
            self._ready.append(self._form.row(self._open))
            self._open = []
        rows = list(self._ready)
        self._ready.clear()
        return rows

    def flush_final(self) -> PackedSequence | None:
        """Returns the next row that is left, the last one padded; None when there is none.

        Of documents longer than a row several may be left: call it until it returns None, or take `flush_all()`. A
        packer that is dropped in between says how many rows are lost with it.
        """
        rows = self.flush_all()
        self._ready.extend(rows[1:])
        self._flushed = True
        return rows[0] if rows else None

    def __del__(self) -> None:
        # A loop may well be left before the packer's end; who has asked for the last row believes to have them all.
        if getattr(self, "_flushed", False) and self._ready:
            logger.warning(
                "%d packed rows were left when flush_final() was called for the last time, and are lost. Call it until "
                "it returns None, or take flush_all().",
                len(self._ready),
            )


@final
class PoolPacker:
    """Several open rows: a document goes whole into the fullest that holds it; where none does, the fullest is done.

    Only documents longer than a row are cut.

    Args:
        seq_length: Tokens of a row.
        eos_token_id: Ends every document.
        pad_token_id: Fills rows.
        num_packers: Open rows.
        include_segment_ids: Whether rows tell their segments apart.
    """

    def __init__(
        self,
        seq_length: int,
        eos_token_id: int,
        pad_token_id: int = 0,
        num_packers: int = 4,
        include_segment_ids: bool = True,
    ) -> None:
        if num_packers < 1:
            raise ValueError(f"`num_packers` must be at least 1; found {num_packers}.")
        self._form = _Form(seq_length, eos_token_id, pad_token_id, include_segment_ids)
        self._most, self._open = num_packers, list[list[_Document]]()

    def add(self, tokens: ArrayLike, source_id: Any = None, **columns: ArrayLike) -> list[PackedSequence]:
        """Takes a document, as `GreedyPacker.add`; returns the rows that are done."""
        document = self._form.document(tokens, source_id, columns)
        return [row for piece in document.pieces(self._form.length) for row in self._place(piece)]

    def flush_all(self) -> list[PackedSequence]:
        """Returns the rows that are left, padded."""
        rows = [self._form.row(documents) for documents in self._open]
        self._open = []
        return rows

    def _place(self, piece: _Document) -> Iterator[PackedSequence]:
        fitting = [row for row in self._open if _used(row) + len(piece) <= self._form.length]
        if fitting:
            chosen = max(fitting, key=_used)
        else:
            if len(self._open) == self._most:
                yield self._done(max(self._open, key=_used))
            chosen = list[_Document]()
            self._open.append(chosen)
        chosen.append(piece)
        if _used(chosen) == self._form.length:
            yield self._done(chosen)

    def _done(self, documents: list[_Document]) -> PackedSequence:
        self._open = [row for row in self._open if row is not documents]
        return self._form.row(documents)


@final
class FirstFitPacker:
    """Collects documents, then packs them together, longest first; cuts only those longer than a row.

    Args:
        seq_length: Tokens of a row.
        eos_token_id: Ends every document.
        pad_token_id: Fills rows.
        include_segment_ids: Whether rows tell their segments apart.
        buffer_size: Documents that are packed together.
    """

    def __init__(
        self,
        seq_length: int,
        eos_token_id: int,
        pad_token_id: int = 0,
        include_segment_ids: bool = True,
        buffer_size: int = 1000,
    ) -> None:
        if buffer_size < 1:
            raise ValueError(f"`buffer_size` must be at least 1; found {buffer_size}.")
        self._form = _Form(seq_length, eos_token_id, pad_token_id, include_segment_ids)
        self._most, self._held = buffer_size, list[_Document]()

    def add(self, tokens: ArrayLike, source_id: Any = None, **columns: ArrayLike) -> list[PackedSequence]:
        """Takes a document, as `GreedyPacker.add`; returns the rows of a buffer that is full."""
        document = self._form.document(tokens, source_id, columns)
        self._held += document.pieces(self._form.length)
        return self.flush_all() if len(self._held) >= self._most else []

    def flush_all(self) -> list[PackedSequence]:
        """Returns the rows of all documents held."""
        held, self._held = self._held, []
        lengths = np.array([len(document) for document in held], np.int64)
        longest_first = np.argsort(-lengths, kind="stable")
        plan = plan_packs(lengths[longest_first], self._form.length, "first_fit")
        order = longest_first[plan.order]
        return [
            self._form.row([held[index] for index in order[start:stop]])
            for start, stop in zip(plan.starts[:-1], plan.starts[1:], strict=True)
        ]


def _used(documents: Sequence[_Document]) -> int:
    return sum(map(len, documents))
