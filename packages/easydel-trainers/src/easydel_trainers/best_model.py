"""Which step of a run was best, by one metric of its evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from easydel_trainers.callbacks import metric_of


@final
class BestModel:
    """The best value so far and its step.

    Args:
        metric: name in an evaluation's record; `None` = nothing is tracked.
        greater: whether larger values are better.
    """

    def __init__(self, metric: str | None, *, greater: bool):
        self._metric, self._greater = metric, greater
        self.step: int | None = None
        self.value: float | None = None

    def improved_by(self, record: Mapping[str, float]) -> bool:
        """Take in an evaluation; whether it is the best so far. Of equal ones the first counts."""
        if self._metric is None:
            return False
        value = metric_of(record, self._metric)
        if self.value is not None and not (value > self.value if self._greater else value < self.value):
            return False
        self.step, self.value = int(record["step"]), value
        return True

    def metrics(self, record: Mapping[str, float] | None) -> dict[str, float] | None:
        """What a checkpoint is ranked by, given the evaluation of its step, if there was one."""
        if self._metric is None or record is None:
            return None
        return {self._metric: record[self._metric]}

    def state(self) -> dict[str, float | int | None]:
        """Step and value, JSON-able."""
        return {"step": self.step, "value": self.value}

    def restore(self, state: Mapping[str, float | int | None]) -> None:
        """Take back what `state` gave."""
        step, self.value = state["step"], state["value"]
        self.step = None if step is None else int(step)
