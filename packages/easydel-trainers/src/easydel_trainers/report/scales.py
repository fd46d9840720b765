"""From values to positions on a page: round tick values, and numbers short enough for an axis.

>>> ticks(0.0, 1.0)
[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
>>> short(0.000123), short(12345.0), short(0.5)
('1.23e-4', '12.3k', '0.5')
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Scale:
    """A straight line from values to positions.

    Attributes:
        low: smallest value.
        high: largest value; equal to `low` = all in the middle.
        start: position of `low`.
        end: position of `high`.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Returns the position of a value."""
        if self.high == self.low:
            return (self.start + self.end) / 2
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, *, at_most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten inside `[low, high]`, at most `at_most` of them.

    Args:
        low: finite.
        high: finite, not below `low`.
        at_most: at least 2.
    """
    if high == low:
        return [low]
    rough = (high - low) / (at_most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(part * power for part in (1, 2, 5, 10) if part * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def short(value: float) -> str:
    """Returns a number in three digits or so: `0.25`, `12.3k`, `1.5e-5`."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size and size < 1e-3:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    for unit, letter in _UNITS:
        if size >= unit:
            return f"{_trimmed(value / unit, 3)}{letter}"
    return _trimmed(value, 4 if size < 10 else 3)


def _trimmed(value: float, digits: int) -> str:
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
