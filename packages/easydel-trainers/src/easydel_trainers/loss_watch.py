"""Watching the loss: a step that is not finite ends the run, one far above the others is reported.

Results are judged when they arrive, two steps late; what a step trained on is told by the batch it carries.
"""

from __future__ import annotations

import math
import statistics
from collections import deque

from easydel_trainers.data.steps import PreparedStep
from easydel_trainers.errors import DivergedError

_REMEMBERED = 32
_EVIDENCE = 8  # losses needed before one is called far above the others


class LossWatch:
    """Judges one step after the other.

    Args:
        spike_factor: a loss of more than so many times the median of those before is a spike; `None` = none is.
    """

    def __init__(self, spike_factor: float | None):
        self._factor = spike_factor
        self._losses: deque[float] = deque(maxlen=_REMEMBERED)

    def is_spike(self, step: int, prepared: PreparedStep, *, loss: float, grad_norm: float) -> bool:
        """Whether this step's loss is far above those before.

        Raises:
            DivergedError: if the loss or the gradient's norm is not a finite number.
        """
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise DivergedError(
                f"Step {step}: the loss is {loss}, the gradient norm {grad_norm}. Expected finite numbers. It trained "
                f"on batch {prepared.batch}; if those rows are to blame, skip_batches=[{prepared.batch}] goes on "
                "without them from the last checkpoint, which is from before this step. Otherwise a lower "
                "learning_rate, a longer warmup_steps or dtype='float32' are the usual remedies."
            )
        spike = (
            self._factor is not None
            and len(self._losses) >= _EVIDENCE
            and loss > self._factor * statistics.median(self._losses)
        )
        self._losses.append(loss)
        return spike
