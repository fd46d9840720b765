"""An inspection as one HTML page that fetches nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from easydel_trainers.report.charts import bar_chart, histogram, share_chart
from easydel_trainers.report.pages import render
from easydel_transforms.reasons import meaning
from markupsafe import Markup, escape

from easydel.inspector.batches import ArrangedBatch
from easydel.inspector.inspection import InspectedRow, Inspection, MixturePlan, Warned
from easydel.inspector.sequences import ShownToken, TokenSequence, shared_start

_SHOWN_BATCHES = 3
_LONGEST_RAW = 20_000


def inspection_page(inspection: Inspection, *, command: str, source: str) -> str:
    """Returns the page.

    Args:
        inspection: what was seen.
        command: the training command, such as `sft`.
        source: the config file, as the user named it.
    """
    return render(
        "inspect.html.jinja",
        package="easydel.inspector",
        inspection=inspection,
        command=command,
        source=source,
        facts=_facts(inspection),
        warned=[_warning(warned) for warned in inspection.warned],
        charts=_charts(inspection),
        mixture=_mixture(inspection.mixture),
        batches=[_batch(batch) for batch in inspection.batches[:_SHOWN_BATCHES]],
        shapes=[(" × ".join(map(str, shape)), count) for shape, count in inspection.shapes.items()],
        rows=[_row(row) for row in inspection.rows],
    )


def _facts(inspection: Inspection) -> list[tuple[str, str]]:
    shares = inspection.trained_shares
    facts = [
        ("Rows", _known(inspection.total_rows)),
        ("Steps", _known(inspection.total_steps)),
        ("Median tokens", f"{median(inspection.lengths):,.0f}"),
        ("Most tokens", f"{max(inspection.lengths):,}"),
        ("Trained", f"{sum(shares) / len(shares):.1%}" if inspection.trains_these else "its answers"),
    ]
    return facts if inspection.fill is None else [*facts, ("Positions filled", f"{inspection.fill:.1%}")]


def _known(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


@dataclass(frozen=True, slots=True)
class _Warning:
    reason: str
    count: str
    meaning: str
    verdict: str
    stops: bool
    examples: tuple[int, ...]


def _warning(warned: Warned) -> _Warning:
    stops = warned.limit is not None and warned.share > warned.limit
    if warned.limit is None:
        verdict = "reported, never an error"
    else:
        verdict = f"training stops above {warned.limit:.0%}" + (": it would stop" if stops else "")
    count = f"{warned.rows:,} rows, {warned.share:.1%}"
    return _Warning(warned.reason, count, meaning(warned.reason), verdict, stops, warned.examples)


@dataclass(frozen=True, slots=True)
class _Chart:
    name: str
    note: str
    svg: Markup
    key: Sequence[str] = ()


def _charts(inspection: Inspection) -> list[_Chart]:
    limit = inspection.max_length
    near = limit is not None and limit <= 2 * max(inspection.lengths)
    edges, counts = histogram(inspection.lengths)
    lengths = bar_chart(edges, counts, label="Sequences by their tokens", mark=limit if near else None)
    note = "" if limit is None else f"limit {limit:,}"
    charts = [_Chart("Tokens of a sequence", note, lengths)]
    if inspection.trains_these:
        percent, shares = histogram([round(100 * share) for share in inspection.trained_shares])
        drawn = bar_chart(percent, shares, label="Sequences by their trained share, in %")
        charts.append(_Chart("Trained tokens, %", "", drawn))
    plan = inspection.mixture
    if plan is not None and len(plan.steps) > 1:
        drawn = share_chart(plan.steps, plan.shares, label="Share of each source by step")
        charts.append(_Chart("Shares by step", f"{plan.steps[-1]:,} steps", drawn, list(plan.shares)))
    return charts


def _mixture(plan: MixturePlan | None) -> list[tuple[str, str, str]]:
    if plan is None:
        return []
    passes = {name: "unknown" if count is None else f"{count:.2f}" for name, count in plan.epochs.items()}
    return [(name, f"{count:,}", passes[name]) for name, count in plan.rows.items()]


def _batch(batch: ArrangedBatch) -> dict[str, Any]:
    return {
        "number": batch.number,
        "shape": " × ".join(map(str, batch.shape)),
        "fill": f"{batch.fill:.1%}",
        "sequences": sum(not segment.empty for segments in batch.bins for segment in segments),
        "bins": batch.bins,
    }


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    counts: str
    tokens: Markup


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    where: str
    reasons: tuple[str, ...]
    dropped: bool
    error: str | None
    shared: Markup | None
    parts: Sequence[_Part]
    raw: str


def _row(row: InspectedRow) -> _Row:
    together = row.sequences[0].tokens if len(row.sequences) > 1 else ()
    shared = shared_start(row.sequences) if together else 0
    return _Row(
        number=row.raw.number,
        where=row.raw.file if row.raw.row is None else f"{row.raw.file}, row {row.raw.row:,}",
        reasons=row.reasons,
        dropped=row.dropped,
        error=row.error,
        shared=_tokens(together[:shared]) if shared else None,
        parts=[_part(sequence, shared) for sequence in row.sequences],
        raw=_as_json(row.raw.columns)[:_LONGEST_RAW],
    )


def _part(sequence: TokenSequence, shared: int) -> _Part:
    counts = f"{sequence.length:,} tokens, {sequence.trained:,} trained"
    if sequence.cut:
        counts += f", {sequence.cut:,} cut away"
    return _Part(sequence.name, counts, _tokens(sequence.tokens[shared:], first=shared))


def _tokens(tokens: Sequence[ShownToken], *, first: int = 0) -> Markup:
    return Markup("").join(_token(token, first + index) for index, token in enumerate(tokens))


def _token(token: ShownToken, position: int) -> Markup:
    kind = "cut away" if token.cut else "trained" if token.trained else "read only"
    classes = "k" + (" x" if token.cut else " t" if token.trained else "") + (" s" if token.special else "")
    # A line's end is shown and kept: whether a template ends a line is among what one looks for.
    text = escape(token.text).replace("\n", Markup('<i aria-hidden="true">↵</i>\n'))
    special = ", special" if token.special else ""
    return Markup('<span class="{}" title="{}">{}</span>').format(
        classes, f"position {position}, id {token.token_id}: {kind}{special}", text
    )


def _as_json(columns: Mapping[str, Any]) -> str:
    return json.dumps(dict(columns), ensure_ascii=False, indent=2, default=_plain)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
