"""The rows of a training as they are read: in training order, raw, with what the training's transform makes of each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, final

from easydata_sources import CountingTransform, DataError, DataReport
from easydata_sources.report import DEFAULT_THRESHOLDS

if TYPE_CHECKING:
    from easydel_trainers.data.training_data import TrainingData

_LIMITS = ("max_length", "max_prompt_length", "max_completion_length")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row before anything is done to it.

    Attributes:
        number: in the training order, from 1.
        file: file or shard that it comes from.
        row: its number there, from 0; `None` where that is unknown.
        columns: the row itself.
    """

    number: int
    file: str
    row: int | None
    columns: Row


@final
class _AsRead(CountingTransform):
    """Leaves rows as they are."""

    def __init__(self) -> None:
        self.report = DataReport()

    def transform_batch(self, rows: Sequence[Any]) -> list[list[Any]]:
        return [[row] for row in rows]


def raw_rows(data: TrainingData, count: int) -> Iterator[RawRow]:
    """Yields the first rows of the training order."""
    rows = data.in_order(_AsRead())
    for number, columns in enumerate(itertools.islice(rows, count), start=1):
        file, row = rows.origin()
        yield RawRow(number, file, row, columns)


def patient_transform(data: TrainingData) -> Any:
    """Returns the training's own transform of rows, which counts what is wrong with them but never raises for their
    share.
    """
    return _patient(data.training_transform())


def unlimited_transform(data: TrainingData) -> Any:
    """Returns the same without any limit of length, to see what limits cost."""
    from easydel_trainers.data.batch_rules import RowUse

    rules, config = data.rules, data.config
    known = {field.name for field in fields(config)}
    free = dict.fromkeys(known.intersection(_LIMITS))
    if "packing" in known:
        free |= {"packing": False, "packing_strategy": "bfd", "packing_over_long": None, "eval_packing": None}
    twin = type(rules)(replace(config, **free), data.tokenizer)
    return _patient(twin.transform(RowUse(training=True)))


def explained_views(transform: Any, row: Row) -> dict[str, Any]:
    """Returns the transform's own account of a row: its tokens, by sequence."""
    views = transform.explain(dict(row))
    return dict(views) if isinstance(views, Mapping) else {"row": views}


def verdict(transform: Any, row: Row) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns what becomes of one row, and the reasons that the transform counts for it.

    Raises:
        DataError: if the row cannot be read at all.
    """
    before = transform.report.counts
    (outputs,) = transform.transform_batch([dict(row)])
    after = transform.report.counts
    return outputs, [reason for reason in after if after[reason] > before.get(reason, 0)]


def lengths_of(output: Row) -> list[tuple[int, int]]:
    """Returns tokens, and trained ones among them, of every sequence of a trainable row."""
    if "input_ids" in output:
        labels = output["labels"]
        return [(len(labels), int(sum(label >= 0 for label in labels[1:])))]
    prompt = len(output.get("prompt_ids", ()))
    answers = [len(output[name]) for name in ("chosen_ids", "rejected_ids", "completion_ids") if name in output]
    return [(prompt + answer, answer) for answer in answers] or [(prompt, 0)]


def _patient(transform: Any) -> Any:
    transform = getattr(transform, "row_transform", transform)  # packs are looked at as batches, rows one by one
    transform.report = DataReport(thresholds=dict.fromkeys(DEFAULT_THRESHOLDS, 1.0))
    return transform


__all__ = [
    "DataError",
    "RawRow",
    "explained_views",
    "lengths_of",
    "patient_transform",
    "raw_rows",
    "unlimited_transform",
    "verdict",
]
