"""Steps of a plan: rows that follow each other, and the position after any number of them, all of it plain values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import final

from easydata_mix.plan.block_order import block_order, concatenate, counts_of
from easydata_mix.plan.types import Live, Order


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class BlockStart:
    """The start of a block."""

    row: int
    """Global index of its first row."""
    phase: int
    """Row at which the integral last started."""
    consumed: tuple[int, ...]
    """Rows of each source since then."""
    live: Live
    credit: tuple[Fraction, ...] = ()
    """Where weights are shares of tokens: tokens each source is owed since then; () = nothing yet."""


@final
@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of the plan."""

    begin: BlockStart
    stop: int
    """Global index of the row after it."""
    totals: tuple[int, ...]
    """Rows of each source since the phase began, at the block's end."""
    seed: int
    credit: tuple[Fraction, ...] = ()
    """Credit of each source at its end, where weights are shares of tokens."""

    @property
    def quotas(self) -> list[int]:
        """Rows of each source in this block."""
        return [after - before for after, before in zip(self.totals, self.begin.consumed, strict=True)]

    @cached_property
    def order(self) -> Order:
        """Source of every row of the block."""
        return block_order(self.quotas, seed=self.seed, row=self.begin.row)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PlanPosition:
    """A position in a plan."""

    begin: BlockStart
    """Start of the block."""
    offset: int = 0
    """Rows of the block before the position."""

    @property
    def row(self) -> int:
        """Rows of the mixture before the position."""
        return self.begin.row + self.offset


class Step(ABC):
    """Rows that follow each other in a plan."""

    @property
    @abstractmethod
    def order(self) -> Order:
        """Source of every row."""

    @property
    @abstractmethod
    def counts(self) -> list[int]:
        """Rows of each source."""

    @property
    def resumed_at(self) -> int:
        """Rows at the front of `order` that lie before the position at which the step was planned."""
        return 0

    @abstractmethod
    def position_after(self, rows: int) -> PlanPosition:
        """Returns the position after the first `rows` rows of `order`."""

    def read_before(self, rows: int) -> int:
        """Returns how many rows of `order` the sources have given where `position_after(rows)` is gone on from."""
        return rows


@final
@dataclass(frozen=True, kw_only=True)
class EvenStep(Step):
    """Consecutive blocks of one row, planned together."""

    begin: BlockStart
    sources: Order
    end: BlockStart | None = None
    """Where the block after the last row begins, if it begins a new phase."""

    @property
    def order(self) -> Order:
        return self.sources

    @property
    def counts(self) -> list[int]:
        return counts_of(self.sources, len(self.begin.consumed))

    def first(self, rows: int) -> EvenStep:
        """Returns the step that ends after the first `rows` rows."""
        return self if rows == len(self.sources) else replace(self, sources=self.sources[:rows], end=None)

    def position_after(self, rows: int) -> PlanPosition:
        if rows == len(self.sources) and self.end is not None:
            return PlanPosition(begin=self.end)
        counts = counts_of(self.sources[:rows], len(self.begin.consumed))
        consumed = tuple(before + more for before, more in zip(self.begin.consumed, counts, strict=True))
        return PlanPosition(begin=replace(self.begin, row=self.begin.row + rows, consumed=consumed))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Consecutive rows of one block."""

    block: Block
    start: int
    """Offset of the first in the block."""
    stop: int
    """Offset behind the last."""

    @property
    def order(self) -> Order:
        """Source of every row."""
        return self.block.order[self.start : self.stop]

    @property
    def counts(self) -> list[int]:
        """Rows of each source."""
        whole = self.stop - self.start == self.block.stop - self.block.begin.row
        # What is gone through by arithmetic needs no order of whole blocks.
        return self.block.quotas if whole else counts_of(self.order, len(self.block.totals))


@final
@dataclass(frozen=True, kw_only=True)
class BlockStep(Step):
    """A part of a block, or several blocks."""

    pieces: Sequence[Piece]
    """At least one."""
    end: PlanPosition

    @property
    def order(self) -> Order:
        return self._order

    @cached_property
    def _order(self) -> Order:
        orders = [piece.order for piece in self.pieces]
        return orders[0] if len(orders) == 1 else concatenate(orders)

    @property
    def counts(self) -> list[int]:
        counts = [piece.counts for piece in self.pieces]
        return counts[0] if len(counts) == 1 else list(map(sum, zip(*counts, strict=True)))

    def first(self, rows: int) -> BlockStep:
        """Returns the step that ends after the first `rows` rows."""
        kept: list[Piece] = []
        left = rows
        for piece in self.pieces:
            kept.append(replace(piece, stop=min(piece.stop, piece.start + left)))
            left -= kept[-1].stop - piece.start
            if not left:
                break
        return replace(self, pieces=kept, end=self.position_after(rows))

    def position_after(self, rows: int) -> PlanPosition:
        for piece in self.pieces:
            if rows < piece.stop - piece.start:
                return PlanPosition(begin=piece.block.begin, offset=piece.start + rows)
            rows -= piece.stop - piece.start
        return self.end


@final
@dataclass(frozen=True, kw_only=True)
class TokenStep(Step):
    """A whole block by shares of tokens: its order follows from the lengths of the rows from its start on.

    So where reading goes on inside it, the sources are read from the block's start again.
    """

    block: Block
    end: BlockStart
    offset: int
    """Rows of the block before the position at which the step was planned."""

    @property
    def order(self) -> Order:
        return self.block.order

    @property
    def counts(self) -> list[int]:
        return self.block.quotas

    @property
    def resumed_at(self) -> int:
        return min(self.offset, len(self.order))

    def position_after(self, rows: int) -> PlanPosition:
        if rows < len(self.order):
            return PlanPosition(begin=self.block.begin, offset=rows)
        return PlanPosition(begin=self.end)

    def read_before(self, rows: int) -> int:
        return 0 if rows < len(self.order) else rows
