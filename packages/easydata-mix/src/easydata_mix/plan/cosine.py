"""The sum of a cosine ramp in whole-number arithmetic.

A cosine ramp rises from 0 to 1 over `span` ticks: f(j) = (1 − cos(jπ/span)) / 2. A mixture needs F(m) = Σ_{j<m} f(j)
for m up to 10¹² without adding m terms, and the same bits on every machine, because one bit can turn a rounding and
with it the order of the data. Floats promise neither, so this file works on integers scaled by a power of two, with

    Σ_{j<m} cos(jθ) = sin(mθ/2) · cos((m−1)θ/2) / sin(θ/2)          (Lagrange's identity)
"""

from __future__ import annotations

from functools import cache

PRECISION = 80
"""Binary places of F(m): the error is below 10⁻²⁴ rows."""

MAX_SPAN = 10**12
"""Longest ramp, in ticks: beyond it the first increment π²/4span² would drown in the rounding."""

_BITS = 256
_ONE = 1 << _BITS


def ramp_sum(ticks: int, span: int) -> int:
    """Returns F(ticks)·2^PRECISION, rounded, for 0 <= ticks <= span <= MAX_SPAN."""
    if ticks == 0:
        return 0
    half_angle = _pi() // (2 * span)
    cosines = (
        _sine(_pi() * ticks // (2 * span)) * _sine(_pi() // 2 - _pi() * (ticks - 1) // (2 * span)) // _sine(half_angle)
    )
    guard = _BITS - PRECISION
    return ((ticks << _BITS) - cosines + (1 << guard)) >> (guard + 1)


def _sine(angle: int) -> int:
    """Returns sin(angle), both scaled by 2^256, for 0 <= angle <= π/2, by its Taylor series."""
    square = angle * angle >> _BITS
    term = total = angle
    order = 1
    while term:
        order += 2
        term = -(term * square >> _BITS) // (order * (order - 1))
        total += term
    return total


@cache
def _pi() -> int:
    """Returns π·2^256, by Machin's formula π = 16 atan(1/5) − 4 atan(1/239)."""
    return 16 * _arctan_inverse(5) - 4 * _arctan_inverse(239)


def _arctan_inverse(x: int) -> int:
    power = _ONE // x
    total = power
    order = 1
    while power:
        power = -power // (x * x)
        order += 2
        total += power // order
    return total
