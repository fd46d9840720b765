"""What a mixture will give, computed from its plan: rows, tokens and epochs of every source after so many steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from easydata_mix.errors import MixtureError
from easydata_mix.plan.types import Stop
from easydata_mix.plan.walk import Walk
from easydata_mix.plan.weights import listed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

TokenLengths: TypeAlias = "float | ArrayLike"
"""Tokens of a source's rows: their mean, or one number per row in the source's order."""

_GLYPHS = "█▓▒░▚▞◆●○◇+×=-:."


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """The state of a mixture after some steps."""

    steps: int
    """Steps asked for."""
    total_rows: int
    """Rows given; fewer than asked for if the mixture ends before."""
    ended: bool
    """Whether the mixture ends within these steps."""
    rows: dict[str, int]
    """Rows of each source."""
    tokens: dict[str, int] | None
    """Tokens of each source; None if no lengths were given."""
    epochs: dict[str, float | None]
    """Passes over each source; None where its length is unknown."""
    timeline: tuple[tuple[int, dict[str, int]], ...]
    """(step, rows of each source so far) at evenly spaced moments."""

    def plot(self, width: int = 60) -> str:
        """Returns a chart of the shares over time: one line per moment, one glyph per source."""
        import numpy as np

        lines = [f"{_glyph(index)} {name}" for index, name in enumerate(self.rows)]
        before = dict.fromkeys(self.rows, 0)
        for step, rows in self.timeline:
            gained = [rows[name] - before[name] for name in self.rows]
            edges = np.rint(np.cumsum([0, *gained]) / max(sum(gained), 1) * width).astype(int)
            bars = (_glyph(index) * int(edges[index + 1] - edges[index]) for index in range(len(gained)))
            lines.append(f"{step:>10} {''.join(bars)}")
            before = rows
        return "\n".join(lines)


def check_simulation(
    names: Sequence[str], rows: Sequence[int | None], *, stop: Stop, steps: int, rows_per_step: int, points: int
) -> None:
    """Raises unless a simulation can be made.

    Args:
        names: Names of the sources.
        rows: Rows of each source; None = unknown.
        stop: The stop policy.
        steps: Optimizer steps.
        rows_per_step: Rows in a step.
        points: Moments in the timeline.

    Raises:
        MixtureError: If a number is out of range, or lengths decide that are not known.
    """
    if steps < 0 or rows_per_step < 1 or points < 1:
        raise MixtureError(
            f"A simulation needs steps >= 0, rows_per_step >= 1 and points >= 1; found {steps}, {rows_per_step} and "
            f"{points}."
        )
    unknown = [name for name, count in zip(names, rows, strict=True) if count is None]
    if unknown and stop != "restart":
        raise MixtureError(
            f"stop={stop!r} depends on the lengths of the sources, and those of {listed(unknown)} are unknown until "
            "they have been read. Simulate with stop='restart'."
        )


def simulate(
    walk: Walk,
    *,
    names: Sequence[str],
    epoch_rows: Sequence[int | None],
    steps: int,
    rows_per_step: int,
    token_lengths: Mapping[str, TokenLengths] | None,
    points: int,
) -> Simulation:
    """Returns what a walk from the start of a mixture gives; see `MixedShardedSource.simulate`."""
    moments = [steps * point // points for point in range(1, points + 1)]
    drawn = walk.drawn_at([step * rows_per_step for step in moments])
    timeline = [(step, dict(zip(names, counts, strict=True))) for step, counts in zip(moments, drawn, strict=True)]
    rows = timeline[-1][1]
    total = sum(rows.values())
    return Simulation(
        steps=steps,
        total_rows=total,
        ended=total < steps * rows_per_step,
        rows=rows,
        tokens=_tokens(rows, token_lengths),
        epochs={
            name: None if count is None else rows[name] / count for name, count in zip(names, epoch_rows, strict=True)
        },
        timeline=tuple(timeline),
    )


def lengths_by_user(lengths: Mapping[str, TokenLengths], name: str) -> NDArray[np.integer] | None:
    """Returns what a user said of a source's rows as an array: of one number, or of one per row; None if nothing."""
    import numpy as np

    return np.asarray(lengths[name]).astype(np.int64) if name in lengths else None


def _tokens(rows: dict[str, int], lengths: Mapping[str, TokenLengths] | None) -> dict[str, int] | None:
    import numpy as np

    if lengths is None:
        return None
    missing = [name for name in rows if name not in lengths]
    if missing:
        raise MixtureError(
            f"`lengths` says nothing of {listed(missing)}; give the mean tokens of a row, or one number per row."
        )
    return {name: _tokens_of(count, np.asarray(lengths[name])) for name, count in rows.items()}


def _tokens_of(rows: int, lengths: np.ndarray) -> int:
    """Returns the tokens of the first `rows` rows of a source that starts over at its end."""
    if lengths.ndim == 0:
        return round(rows * float(lengths))
    if not len(lengths):
        raise MixtureError("`lengths` of a source is empty; give one number per row, or their mean.")
    passes, rest = divmod(rows, len(lengths))
    return passes * int(lengths.sum(dtype="int64")) + int(lengths[:rest].sum(dtype="int64"))


def _glyph(index: int) -> str:
    return _GLYPHS[index % len(_GLYPHS)]
