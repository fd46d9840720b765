"""What is minimised: the interface between an algorithm and the step that takes its gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import jax

from easydel_trainers.step.metrics import Ratios, Terms

Params = Any
Extras = Any
"""Arrays that an objective carries from step to step, such as a running mean; `()` where it has none."""
Batch = dict[str, Any]
"""Arrays `[micro-batches, bins, length]` of tokens; under `rows`, arrays `[micro-batches, …, rows]` of rows."""
Scores = dict[str, jax.Array]


class Objective(Protocol):
    """What a trainer minimises."""

    @property
    def structure(self) -> Any:
        """The model without its parameters."""
        ...

    @property
    def config(self) -> Any:
        """The trainer's config."""
        ...

    def weights(self, batch: Batch) -> Terms:
        """Returns what one micro-batch adds to the denominator of each term of the loss: scalars, without the model."""
        ...

    def loss(self, params: Params, batch: Batch) -> tuple[Terms, Ratios]:
        """*Sum* of each term over one micro-batch, and its metrics as (numerator, denominator)."""
        ...


class ScoredObjective(ABC):
    """A loss of a few numbers per row: of the model's scores, and of what the batch says under `rows`.

    Where the loss of a row depends on nothing but that row and the extras, `coupled` is False and the loss is summed
    micro-batch by micro-batch. Else it is True and the loss is computed once, over all rows of a step.
    """

    structure: Any
    """The model without its parameters."""
    config: Any
    """The trainer's config."""

    @property
    @abstractmethod
    def coupled(self) -> bool:
        """Whether the loss of a row depends on other rows of the step."""

    @abstractmethod
    def weights(self, batch: Batch) -> Terms:
        """See `Objective`."""

    @abstractmethod
    def scores(self, params: Params, batch: Batch) -> Scores:
        """Float arrays `[…, rows]` of one micro-batch, differentiable."""

    @abstractmethod
    def score_loss(
        self, scores: Scores, rows: Scores, extras: Extras, *, training: bool
    ) -> tuple[Terms, Ratios, Extras]:
        """Returns sums of the terms over rows, metrics, and the extras behind these rows.

        Args:
            scores: what `scores` gave, of one micro-batch or of a whole step: `[…, rows]`.
            rows: the batch's arrays of the same rows.
            extras: those before the step.
            training: whether the extras may learn from these rows.
        """

    def initial_extras(self) -> Extras:
        """Returns the extras before the first step."""
        return ()

    def prepare(self, params: Params, batch: Batch) -> Batch:
        """Returns a whole step's batch with what must be known before its first micro-batch. Passes no gradient."""
        return batch
