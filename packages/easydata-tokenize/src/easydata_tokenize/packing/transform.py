"""Packing: several rows end to end in one, so that almost no position of a batch is empty.

A packed row holds every token-aligned column of its rows, `segment_ids` (1, 2, … for the rows in it) and `position_ids`
(which start again at 0 in every row), so that a model that honours segments computes exactly what it would for the
rows alone. No token is lost or doubled; rows longer than a pack are handled by an explicit policy, and counted.

Rows are packed in windows of a fixed number of source rows: the packs are a function of the source's order, never of
the number of hosts, and a position is that of a window and how many of its packs were given.

>>> rows = [{"input_ids": [1, 2, 3]}, {"input_ids": [4, 5, 6, 7]}, {"input_ids": [8]}]
>>> [row["input_ids"].tolist() for row in PackTransform(4).pack(rows)]
[[4, 5, 6, 7], [1, 2, 3, 8]]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Literal, TypeAlias, final, get_args

import numpy as np
from easydata_sources.errors import DataFormatError, RowError
from easydata_sources.report import DataReport
from easydata_sources.transforms.transform import CountingTransform
from numpy.typing import ArrayLike, NDArray

from easydata_tokenize.packing.plan import PackingStrategy, plan_packs

__all__ = ["OverLong", "PackTransform", "pack_columns"]

OverLong: TypeAlias = Literal["truncate", "split", "drop", "error"]
"""What happens to a row with more tokens than a pack holds."""

Row: TypeAlias = Mapping[str, Any]
Column: TypeAlias = NDArray[Any]
Counts: TypeAlias = NDArray[np.int64]

_NAMES: Mapping[str, tuple[PackingStrategy, OverLong]] = {
    "bfd": ("best_fit", "truncate"),
    "bfd_split": ("best_fit", "split"),
    "bfd-split": ("best_fit", "split"),
    "pool": ("best_fit", "truncate"),
}


@final
class PackTransform(CountingTransform):
    """Packs the rows of a window into as few rows as possible.

    Args:
        seq_length: Most tokens of a packed row.
        strategy: See `PackingStrategy`; also TRL's names `bfd` and `bfd_split`.
        over_long: What happens to rows of more than `seq_length` tokens; None = as `strategy` is known for
            (`truncate`; `split` for `wrapped` and `bfd_split`).
        window: Source rows that are packed together. More fill better; they are held in memory, and read again on
            resuming.
        input_field: Column whose length counts. Every column of the same length in each row is packed with it; others
            are left out, since a packed row has no single value for them.
        report: Counter to use; None = a new one. Counted are `truncated`, `split` and `dropped_too_long` rows.

    Raises:
        ValueError: If an argument is out of range, or `wrapped` is given another policy than `split`.
    """

    def __init__(
        self,
        seq_length: int,
        strategy: str = "best_fit",
        *,
        over_long: OverLong | None = None,
        window: int = 1024,
        input_field: str = "input_ids",
        report: DataReport | None = None,
    ) -> None:
        self.seq_length, self.window, self.input_field = _at_least_1("seq_length", seq_length), window, input_field
        _at_least_1("window", window)
        known, policy = _NAMES.get(strategy, (strategy, "split" if strategy == "wrapped" else "truncate"))
        if known not in get_args(PackingStrategy):
            choices = ", ".join(map(repr, (*get_args(PackingStrategy), *_NAMES)))
            raise ValueError(f"`strategy` must be one of {choices}; found {strategy!r}.")
        self.strategy: PackingStrategy = known  # type: ignore[assignment]
        self.over_long: OverLong = over_long or policy
        if self.over_long not in get_args(OverLong):
            raise ValueError(f"`over_long` must be one of {', '.join(get_args(OverLong))}; found {over_long!r}.")
        if self.strategy == "wrapped" and self.over_long != "split":
            raise ValueError("`wrapped` packing cuts wherever a pack is full, so over_long can only be 'split'.")
        self.report = report if report is not None else DataReport()

    @property
    def batch_rows(self) -> int:
        """Source rows that are packed together."""
        return self.window

    @property
    def mixes_rows(self) -> bool:
        return True

    def transform_batch(self, rows: Sequence[Row]) -> list[list[dict[str, Any]]]:
        """Returns the packs in the place of the first row.

        Raises:
            RowError: If a row has no tokens column, or one that is too long where that is an error.
        """
        packs = self.pack(rows)
        self.report.check()
        return [packs, *([] for _ in rows[1:])] if rows else []

    def pack(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Packs these rows together: a dict of arrays for every pack, in the order of the packs' making."""
        self.report.saw(len(rows))
        rows = [row for index, row in enumerate(rows) if self._keeps(index, row)]
        if not rows:
            return []
        lengths = np.array([len(row[self.input_field]) for row in rows], np.int64)
        columns = {name: np.concatenate([np.asarray(row[name]) for row in rows]) for name in self._aligned(rows)}
        packed, starts = pack_columns(
            columns, lengths, self.seq_length, strategy=self.strategy, split=self.over_long == "split"
        )
        return [
            {name: values[start:stop] for name, values in packed.items()}
            for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        ]

    def count_packs(self, lengths: ArrayLike) -> int:
        """Returns how many packs rows of these lengths make; no row is needed.

        Args:
            lengths: tokens of the rows of one window.
        """
        kept = np.asarray(lengths, np.int64)
        kept = kept[kept > 0]
        if self.strategy == "wrapped":
            return -(-int(kept.sum()) // self.seq_length)
        if self.over_long == "drop":
            kept = kept[kept <= self.seq_length]
        if self.over_long == "split":
            _, kept = _pieces(np.zeros_like(kept), kept, self.seq_length)
        kept = np.minimum(kept, self.seq_length)
        return len(plan_packs(kept, self.seq_length, self.strategy).starts) - 1

    def counting_in(self, report: DataReport) -> PackTransform:
        """Returns the same transform with another counter."""
        same = copy(self)
        same.report = report
        return same

    def _keeps(self, index: int, row: Row) -> bool:
        tokens = row.get(self.input_field)
        if tokens is None:
            raise RowError(
                "Row has no tokens to pack.",
                row_in_batch=index,
                column=self.input_field,
                found=f"columns {', '.join(row)}",
                expected=f"a list of token ids in {self.input_field!r}",
                mend="tokenize first: source.transform(SFTPreprocessTransform(tokenizer)).transform(PackTransform(…))",
            )
        if len(tokens) <= self.seq_length:
            return len(tokens) > 0
        if self.over_long == "error":
            raise RowError(
                "Row is longer than a pack.",
                row_in_batch=index,
                column=self.input_field,
                found=f"{len(tokens)} tokens",
                expected=f"at most {self.seq_length}",
                mend="cut rows before packing (max_length), or over_long='truncate' | 'split' | 'drop'",
            )
        self.report.count({"truncate": "truncated", "split": "split", "drop": "dropped_too_long"}[self.over_long])
        return self.over_long != "drop"

    def _aligned(self, rows: Sequence[Row]) -> list[str]:
        """Returns columns that have one value for each token in every row."""
        names = [name for name in rows[0] if all(row.get(name) is not None for row in rows)]
        aligned = [name for name in names if all(_length(row[name]) == len(row[self.input_field]) for row in rows)]
        for name in ("labels", "completion_mask", "assistant_masks"):
            if name not in aligned and any(row.get(name) is not None for row in rows):
                raise DataFormatError(
                    "Rows to pack together do not all have the same masks.",
                    column=name,
                    found="rows with and without it, or of another length than the tokens",
                    expected="one value for each token in every row",
                    mend="give every row the column, or leave it out: .drop_fields([…])",
                )
        return aligned


def pack_columns(
    columns: Mapping[str, Column],
    lengths: Counts,
    seq_length: int,
    *,
    strategy: PackingStrategy = "best_fit",
    split: bool = False,
) -> tuple[dict[str, Column], Counts]:
    """Packs rows that are held in columns: no Python work for each token, and little for each row.

    Args:
        columns: values of all rows end to end, one value for each token: as Arrow list columns hold them.
        lengths: tokens of each row, at least 1: int64 `[rows]`.
        seq_length: most tokens of a pack.
        strategy: how packs are chosen.
        split: whether rows of more than `seq_length` tokens go on in another pack; otherwise they are cut.

    Returns:
        The columns with `segment_ids` and `position_ids` (int32), all packs end to end; and where each pack begins,
        with its end behind: int64 `[packs + 1]`.
    """
    lengths = np.asarray(lengths, np.int64)
    begins = np.cumsum(lengths) - lengths
    if strategy == "wrapped":
        begins, lengths, starts = _wrapped(lengths, seq_length)
    else:
        begins, lengths = _pieces(begins, lengths, seq_length) if split else (begins, np.minimum(lengths, seq_length))
        plan = plan_packs(lengths, seq_length, strategy)
        begins, lengths, starts = begins[plan.order], lengths[plan.order], plan.starts
    stops = begins + lengths
    # Copying stretches is several times faster than looking up every token's position.
    pieces = list(zip(begins.tolist(), stops.tolist(), strict=True))
    packed = {name: _joined([values[begin:stop] for begin, stop in pieces], values) for name, values in columns.items()}
    ends = np.cumsum(lengths)
    number = np.arange(1, len(lengths) + 1) - np.repeat(starts[:-1], np.diff(starts))
    packed["segment_ids"] = np.repeat(number.astype(np.int32), lengths)
    # Each stretch is a copy of the same few numbers, which stay in the cache: one pass over memory, not four.
    ramp = np.arange(lengths.max(initial=0), dtype=np.int32)
    packed["position_ids"] = _joined([ramp[:length] for length in lengths.tolist()], ramp)
    return packed, np.concatenate([[0], ends])[starts]


def _joined(pieces: list[Column], like: Column) -> Column:
    return np.concatenate(pieces) if pieces else like[:0]


def _pieces(begins: Counts, lengths: Counts, seq_length: int) -> tuple[Counts, Counts]:
    """Returns rows as pieces of at most `seq_length` tokens, in order."""
    counts = -(-lengths // seq_length)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(begins, counts) + within * seq_length
    return starts, np.minimum(np.repeat(begins + lengths, counts) - starts, seq_length)


def _wrapped(lengths: Counts, seq_length: int) -> tuple[Counts, Counts, Counts]:
    """Returns pieces of rows laid end to end, cut at every multiple of `seq_length`, and where packs begin among
    them.
    """
    total = int(lengths.sum())
    cuts = np.union1d(np.cumsum(lengths) - lengths, np.arange(0, total, seq_length))
    sizes = np.diff(np.append(cuts, total))
    starts = np.searchsorted(cuts, np.append(np.arange(0, total, seq_length), total))
    return cuts, sizes, starts.astype(np.int64)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list | tuple | np.ndarray) else -1


def _at_least_1(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1; found {value}.")
    return value
