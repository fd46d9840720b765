"""Looking at the rows of a training before it costs anything.

Everything here comes from the training itself: its order of rows, its algorithm's transform and layout, its mixture.
Nothing is computed a second way, so what is shown is what would be trained.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from easydata_mix import MixedShardedSource
from easydata_sources import DataReport

from easydel.inspector.batches import ArrangedBatch, arranged_batches
from easydel.inspector.reading import (
    DataError,
    RawRow,
    explained_views,
    lengths_of,
    patient_transform,
    raw_rows,
    unlimited_transform,
    verdict,
)
from easydel.inspector.sequences import TokenSequence, shown_sequences

if TYPE_CHECKING:
    from easydel_trainers.data.training_data import TrainingData

_EXAMPLES_EACH = 2
_BATCHES = 8
_MOMENTS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedRow:
    """A row and what becomes of it."""

    raw: RawRow
    """As it was read."""
    sequences: tuple[TokenSequence, ...]
    """Its tokens, by sequence. Empty where it could not be read."""
    reasons: tuple[str, ...]
    """What the data report would count it under."""
    dropped: bool
    """Whether nothing of it is trained."""
    error: str | None = None
    """Why it cannot be read, if it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """A reason of the data report that came up."""

    reason: str
    """Its name."""
    rows: int
    """Rows of the sample it holds for."""
    share: float
    """The same as a share of the sample."""
    limit: float | None
    """Share above which training stops; `None` = it is only reported."""
    examples: tuple[int, ...]
    """Numbers of rows that are shown and have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixturePlan:
    """What a mixture would give over the run."""

    steps: tuple[int, ...]
    """Optimizer steps at evenly spaced moments."""
    shares: dict[str, tuple[float, ...]]
    """By source: its share of the rows since the moment before."""
    rows: dict[str, int]
    """By source: rows over the run."""
    epochs: dict[str, float | None]
    """By source: passes over it; `None` where its length is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """All there is to see."""

    trainer: str
    """Name of the trainer's class."""
    sample: int
    """Rows that figures are about: the first ones of the training order."""
    rows: tuple[InspectedRow, ...]
    """Rows to look at: the first ones, then examples of what is counted."""
    lengths: tuple[int, ...]
    """Tokens of every sequence of the sample that is trained."""
    trained_shares: tuple[float, ...]
    """Share of trained tokens of each of them."""
    max_length: int | None
    """Longest sequence allowed."""
    warned: tuple[Warned, ...]
    """Reasons that came up, the most frequent first."""
    batches: tuple[ArrangedBatch, ...]
    """The first batches; none if rows among them would stop the training, or the model itself makes them."""
    total_rows: int | None
    """Rows of the training data; `None` where they cannot be counted."""
    total_steps: int | None
    """Optimizer steps of the run; `None` where they cannot be counted."""
    mixture: MixturePlan | None = None
    """Shares over the run, if the rows are a mixture."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What decides about tokens, masks and order."""

    @property
    def trains_these(self) -> bool:
        """Whether these very tokens are trained; not where the model answers them, and its answers are."""
        return any(self.trained_shares)

    @property
    def shapes(self) -> dict[tuple[int, ...], int]:
        """How many of the first batches have which shape."""
        return dict(Counter(batch.shape for batch in self.batches))

    @property
    def fill(self) -> float | None:
        """Share of the first batches' positions that hold a token."""
        positions = sum(batch.positions for batch in self.batches)
        return sum(batch.tokens for batch in self.batches) / positions if positions else None


def inspect_rows(data: TrainingData, *, shown: int = 8, sample: int = 256, more: Iterable[int] = ()) -> Inspection:
    """Looks at the rows of a training.

    Args:
        data: `Trainer.without_model(…)` makes it, and a trainer has it as `data`.
        shown: rows to show token by token, from the first.
        sample: rows to take lengths, shares and warnings from, from the first.
        more: numbers of further rows to show, from 1, inside the sample.

    Raises:
        DataError: if the rows cannot be opened, or not one of them can be trained.
    """
    reader = _Reader(data)
    wanted, rows = set(more), []
    for raw in raw_rows(data, max(sample, shown)):
        outcome = reader.read(raw, show=raw.number <= shown or raw.number in wanted)
        rows += [outcome] if outcome is not None else []
    if not reader.lengths:
        raise DataError(_nothing_trains(rows))
    report = data.row_transform().report
    return Inspection(
        trainer=f"{type(data.rules).__name__}Trainer",
        sample=reader.read_rows,
        rows=tuple(rows),
        lengths=tuple(reader.lengths),
        trained_shares=tuple(reader.shares),
        max_length=data.config.max_length,
        warned=reader.warned(rows, report),
        batches=_batches(data),
        total_rows=data.rows,
        total_steps=data.total_steps,
        mixture=_mixture_plan(data),
        settings=_settings(data),
    )


