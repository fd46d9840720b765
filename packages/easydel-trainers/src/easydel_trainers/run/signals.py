"""Being asked to stop: SIGTERM, SIGINT (Ctrl-C), SIGUSR1, or a preemption notice of the cluster.

Each is taken as a request: the step in hand is finished, a checkpoint written, and `Interrupted` raised, which ends
a script with exit code 75 ("try again later" in sysexits.h), so that a scheduler can tell an interrupted run from a
failed one. A second Ctrl-C stops at once.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils

from easydel_trainers.run.interruption import STOP_SIGNALS, raise_if_interrupted

_LOG = logging.getLogger(__name__)


class StopSignals:
    """Notes that a stop was asked for. A context manager: on leaving, the handlers of before are back.

    Handlers can only be set in the main thread; elsewhere, only preemption notices are seen. With several
    processes no process may stop alone, so there signals are left to JAX's preemption service, by which all agree
    on one step.
    """

    def __init__(self) -> None:
        self._received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        """Installs the handlers."""
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            raise_if_interrupted()
            self._before = {number: signal.signal(number, self._receive) for number in STOP_SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Puts the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def received(self) -> str | None:
        """Name of the signal that asked this process to stop, if one did."""
        return self._received

    def asked_to_stop(self, step: int) -> str | None:
        """Returns what asks the run to stop behind `step`: a signal's name or a preemption; `None` = nothing does."""
        if self._received is None and _preempted(step):
            self._received = "preemption notice"
        return self._received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number).name
        _LOG.warning("%s: finishing the step, then saving. Ctrl-C stops without that.", self._received)


def _preempted(step: int) -> bool:
    # Without the service there is nobody to give notice; asking would be an error.
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step)
