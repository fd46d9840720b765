"""Where reward functions run: in the caller's thread, or in one thread of their own that stays for the whole run.

A time limit needs a thread, since nothing stops a call but leaving it behind. It is always the same one, so that what a
function keeps by thread (a connection to a database, say) is there at the next step; and coroutine functions always run
in the same event loop, so that a lock or a client that belongs to it does, too.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, final


class GaveUpError(TimeoutError):
    """We stopped waiting; not an error of the function's own."""


@final
class CallThread:
    """One thread that makes calls, one after the other.

    Args:
        timeout: seconds that a call may take; `None` = for ever.
    """

    def __init__(self, timeout: float | None):
        self._timeout = timeout
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] | None = None

    def __call__(self, call: Callable[[], Any]) -> Any:
        """Returns what `call` returns or raises.

        Raises:
            GaveUpError: if it takes too long; then its thread is left behind, and the next call gets a new one.
        """
        calls, answer = self._calls or self._start(), Future[Any]()
        calls.put((call, answer))
        try:
            return answer.result(self._timeout)
        except TimeoutError:
            if answer.done():
                raise  # the call's own
            self._calls = None
            raise GaveUpError from None

    def _start(self) -> queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]]:
        calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(calls,), name="reward functions", daemon=True).start()
        self._calls = calls
        return calls


@final
class CoroutineLoop:
    """One event loop in a thread of its own, in which coroutines run together.

    Args:
        timeout: seconds that each may take; `None` = for ever.
    """

    def __init__(self, timeout: float | None):
        self._timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None

    def gather(self, coroutines: Sequence[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
        """Returns what all of them return, or the errors that they raise; a `GaveUpError` for one that took too long.

        Raises:
            GaveUpError: if the loop itself hangs: a coroutine blocks it. It is left behind.
        """
        loop = self._loop or self._start()

        async def one(make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
            task = asyncio.ensure_future(make())
            done, _ = await asyncio.wait([task], timeout=self._timeout)
            if not done:
                task.cancel()
                raise GaveUpError
            return task.result()

        async def together() -> list[Any]:
            return await asyncio.gather(*(one(make) for make in coroutines), return_exceptions=True)

        answer = asyncio.run_coroutine_threadsafe(together(), loop)
        try:
            return answer.result(None if self._timeout is None else self._timeout + 1)
        except TimeoutError:
            self._loop = None
            raise GaveUpError from None

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="async reward functions", daemon=True).start()
        self._loop = loop
        return loop


def _serve(calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]]) -> None:
    while True:
        call, answer = calls.get()
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - not swallowed: raised to whoever waits
            answer.set_exception(error)
