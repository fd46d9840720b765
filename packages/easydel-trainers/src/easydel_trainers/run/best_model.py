"""Which step of a run was best, by one metric of its evaluations."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, final

from easydel_trainers.metric_names import metric_of

_LOG = logging.getLogger(__name__)


@final
class BestModel:
    """The best value so far and its step.

    Args:
        metric: name in an evaluation's record; `None` = nothing is tracked.
        greater: whether larger values are better.
    """

    def __init__(self, metric: str | None, *, greater: bool | None):
        self._metric, self._greater = metric, greater
        self.step: int | None = None
        self.value: float | None = None

    def improved_by(self, record: Mapping[str, float]) -> bool:
        """Takes in an evaluation; whether it is the best so far. Of equal ones the first counts; NaN never does."""
        if self._metric is None:
            return False
        value = metric_of(record, self._metric)
        if math.isnan(value):
            return False
        if self.value is not None and not (value > self.value if self._greater else value < self.value):
            return False
        self.step, self.value = int(record["step"]), value
        return True

    def state(self) -> dict[str, Any]:
        """Returns step and value, and by what they are the best; JSON-able."""
        return {"metric": self._metric, "greater": self._greater, "step": self.step, "value": self.value}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave; values of another metric do not compare with those of this one."""
        if (state["metric"], state["greater"]) == (self._metric, self._greater):
            self.step, self.value = state["step"], state["value"]
        elif state["step"] is not None:
            _LOG.warning(
                "The best step so far, %d, was so by %s: it does not count for %s.",
                *(state["step"], state["metric"], self._metric),
            )
