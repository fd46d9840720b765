"""`report.html`: a run on one page, written while it goes and when it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from easydel_trainers.records.files import write_whole
from easydel_trainers.report.charts import Line, line_chart
from easydel_trainers.report.pages import render
from easydel_trainers.report.scales import short

REPORT_NAME = "report.html"

Record = Mapping[str, float]

# What a person looks at first; every other metric follows by name.
_FIRST = (
    "loss",
    "reward",
    "rewards/accuracies",
    "rewards/margins",
    "completions/mean_length",
    "kl",
    "entropy",
    "mean_token_accuracy",
    "grad_norm",
    "learning_rate",
)
# Clocks of the run rather than measurements of it.
_CLOCKS = frozenset({"step", "epoch", "num_tokens", "compilations"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An answer of the model during the run."""

    step: int
    prompt: str
    answer: str
    scores: str = ""
    """What it was rewarded, where it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What the page shows.

    Attributes:
        title: trainer and model.
        state: where the run stands, in a few words.
        directory: the run's folder, as the user named it.
        records: the log: one record per logged step and evaluation, each with `step`; metrics of an evaluation
            begin with `eval_`.
        data_report: rows read under `rows`, and rows cut, dropped or odd by reason.
        config: every setting.
        versions: of the packages a run's numbers depend on.
        samples: answers of the model, in order.
        auto_class: name in `easydel` of the class that loads the model.
        written: time of writing, for people.
    """

    title: str
    state: str
    directory: str
    records: Sequence[Record]
    data_report: Mapping[str, int]
    config: Mapping[str, object]
    versions: Mapping[str, str]
    samples: Sequence[Sample] = ()
    auto_class: str = "AutoEasyDeLModelForCausalLM"
    written: str = ""

    def html(self) -> str:
        """Returns the page: one HTML document that fetches nothing."""
        sections = [("curves", "Curves"), ("data", "Data"), ("config", "Config"), ("next", "Go on from here")]
        if self.samples:
            sections.insert(1, ("samples", "Sampled answers"))
        return render(
            "run.html.jinja",
            report=self,
            sections=sections,
            facts=_facts(self.records),
            charts=[chart for name in _names(self.records) if (chart := _chart(name, self.records)) is not None],
            data=_data_rows(self.data_report),
        )

    def write(self, directory: str | Path) -> Path:
        """Writes `report.html` there, whole or not at all."""
        path = Path(directory) / REPORT_NAME
        write_whole(path, self.html())
        return path


@dataclass(frozen=True, slots=True)
class _Fact:
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class _Chart:
    name: str
    now: str
    svg: Markup
    key: list[str] = field(default_factory=list)


def _names(records: Sequence[Record]) -> list[str]:
    """Returns metrics worth a chart, held-out ones under the name of the trained one."""
    seen = {name.removeprefix("eval_") for record in records for name in record} - _CLOCKS
    first = [name for name in _FIRST if name in seen]
    return [*first, *sorted(seen.difference(first))]


def _chart(name: str, records: Sequence[Record]) -> _Chart | None:
    lines = [line for key in (name, f"eval_{name}") if (line := _line(key, records)) is not None]
    if not lines:
        return None
    now = ", ".join(f"{'held out ' if line.dotted else ''}{short(line.ys[-1])}" for line in lines)
    return _Chart(name, now, line_chart(lines, label=f"{name} by step"), [line.name for line in lines])


def _line(name: str, records: Sequence[Record]) -> Line | None:
    points = [(record["step"], record[name]) for record in records if math.isfinite(record.get(name, math.nan))]
    if not points:
        return None
    held_out = name.startswith("eval_")
    return Line("held out" if held_out else "training", *zip(*points, strict=True), dotted=held_out)


def _facts(records: Sequence[Record]) -> list[_Fact]:
    latest: dict[str, float] = {}
    for record in records:
        latest.update(record)
    wanted = {
        "Step": "step",
        "Tokens trained": "num_tokens",
        "Loss": "loss",
        "Held-out loss": "eval_loss",
        "Reward": "reward",
        "Tokens / s": "tokens_per_second",
    }
    return [_Fact(label, short(latest[name])) for label, name in wanted.items() if name in latest]


@dataclass(frozen=True, slots=True)
class _DataRow:
    name: str
    count: str
    share: str


def _data_rows(report: Mapping[str, int]) -> list[_DataRow]:
    rows = report.get("rows", 0)
    reasons = {name: count for name, count in report.items() if name != "rows"}
    shares = [_DataRow(name, f"{count:,}", f"{count / rows:.1%}" if rows else "") for name, count in reasons.items()]
    return [_DataRow("read", f"{rows:,}", ""), *shares]
