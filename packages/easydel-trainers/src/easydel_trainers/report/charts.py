"""Charts as SVG text: lines, bars, and shares over time.

They hold no colour of their own but the page's classes `series-0` … `series-5`, so one drawing serves light and dark.
They are drawn at the width of a card on the page, where text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from easydel_trainers.report.scales import Scale, short, ticks

WIDTH, HEIGHT = 380, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 24
_MOST_POINTS = 300


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Attributes:
        name: what it shows.
        xs: ascending.
        ys: as many; values that are not finite are left out.
        dotted: mark every point, for series with few of them.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    dotted: bool = False


def line_chart(lines: Sequence[Line], *, label: str) -> Markup:
    """Lines over a common axis.

    Args:
        lines: at least one with a finite point.
        label: what the chart shows, for readers who cannot see it.

    Raises:
        ValueError: if there is no finite point.
    """
    finite = [_finite(line) for line in lines]
    xs = [x for line in finite for x in line.xs]
    ys = [y for line in finite for y in line.ys]
    if not xs:
        raise ValueError("A line chart needs at least one finite point.")
    across = Scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT)
    down = Scale(*_padded(min(ys), max(ys)), HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(across, down), *(_drawn(index, line, across, down) for index, line in enumerate(finite))]
    return _svg(parts, label)


def bar_chart(edges: Sequence[float], counts: Sequence[float], *, label: str, mark: float | None = None) -> Markup:
    """Bars side by side, as of a histogram.

    Args:
        edges: ascending borders of the bars, one more than `counts`.
        counts: heights, >= 0.
        label: what the chart shows, for readers who cannot see it.
        mark: a value to mark by an upright line, such as a limit.
    """
    far = max(edges[-1], mark) if mark is not None else edges[-1]
    across = Scale(edges[0], far, _LEFT, WIDTH - _RIGHT)
    down = Scale(0.0, max([*counts, 1e-12]), HEIGHT - _BOTTOM, _TOP)
    bars = [
        f'<rect class="series-0 area" x="{across(left):.1f}" width="{max(across(right) - across(left) - 1, 0.5):.1f}" '
        f'y="{down(count):.1f}" height="{down(0.0) - down(count):.1f}"><title>{short(left)} to {short(right)}: '
        f"{short(count)}</title></rect>"
        for (left, right), count in zip(pairwise(edges), counts, strict=True)
    ]
    marked = [] if mark is None else [_upright(across(mark), mark)]
    return _svg([_grid(across, down), *bars, *marked], label)


def share_chart(xs: Sequence[float], shares: Mapping[str, Sequence[float]], *, label: str) -> Markup:
    """Returns shares that sum to one, as areas on top of each other.

    Args:
        xs: ascending, at least two.
        shares: by name, one value for each of `xs`.
        label: what the chart shows, for readers who cannot see it.
    """
    across, down = Scale(xs[0], xs[-1], _LEFT, WIDTH - _RIGHT), Scale(0.0, 1.0, HEIGHT - _BOTTOM, _TOP)
    floor, areas = [0.0] * len(xs), []
    for index, (name, values) in enumerate(shares.items()):
        top = [low + value for low, value in zip(floor, values, strict=True)]
        forth = [f"{across(x):.1f},{down(y):.1f}" for x, y in zip(xs, top, strict=True)]
        back = [f"{across(x):.1f},{down(y):.1f}" for x, y in zip(xs, floor, strict=True)]
        points = " ".join([*forth, *reversed(back)])
        areas.append(
            f'<polygon class="series-{index % 6} area" points="{points}"><title>{escape(name)}</title></polygon>'
        )
        floor = top
    return _svg([*areas, _grid(across, down)], label)


def histogram(values: Sequence[float], *, bins: int = 24) -> tuple[list[float], list[float]]:
    """Returns borders and counts of equally wide bars over the values' range.

    Whole numbers get borders between whole numbers, so that no bar covers more of them than its neighbours.
    """
    low, high = min(values), max(values)
    if all(float(value).is_integer() for value in values):
        width = max(1, math.ceil((high - low + 1) / bins))
        edges = [low - 0.5 + width * index for index in range(math.ceil((high - low + 1) / width) + 1)]
    else:
        width = (high - low) / bins
        edges = [low + width * index for index in range(bins + 1)]
    counts = [0.0] * (len(edges) - 1)
    for value in values:
        counts[min(int((value - edges[0]) / width), len(counts) - 1)] += 1
    return edges, counts


def _finite(line: Line) -> Line:
    pairs = [(x, y) for x, y in zip(line.xs, line.ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    pairs = _thinned(pairs)
    return Line(line.name, [x for x, _ in pairs], [y for _, y in pairs], line.dotted)


def _thinned(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the lowest and the highest of every stretch: a long line loses points but no spike."""
    if len(pairs) <= _MOST_POINTS:
        return pairs
    size = 2 * len(pairs) / _MOST_POINTS
    kept: list[tuple[float, float]] = []
    for part in range(_MOST_POINTS // 2):
        stretch = pairs[int(part * size) : int((part + 1) * size)]
        low, high = (choose(stretch, key=lambda pair: pair[1]) for choose in (min, max))
        kept += sorted({low, high})
    return kept


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.06
    return low - room, high + room


def _drawn(index: int, line: Line, across: Scale, down: Scale) -> str:
    points = [(across(x), down(y), x, y) for x, y in zip(line.xs, line.ys, strict=True)]
    if not points:
        return ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    drawn = f'<polyline class="series-{index % 6} line" points="{path}"><title>{escape(line.name)}</title></polyline>'
    if line.dotted or len(points) == 1:
        drawn += "".join(
            f'<circle class="series-{index % 6} dot" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(line.name)}: '
            f"{short(value)} at {short(at)}</title></circle>"
            for x, y, at, value in points
        )
    return drawn


def _grid(across: Scale, down: Scale) -> str:
    parts = []
    for value in ticks(down.low, down.high, at_most=5):
        y = down(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{short(value)}</text>')
    for value in ticks(across.low, across.high, at_most=5):
        x = across(value)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{short(value)}</text>')
    return "".join(parts)


def _upright(x: float, value: float) -> str:
    title = f"<title>{short(value)}</title>"
    return f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}">{title}</line>'


def _svg(parts: Sequence[str], label: str) -> Markup:
    inside = "".join(parts)
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{inside}</svg>')
