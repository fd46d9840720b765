"""Where the steps of a run come from, and what is kept for them beside the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from easydata_sources import ShardedDataSource

from easydel_trainers.data.row_exchange import RowExchange
from easydel_trainers.data.steps import PreparedStep
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.run.view import RunView
from easydel_trainers.step.objective import Batch, Extras, Params


@dataclass(frozen=True, kw_only=True, slots=True)
class StepStart:
    """From where steps go on.

    Attributes:
        data_state: position in the data; `None` = from the start.
        batch: batches taken before.
        exchange: with the other processes that prepare the same rows; `None` = this one prepares all.
    """

    data_state: dict[str, Any] | None = None
    batch: int = 0
    exchange: RowExchange | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalState:
    """What is evaluated.

    Attributes:
        params: the parameters.
        extras: what the objective carries from step to step.
        step: optimizer steps that the parameters have seen.
    """

    params: Params
    extras: Extras
    step: int


class StepSource(ABC):
    """The steps of a run, and what is kept for them beside the model, such as a reference model. Abstract."""

    @property
    @abstractmethod
    def callbacks(self) -> Sequence[Callback]:
        """Told of the run behind those that the user gave."""

    @abstractmethod
    def prepare(self, *, own_rows: bool) -> None:
        """Finds out of the rows what must be known before the first step, or evaluation.

        Args:
            own_rows: whether the trainer's own rows are about to be used, and not others.
        """

    @abstractmethod
    def steps(self, run: RunView, start: StepStart) -> Generator[PreparedStep, None, None]:
        """Returns the steps of a run. Each names the position behind itself, from which it must be possible to go
        on.
        """

    @abstractmethod
    def annotate(self, batch: Batch) -> Batch:
        """Returns a batch with what must be computed of it before its step or its evaluation."""

    @abstractmethod
    def measure(self, source: ShardedDataSource, state: EvalState) -> dict[str, float]:
        """Returns metrics of one held-out source."""

    @abstractmethod
    def metric_names(self, extras: Extras) -> Mapping[str, set[str]] | None:
        """Returns names of the metrics of every held-out source; `None` where nobody can know them."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Returns what must be equal for a checkpoint to continue a run, such as a reference model: plain values."""

    @abstractmethod
    def meta(self) -> dict[str, Any]:
        """Returns what it needs to go on beside `TrainState` and the data position: plain JSON values."""

    @abstractmethod
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Returns the same, as arrays on the host, of any shapes. Arrays on the device belong into `TrainState`."""

    @abstractmethod
    def restore(self, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Takes back what `meta` and `arrays` gave."""
