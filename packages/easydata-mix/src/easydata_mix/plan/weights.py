"""Weights: whatever numbers a user writes, checked against the sources and turned into exact shares.

    >>> from easydata_mix.plan.weights import exact_shares
    >>> exact_shares({"web": 0.6, "code": 0.4}, ["web", "code"])
    (Fraction(3, 5), Fraction(2, 5))

Weights are read as the decimals the user wrote (`0.6` is 3/5, not the nearest binary fraction), so a share of 0.6
gives exactly 600 rows in 1,000, and nothing drifts over 10⁹ rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from numbers import Rational, Real

from easydata_mix.errors import MixtureError
from easydata_mix.plan.types import Shares


def exact_shares(
    weights: Mapping[str, float] | Sequence[float] | None, names: Sequence[str], *, what: str = "weights"
) -> Shares:
    """Returns the share of each source.

    Args:
        weights: One non-negative weight per source, by name or in the sources' order; they need not sum to 1.
            `None` = equal shares.
        names: Names of the sources.
        what: What the weights are called in errors.

    Raises:
        MixtureError: If a name matches no source or is missing, a weight is not a finite number >= 0, or all are 0.
    """
    if weights is None:
        return (Fraction(1, len(names)),) * len(names)
    exact = [exact_weight(weight, f"{what}[{name!r}]") for name, weight in named(weights, names, what).items()]
    total = sum(exact)
    if total == 0:
        raise MixtureError(
            f"All {what} are 0, so no source would ever be read. Give at least one of {listed(names)} a weight above 0."
        )
    return tuple(weight / total for weight in exact)


def named(
    weights: Mapping[str, float] | Sequence[float], names: Sequence[str], what: str = "weights"
) -> dict[str, float]:
    """Returns the weights by name in the sources' order, or raises if the names do not match."""
    if isinstance(weights, str) or not isinstance(weights, Mapping | Sequence):
        raise MixtureError(f"`{what}` must map source names to numbers; found {type(weights).__name__}.")
    if not isinstance(weights, Mapping):
        if len(weights) != len(names):
            raise MixtureError(
                f"`{what}` has {len(weights)} numbers for {len(names)} sources ({listed(names)}); give one each."
            )
        return dict(zip(names, weights, strict=True))
    unknown = [name for name in weights if name not in names]
    missing = [name for name in names if name not in weights]
    if unknown or missing:
        complaints = [f"{listed(unknown)} match no source"] if unknown else []
        complaints += [f"{listed(missing)} have no weight (0 would leave a source out)"] if missing else []
        raise MixtureError(f"`{what}` do not fit the sources {listed(names)}: {'; '.join(complaints)}.")
    return {name: weights[name] for name in names}


def exact_weight(value: float | Fraction, where: str) -> Fraction:
    """Returns a weight as the decimal it was written as, or raises if it is not a finite number >= 0."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise MixtureError(f"{where} must be a number; found {value!r}.")
    if not math.isfinite(value):
        raise MixtureError(f"{where} is {value}; a weight must be finite. Did a division by zero make it?")
    if value < 0:
        raise MixtureError(f"{where} is {value}; a weight cannot be negative. Use 0 to leave a source out.")
    return Fraction(value) if isinstance(value, Rational) else Fraction(str(value))


def listed(names: Sequence[str]) -> str:
    """Returns names for an error message, cut when there are many."""
    return ", ".join(map(repr, names[:8])) + (f", … ({len(names)} in all)" if len(names) > 8 else "")
