"""What a user can hang into a run, without subclassing a trainer.

A callback overrides what it wants to be told. Each method gets the live run: its step, its parameters, and
`run.stop()`, which ends the run behind the present step as if it were the last.

    class StopWhenGoodEnough(Callback):
        def on_evaluate(self, record, run):
            if record["eval_loss"] < 1.0:
                run.stop()
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from easydel_trainers.errors import ConfigError
from easydel_trainers.metric_names import is_greater_better, metric_of

if TYPE_CHECKING:
    from easydel_trainers.run.view import RunView

Record = Mapping[str, float]


class Callback:
    """Told about a run as it goes. Records are plain numbers by name; they always hold `step`."""

    def on_begin(self, run: RunView) -> None:
        """The run is about to take its first step, or the first after a resume."""

    def on_step(self, run: RunView) -> None:
        """A step was given to the device; its loss is not known yet. Reading `run.params` waits for it."""

    def on_log(self, record: Record, run: RunView) -> None:
        """A training record was logged."""

    def on_evaluate(self, record: Record, run: RunView) -> None:
        """An evaluation ended. Called before the checkpoint of this step is written."""

    def on_end(self, run: RunView) -> None:
        """The last step was taken, and saved."""

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint must hold for the callback to go on from it: plain JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""


@final
class EarlyStopping(Callback):
    """Ends a run once a metric of its evaluations has stopped getting better.

    Args:
        metric: name in the evaluation's record.
        patience: evaluations without a new best that are still waited for. At least 1.
        min_delta: by how much a value must beat the best one to count as better. >= 0.
        greater_is_better: whether larger values are better; `None` = unless the metric's name ends in `loss`.

    Raises:
        ConfigError: if a value is out of range, or an evaluation has no such metric.
    """

    def __init__(
        self,
        metric: str = "eval_loss",
        *,
        patience: int = 3,
        min_delta: float = 0.0,
        greater_is_better: bool | None = None,
    ):
        if patience < 1:
            raise ConfigError("patience", patience, "a whole number of at least 1")
        if min_delta < 0:
            raise ConfigError("min_delta", min_delta, "a number that is 0 or larger")
        self.metric, self._patience, self._min_delta = metric, patience, min_delta
        greater = is_greater_better(metric) if greater_is_better is None else greater_is_better
        self._sign = 1.0 if greater else -1.0
        self._best: float | None = None
        self._misses = 0

    def on_begin(self, run: RunView) -> None:
        """Takes no further step in a run that was ended before."""
        if self._misses >= self._patience:
            run.stop()

    def on_evaluate(self, record: Record, run: RunView) -> None:
        """Counts evaluations since the best one; one without a number is none better."""
        value = metric_of(record, self.metric)
        if not math.isnan(value) and (self._best is None or self._sign * (value - self._best) > self._min_delta):
            self._best, self._misses = value, 0
            return
        self._misses += 1
        if self._misses >= self._patience:
            run.stop()

    def state(self) -> dict[str, Any]:
        """Best value and evaluations since."""
        return {"best": self._best, "misses": self._misses}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on counting."""
        self._best, self._misses = state["best"], state["misses"]


def callback_states(callbacks: Sequence[Callback]) -> list[dict[str, Any]]:
    """States of callbacks for a checkpoint, in order."""
    return [{"callback": type(callback).__name__, "state": callback.state()} for callback in callbacks]


def restore_callbacks(callbacks: Sequence[Callback], saved: Sequence[Mapping[str, Any]]) -> None:
    """Gives callbacks their states back; one that was not there then begins anew."""
    waiting = list(saved)
    for callback in callbacks:
        name = type(callback).__name__
        match = next((entry for entry in waiting if entry["callback"] == name), None)
        if match is not None:
            waiting.remove(match)
            callback.restore(dict(match["state"]))
