"""A thread that prepares the next steps while the device works on this one.

Each prepared item carries the data position *behind* it, so that a checkpoint taken after a step names the rows
that were trained, however many more have been read ahead.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

_PATIENCE = 0.2  # seconds between two looks at whether to wait on
_LAST_PATIENCE = 3.0  # seconds that a given-up thread has to finish what it is at


class Prefetched(Generic[Item]):
    """Iterate over `items` with a thread reading ahead.

    An exception of `items` is raised to the consumer in its place in the order. Use as a context manager: on
    leaving, the thread ends.

    Args:
        items: what to read, only ever touched by the thread.
        depth: items held ready. At least 1.
        give_up: asked while waiting for the next item; once it is true, iteration ends without it.
    """

    def __init__(self, items: Iterator[Item], *, depth: int = 2, give_up: Callable[[], bool] = lambda: False):
        self._items, self._give_up = items, give_up
        self._ready: queue.Queue[_Item[Item] | _End] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)

    def __enter__(self) -> Prefetched[Item]:
        """Starts reading ahead."""
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """See `close`."""
        self.close()

    def close(self) -> None:
        """Stops reading ahead and waits for the thread to end; once given up, only for as long as work may take.

        A thread that is in the middle of native code when the interpreter ends takes the process down with it, so
        even a run that was told to stop waits for it a little. One that waits for rows that never come is left behind.
        """
        self._stop.set()
        given_up = None
        while self._thread.is_alive():
            if self._give_up():
                given_up = given_up or time.monotonic()
                if time.monotonic() - given_up > _LAST_PATIENCE:
                    return
            self._drain()
            self._thread.join(timeout=0.05)

    def __iter__(self) -> Iterator[Item]:
        """Yields the items in order."""
        while (got := self._next_ready()) is not None:
            if isinstance(got, _End):
                if got.error is not None:
                    raise got.error
                return
            yield got.value

    def _next_ready(self) -> _Item[Item] | _End | None:
        while True:
            try:
                return self._ready.get(timeout=_PATIENCE)
            except queue.Empty:
                if self._give_up():
                    return None

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for value in self._items:
                if not self._put(_Item(value)):
                    return
        except BaseException as caught:  # noqa: BLE001 - not swallowed: the consumer raises it
            error = caught
        self._put(_End(error))

    def _put(self, item: _Item[Item] | _End) -> bool:
        while not self._stop.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def _drain(self) -> None:
        try:
            while True:
                self._ready.get_nowait()
        except queue.Empty:
            return


class _Item(Generic[Item]):
    def __init__(self, value: Item):
        self.value = value


class _End:
    def __init__(self, error: BaseException | None):
        self.error = error
