"""The clock of a schedule: how many rows a step has, or how many tokens a row has.

A mixture counts rows; users write schedules in optimizer steps or tokens. The exchange rate is bound once, by the
trainer or by hand, and is part of the state, so that a resumed run reads its schedule at the same speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from easydata_mix.errors import MixtureError
from easydata_mix.plan.weights import exact_weight

RateT = TypeVar("RateT", int, Fraction)


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """Exchange rates from rows to the units of schedules."""

    rows_per_step: int | None = None
    """Rows of one optimizer step; None = not bound yet."""
    tokens_per_row: Fraction | None = None
    """Mean tokens of a row; None = not bound yet."""

    def bound(self, *, rows_per_step: int | None = None, tokens_per_row: float | Fraction | None = None) -> Clock:
        """Returns the clock with one or both rates bound.

        Raises:
            MixtureError: If a rate is not positive, or was bound to another number before.
        """
        if rows_per_step is not None and (type(rows_per_step) is not int or rows_per_step < 1):
            raise MixtureError(f"`rows_per_step` must be a whole number >= 1; found {rows_per_step!r}.")
        exact = None if tokens_per_row is None else exact_weight(tokens_per_row, "`tokens_per_row`")
        if exact == 0:
            raise MixtureError("`tokens_per_row` must be above 0; found 0.")
        return Clock(
            rows_per_step=_once("rows_per_step", self.rows_per_step, rows_per_step),
            tokens_per_row=_once("tokens_per_row", self.tokens_per_row, exact),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the rates as plain JSON types."""
        tokens = self.tokens_per_row
        return {"rows_per_step": self.rows_per_step, "tokens_per_row": None if tokens is None else str(tokens)}

    def restored(self, entry: Mapping[str, Any]) -> Clock:
        """Returns the clock with the rates of a saved state bound."""
        tokens = entry["tokens_per_row"]
        return self.bound(
            rows_per_step=entry["rows_per_step"], tokens_per_row=None if tokens is None else Fraction(tokens)
        )


def _once(name: str, present: RateT | None, new: RateT | None) -> RateT | None:
    if None not in (present, new) and present != new:
        raise MixtureError(
            f"`{name}` is {present} already and cannot become {new}: the schedule would jump, and rows be repeated or "
            f"skipped on resume. Go on with {present}, or start a new mixture."
        )
    return present if new is None else new
