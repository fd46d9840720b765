"""Watching the loss: a step that is not finite ends the run, one far above the others is reported.

Results are judged when they arrive, two steps late; what a step trained on is told by the batch it carries.
"""

from __future__ import annotations

import json
import logging
import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from easydel_trainers.data.steps import PreparedStep
from easydel_trainers.errors import DivergedError

_LOG = logging.getLogger(__name__)

_REMEMBERED = 32
_EVIDENCE = 8  # losses needed before one is called far above the others


@final
class LossWatch:
    """Judges one step after the other.

    Args:
        spike_factor: a loss of more than so many times the median of those before is a spike; `None` = none is.
        describe: says what the batch at a data position holds, a line for each row.
    """

    def __init__(self, spike_factor: float | None, describe: Callable[[Mapping[str, Any] | None], Sequence[str]]):
        self._factor, self._describe = spike_factor, describe
        self._losses: deque[float] = deque(maxlen=_REMEMBERED)
        self.spikes = 0
        """How many there were."""

    def look(self, step: int, prepared: PreparedStep, loss: float, grad_norm: float) -> None:
        """Reports a step whose loss is far above those before, with the rows that it trained on.

        Raises:
            DivergedError: if the loss or the gradient's norm is not a finite number.
        """
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            error = DivergedError(
                f"Step {step}: the loss is {loss}, the gradient norm {grad_norm}. Expected finite numbers. It trained "
                f"on batch {prepared.batch}; if those rows are to blame, skip_batches=[{prepared.batch}] goes on "
                "without them from the last checkpoint, which is from before this step. Otherwise a lower "
                "learning_rate, a longer warmup_steps or dtype='float32' are the usual remedies."
            )
            error.add_note(self._rows_of(prepared))
            raise error
        spike = (
            self._factor is not None
            and len(self._losses) >= _EVIDENCE
            and loss > self._factor * statistics.median(self._losses)
        )
        self._losses.append(loss)
        if spike:
            self.spikes += 1
            _LOG.warning("LOSS SPIKE at step %d: %.4g. %s", step, loss, self._rows_of(prepared))

    def _rows_of(self, prepared: PreparedStep) -> str:
        rows = "\n".join(f"  {line}" for line in self._describe(prepared.position))
        return f"Batch {prepared.batch} begins at data position {json.dumps(prepared.position)} and holds:\n{rows}"
