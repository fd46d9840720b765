"""A curve drawn with characters: enough to see whether a loss falls, in any terminal and in a log file."""

from __future__ import annotations

from collections.abc import Sequence

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # bits of a braille cell: 4 rows, 2 columns


def draw_curve(
    xs: Sequence[float], ys: Sequence[float], *, width: int = 60, height: int = 10, unicode: bool = True
) -> list[str]:
    """Draws the points joined by straight lines.

    Args:
        xs: ascending, as many as `ys`; at least one.
        ys: finite values.
        width: columns of the plot itself, without the axis.
        height: lines of the plot itself.
        unicode: draw with braille dots, 2 by 4 to a character; otherwise with `*`.

    Returns:
        lines of text: the plot with its lowest and highest value on the left, then the axis with the range of
        `xs`.
    """
    across, down = (2, 4) if unicode else (1, 1)
    columns, rows = width * across, height * down
    low, high = min(ys), max(ys)
    cells = [[0] * width for _ in range(height)]
    before = None
    for column in range(columns):
        x = xs[0] + (xs[-1] - xs[0]) * column / (columns - 1)
        share = (_interpolated(x, xs, ys) - low) / (high - low) if high > low else 0.5
        row = round((1 - share) * (rows - 1))
        start = row if before is None else before
        for filled in range(min(row, start), max(row, start) + 1):
            bit = _DOTS[filled % down][column % across] if unicode else 1
            cells[filled // down][column // across] |= bit
        before = row
    lines = ["".join(_character(cell, unicode) for cell in line) for line in cells]
    labels = {0: f"{high:.3f}", height - 1: f"{low:.3f}"}
    size = max(map(len, labels.values()))
    side, corner, floor = ("│", "└", "─") if unicode else ("|", "+", "-")
    plot = [f"{labels.get(index, ''):>{size}} {side}{line}".rstrip() for index, line in enumerate(lines)]
    first, last = f"{xs[0]:g}", f"{xs[-1]:g}"
    return [
        *plot,
        f"{'':>{size}} {corner}{floor * width}",
        f"{'':>{size}}  {first}{last:>{width - len(first)}}",
    ]


def _interpolated(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    for left in range(len(xs) - 1):
        if x <= xs[left + 1] and xs[left + 1] > xs[left]:
            share = (x - xs[left]) / (xs[left + 1] - xs[left])
            return ys[left] + share * (ys[left + 1] - ys[left])
    return ys[-1]


def _character(cell: int, unicode: bool) -> str:
    if not cell:
        return " "
    return chr(0x2800 + cell) if unicode else "*"