class _Reader:
    """Reads rows one after the other, and keeps count."""

    def __init__(self, data: TrainingData):
        self._kept, self._whole = patient_transform(data), unlimited_transform(data)
        self._special = frozenset(data.tokenizer.all_special_ids)
        self.lengths: list[int] = []
        self.shares: list[float] = []
        self.counts: Counter[str] = Counter()
        self.read_rows = 0

    def read(self, raw: RawRow, *, show: bool) -> InspectedRow | None:
        """Takes a row in; gives it back if it is to be shown, since someone asked or it is an example."""
        self.read_rows += 1
        try:
            outputs, reasons = verdict(self._kept, raw.columns)
        except DataError as error:
            self.counts["unreadable"] += 1
            known = self.counts["unreadable"] > _EXAMPLES_EACH
            return None if known and not show else _unreadable(raw, error)
        for length, trained in itertools.chain.from_iterable(map(lengths_of, outputs)):
            self.lengths.append(length)
            self.shares.append(trained / max(length, 1))
        example = any(self.counts[reason] < _EXAMPLES_EACH for reason in reasons)
        self.counts.update(reasons)
        return self._shown(raw, reasons, dropped=not outputs) if show or example else None

    def warned(self, rows: list[InspectedRow], report: DataReport) -> tuple[Warned, ...]:
        """Returns what was counted, with the rows that are shown for it."""
        return tuple(
            Warned(
                reason=reason,
                rows=count,
                share=count / self.read_rows,
                limit=report.limit(reason),
                examples=tuple(row.raw.number for row in rows if reason in row.reasons)[:5],
            )
            for reason, count in self.counts.most_common()
        )

    def _shown(self, raw: RawRow, reasons: list[str], *, dropped: bool) -> InspectedRow:
        whole = explained_views(self._whole, raw.columns)
        kept = explained_views(self._kept, raw.columns)
        views = kept if any(kept.values()) else whole
        sequences = shown_sequences(views, whole, self._special)
        return InspectedRow(raw=raw, sequences=sequences, reasons=tuple(reasons), dropped=dropped)


def _batches(data: TrainingData) -> tuple[ArrangedBatch, ...]:
    if data.rules.generates:
        return ()  # its batches hold answers that the model has yet to give
    try:
        return arranged_batches(data, _BATCHES)
    except DataError:
        return ()  # the rows show which, and the warnings why


def _unreadable(raw: RawRow, error: DataError) -> InspectedRow:
    return InspectedRow(raw=raw, sequences=(), reasons=("unreadable",), dropped=True, error=str(error))


def _nothing_trains(rows: list[InspectedRow]) -> str:
    if not rows:
        return "The training data has no row."
    first = rows[0]
    why = first.error or f"the first is counted as {', '.join(first.reasons) or 'dropped'}"
    return f"Not one of the first rows would be trained: {why}"


def _mixture_plan(data: TrainingData) -> MixturePlan | None:
    source, steps = data.train, data.total_steps
    if not isinstance(source, MixedShardedSource) or not steps:
        return None
    plan = source.simulate(steps, rows_per_step=data.config.total_batch_size, points=min(steps, _MOMENTS))
    before = dict.fromkeys(plan.rows, 0)
    shares: dict[str, list[float]] = {name: [] for name in plan.rows}
    for _, rows in plan.timeline:
        gained = {name: rows[name] - before[name] for name in rows}
        for name, count in gained.items():
            shares[name].append(count / max(sum(gained.values()), 1))
        before = rows
    return MixturePlan(
        steps=tuple(step for step, _ in plan.timeline),
        shares={name: tuple(values) for name, values in shares.items()},
        rows=plan.rows,
        epochs=plan.epochs,
    )


_TELLING = (
    "max_length",
    "max_prompt_length",
    "max_completion_length",
    "completion_only_loss",
    "assistant_only_loss",
    "dataset_text_field",
    "drop_unrendered",
    "packing",
    "packing_strategy",
    "padding_free",
    "total_batch_size",
    "gradient_accumulation_steps",
    "shuffle_train_dataset",
    "seed",
)


def _settings(data: TrainingData) -> dict[str, Any]:
    config = data.config
    settings = {name: getattr(config, name) for name in _TELLING if hasattr(config, name)}
    tokenizer = data.tokenizer
    return {
        **settings,
        "tokenizer": getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__,
        "chat template": "none" if tokenizer.chat_template is None else "the tokenizer's",
    }
