"""Ending before, between or behind steps, where there is nothing to finish first. Imports nothing that takes long.

During steps `StopSignals` takes over, which lets the step in hand end and saves it.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, final

_LOG = logging.getLogger(__name__)

#: Exit code of a run that was asked to stop and can go on ("try again later" in sysexits.h).
EXIT_INTERRUPTED = 75

#: What asks a run to stop: schedulers, people, and SLURM where --signal=USR1@120 says so.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

_AGAIN = 1.0  # seconds between two tries to be heard


class Interrupted(SystemExit):
    """A run was asked to stop and did. Uncaught, it ends the process with `EXIT_INTERRUPTED`.

    Attributes:
        reason: what asked.
        step: steps taken; `None` = it was not taking steps.
    """

    def __init__(self, reason: str, step: int | None = None):
        super().__init__(EXIT_INTERRUPTED)
        self.reason, self.step = reason, step

    def __str__(self) -> str:
        return f"Stopped by {self.reason}" + ("." if self.step is None else f" behind step {self.step}.")


@final
class StopAtOnce:
    """Ends what is going on with `Interrupted` when a signal asks for it. A context manager, for the main thread.

    An exception that a signal's handler raises may be lost: where it strikes a callback of native code or a finalizer,
    Python prints and forgets it. So it is raised again until the context ends, and there at the latest. A second Ctrl-C
    raises `KeyboardInterrupt`. Signals that somebody else handles are left to them.

    Args:
        enabled: False = leave all signals alone: of several processes none may stop alone.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._received: str | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._left = threading.Event()

    def __enter__(self) -> StopAtOnce:
        """Installs the handlers."""
        if self._enabled and threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in STOP_SIGNALS}
            untaken = (signal.SIG_DFL, signal.default_int_handler)
            self._before = {number: handler for number, handler in found.items() if handler in untaken}
            for number in self._before:
                signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Puts the former handlers back; raises what was lost."""
        self._left.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if not isinstance(error, SystemExit | KeyboardInterrupt):
            self.check()

    def check(self) -> None:
        """Raises `Interrupted` if a signal has asked for it."""
        if self._received is not None:
            raise Interrupted(self._received)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received is None:
            self._received = signal.Signals(number).name
            _LOG.warning("%s: stopping. Run again to go on.", self._received)
            threading.Thread(target=self._repeat, daemon=True).start()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Interrupted(self._received)

    def _repeat(self) -> None:
        again = next((number for number in self._before if number != signal.SIGINT), None)
        while again is not None and not self._left.wait(_AGAIN):
            # Whoever has taken the signal over since, such as `StopSignals`, has asked `check()`.
            if signal.getsignal(again) == self._receive:
                signal.pthread_kill(threading.main_thread().ident or 0, again)


def raise_if_interrupted() -> None:
    """Raises `Interrupted` if the `StopAtOnce` whose signals are about to be taken over has one to raise."""
    for number in STOP_SIGNALS:
        owner = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(owner, StopAtOnce):
            owner.check()
