"""An inspection in a terminal: colours where there are some, words where there are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from easydel_trainers.report.charts import histogram
from easydel_transforms.reasons import meaning
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from easydel.inspector.inspection import InspectedRow, Inspection
from easydel.inspector.sequences import ShownToken, TokenSequence, runs, shared_start

_STYLES = {"trained": "black on green", "read": "", "cut": "strike red"}
_SPECIAL = "bold magenta"
_BARS = 16
_SIDE_BY_SIDE = 100


def print_inspection(console: Console, inspection: Inspection) -> None:
    """Prints rows, figures and warnings.

    Args:
        console: where; without colours, kinds of tokens are told apart by words at the start of a line.
        inspection: what was seen.
    """
    coloured = console.color_system is not None
    if coloured:
        legend = [
            ("trained", _STYLES["trained"]),
            "  read only  ",
            ("special", _SPECIAL),
            "  ",
            ("cut away", _STYLES["cut"]),
        ]
        console.print(Text.assemble(*legend))
    for row in inspection.rows:
        console.print(_row(row, coloured, wide=console.width >= _SIDE_BY_SIDE))
    console.print(_figures(inspection))
    figures: list[tuple[str, Sequence[float]]] = [("Tokens of a sequence", inspection.lengths)]
    if inspection.trains_these:
        percent = [round(100 * share) for share in inspection.trained_shares]
        figures.append(("Trained share of a sequence, in %", percent))
    for title, values in figures:
        console.print(Text(title, style="bold"))
        for line in _histogram(values, console.encoding):
            console.print(Text(line), soft_wrap=True)
    if inspection.mixture is not None:
        console.print(_mixture(inspection))
    _print_warnings(console, inspection)


def _row(row: InspectedRow, coloured: bool, *, wide: bool) -> Panel:
    raw = row.raw
    where = raw.file if raw.row is None else f"{raw.file} row {raw.row}"
    counts = ", ".join(
        f"{'' if sequence.name == 'row' else sequence.name + ' '}{sequence.length} tokens, {sequence.trained} trained"
        + (f", {sequence.cut} cut" if sequence.cut else "")
        for sequence in row.sequences
    )
    marks = [*(["DROPPED"] if row.dropped else []), *row.reasons]
    body: RenderableType = Text(row.error or "") if not row.sequences else _sequences(row.sequences, coloured, wide)
    about = Text("; ".join(filter(None, [where, counts])), style="dim")
    title = Text(" · ".join([f"row {raw.number}", *marks]))
    return Panel(Group(about, body), title=title, title_align="left", border_style="red" if row.dropped else "dim")


def _sequences(sequences: Sequence[TokenSequence], coloured: bool, wide: bool) -> RenderableType:
    if len(sequences) == 1:
        return _tokens(sequences[0].tokens, coloured)
    shared = shared_start(sequences)
    parts = [(sequence.name, _tokens(sequence.tokens[shared:], coloured)) for sequence in sequences]
    above = [_tokens(sequences[0].tokens[:shared], coloured)] if shared else []
    if wide:
        beside = Table(*(name for name, _ in parts), expand=True, show_lines=False)
        beside.add_row(*(text for _, text in parts))
        return Group(*above, beside)
    stacked = [part for name, text in parts for part in (Text(f"{name}:", style="bold"), text)]
    return Group(*above, *stacked)


def _tokens(tokens: Sequence[ShownToken], coloured: bool) -> RenderableType:
    if not coloured:
        table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for kind, run in runs(tokens):
            table.add_row(kind, Text("".join(_visible(token.text) for token in run)))
        return table
    text = Text()
    for kind, run in runs(tokens):
        for token in run:
            style = _STYLES[kind]
            text.append(_visible(token.text), style=f"{style} {_SPECIAL}" if token.special and kind != "cut" else style)
    return text


def _visible(text: str) -> str:
    """Line ends are shown and kept."""
    return text.replace("\n", "↵\n")


def _figures(inspection: Inspection) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    lengths = sorted(inspection.lengths)
    shares = inspection.trained_shares
    table.add_row("trainer", inspection.trainer)
    table.add_row("rows", _known(inspection.total_rows) + f"; the first {inspection.sample:,} looked at")
    table.add_row("steps", _known(inspection.total_steps))
    table.add_row(
        "tokens",
        f"{lengths[0]} to {lengths[-1]} a sequence, half of them at most {lengths[len(lengths) // 2]}"
        + ("" if inspection.max_length is None else f"; max_length {inspection.max_length}"),
    )
    average = f"{sum(shares) / len(shares):.1%} of a sequence's tokens on average"
    table.add_row("trained", average if inspection.trains_these else "the answers that the model will give")
    if inspection.fill is not None:
        shapes = ", ".join(f"{' x '.join(map(str, shape))} ({count})" for shape, count in inspection.shapes.items())
        table.add_row("batches", f"{shapes}; {inspection.fill:.1%} of the positions hold a token")
    for name, value in inspection.settings.items():
        table.add_row(name, str(value))
    return table


def _known(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def _histogram(values: Sequence[float], encoding: str) -> Iterator[str]:
    edges, counts = histogram(values, bins=_BARS)
    block = "█" if encoding.lower().startswith("utf") else "#"
    most = max(counts)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        first, last = int(low + 0.5), int(high - 0.5)
        name = f"{first}" if first == last else f"{first}-{last}"
        yield f"{name:>12} {block * round(40 * count / most)} {count:.0f}".rstrip()


def _mixture(inspection: Inspection) -> Table:
    plan = inspection.mixture
    assert plan is not None
    middle = len(plan.steps) // 2
    moments = sorted({0, middle, len(plan.steps) - 1})
    table = Table("source", "rows", "passes", *(f"share to step {plan.steps[at]:,}" for at in moments))
    for name, shares in plan.shares.items():
        passes = plan.epochs[name]
        times = "unknown" if passes is None else f"{passes:.2f}"
        table.add_row(name, f"{plan.rows[name]:,}", times, *(f"{shares[at]:.1%}" for at in moments))
    return table


def _print_warnings(console: Console, inspection: Inspection) -> None:
    if not inspection.warned:
        console.print(Text("Nothing was cut, dropped or found odd.", style="green"))
        return
    table = Table("what", "rows", "share", "stops above", "look at rows", "meaning", title_justify="left")
    for warned in inspection.warned:
        style = "red" if warned.limit is not None and warned.share > warned.limit else ""
        limit = "-" if warned.limit is None else f"{warned.limit:.0%}"
        table.add_row(
            warned.reason,
            f"{warned.rows:,}",
            f"{warned.share:.1%}",
            limit,
            ", ".join(map(str, warned.examples)) or "-",
            meaning(warned.reason),
            style=style,
        )
    console.print(table)
