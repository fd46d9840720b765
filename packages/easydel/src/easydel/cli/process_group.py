"""Processes that live and end together, their output told apart by a label in front of each line."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import IO, Any, final

_INTERRUPTED = 75  # a process that was asked to stop and saved; the others do the same
_LOOK = 0.1  # seconds
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def free_port() -> int:
    """Returns a port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@final
class ProcessGroup:
    """Some processes. A context manager: on leaving, none of them runs on.

    A signal that asks this process to stop is passed on to all as SIGTERM, which they agree upon; a second Ctrl-C ends
    them at once.

    Args:
        grace_seconds: how long the others have to end by themselves once one has failed.
    """

    def __init__(self, *, grace_seconds: float):
        self._grace = grace_seconds
        self._running: list[tuple[str, subprocess.Popen[str]]] = []
        self._readers: list[threading.Thread] = []
        self._before: dict[signal.Signals, Any] = {}
        self._asked = False

    def __enter__(self) -> ProcessGroup:
        """Takes over signals."""
        self._before = {number: signal.signal(number, self._forward) for number in _FORWARDED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends what still runs, and shows all that was written."""
        for _, process in self._running:
            if process.poll() is None:
                process.kill()
            process.wait()
        for reader in self._readers:
            reader.join()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start(self, command: Sequence[str], *, label: str, environment: Mapping[str, str]) -> None:
        """Starts one more.

        Args:
            command: program and arguments.
            label: in front of each line it writes.
            environment: all of its variables.
        """
        process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # a terminal's Ctrl-C reaches it through this process alone, and once
        )
        self._running.append((label, process))
        for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
            assert source is not None
            reader = threading.Thread(target=_copy, args=(source, target, label), daemon=True)
            reader.start()
            self._readers.append(reader)

    def wait(self) -> int:
        """Waits until all have ended.

        Returns:
            0, or the exit code of the first that failed: 128 + the signal's number where one ended it.
        """
        failed: int | None = None
        until = float("inf")
        while self._still_running() and time.monotonic() < until:
            time.sleep(_LOOK)
            if failed is None and (failed := self._failure()) is not None:
                until = time.monotonic() + self._grace
        for label, process in self._running:
            if process.poll() is None:
                _say(f"{label.strip()} does not end by itself and is killed.")
                process.kill()
                process.wait()
        failed = self._failure() if failed is None else failed
        return 0 if failed is None else failed

    def _still_running(self) -> int:
        """Returns how many go on. Every one is asked, also behind one that goes on: only asking finds out its exit
        code.
        """
        return sum(process.poll() is None for _, process in self._running)

    def _failure(self) -> int | None:
        """Returns the exit code of a process that failed; one that lost another says less than that other one."""
        ended = [(label, process.returncode) for label, process in self._running if process.returncode]
        if not ended:
            return None
        label, code = min(ended, key=lambda entry: entry[1])  # signals are negative, and come first
        shown = 128 - code if code < 0 else code
        if code != _INTERRUPTED:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            _say(f"process {label.strip()} {how}; the others are ended too (exit code {shown}).")
        return shown

    def _forward(self, number: int, frame: FrameType | None) -> None:
        at_once = self._asked and number == signal.SIGINT
        self._asked = True
        for _, process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)


def _copy(source: IO[str], target: Any, label: str) -> None:
    with source:
        for line in source:
            target.write(f"{label}{line}")
            target.flush()


def _say(text: str) -> None:
    print(f"easydel launch: {text}", file=sys.stderr, flush=True)
