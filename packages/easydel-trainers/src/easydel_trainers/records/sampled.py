"""Answers that were sampled in training, with what they were rewarded: for people to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from easydata_sources.safe_text import printable
from rich.table import Table

from easydel_trainers.records.files import append_line, read_lines

COMPLETIONS_NAME = "completions.jsonl"
_LONGEST = 400  # characters of a cell on a terminal


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """One answer.

    Attributes:
        prompt: text.
        completion: text.
        rewards: by function; `None` = it had nothing to say.
        advantage: over the others of its group.
        extras: what reward functions said of it beside, by name.
    """

    prompt: str
    completion: str
    rewards: Mapping[str, float | None]
    advantage: float
    extras: Mapping[str, str] = field(default_factory=dict)

    @property
    def scores(self) -> str:
        """Rewards and advantage in one line."""
        rewards = [f"{name} {_number(value)}" for name, value in self.rewards.items()]
        return ", ".join([*rewards, f"advantage {self.advantage:+.2f}"])


def write_sampled(folder: Path, step: int, sampled: Sequence[Sampled]) -> None:
    """Appends one line with the answers of a step to `completions.jsonl`."""
    entry = {"step": step, "completions": [dataclasses.asdict(one) for one in sampled]}
    append_line(folder / COMPLETIONS_NAME, entry)


def read_sampled(path: Path, *, last: int) -> list[tuple[int, Sampled]]:
    """Returns the answers of the `last` lines of such a file, each with its step; none where there is no file."""
    entries = read_lines(path)[-last:]
    return [(entry["step"], Sampled(**one)) for entry in entries for one in entry.get("completions", [])]


def sampled_table(step: int, sampled: Sequence[Sampled]) -> Table:
    """Returns the answers of a step as a table for a terminal."""
    names, extras = list(sampled[0].rewards), list(sampled[0].extras)
    table = Table(title=f"Step {step}: sampled answers", show_lines=True)
    for name in ("prompt", "answer"):
        table.add_column(name, overflow="fold")
    for name in (*names, "advantage", *extras):
        table.add_column(name, justify="right")
    for one in sampled:
        rewards = [_number(one.rewards[name]) for name in names]
        beside = [one.extras.get(name, "") for name in extras]
        # Text of a model is no markup: a cell that reads "[/b]" must not break the table.
        texts = [printable(_cut(text)) for text in (one.prompt, one.completion)]
        cells = [*texts, *rewards, f"{one.advantage:+.2f}", *beside]
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else "…" + text[-_LONGEST:]
