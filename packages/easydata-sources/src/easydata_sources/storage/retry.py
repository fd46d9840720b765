"""Reads that survive network failures: wait, then continue at the position reached, never from the start.

The usual decorator around a generator function retries nothing, because the failure comes after the
function has returned. Here a failed read is reopened at the last position that was handed on, so no row is
lost or repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from easydata_sources.errors import DataError
from easydata_sources.storage.server_faults import as_data_error, reading_failed, transient_errors
from easydata_sources.streams import Chunk
from easydata_sources.types import State

logger = logging.getLogger(__name__)

T = TypeVar("T")

# These say that the request was understood and refused; asking again gives the same answer.
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often and how patiently a failed read of a remote file is repeated."""

    attempts: int = 5
    """Tries in a row without a single row read in between; 1 = never retry."""
    first_delay: float = 0.2
    """Seconds before the second try; doubles with every further one."""
    max_delay: float = 10.0
    """Longest wait between two tries, in seconds."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_delay < 0 or self.max_delay < 0:
            raise DataError(f"RetryPolicy needs attempts >= 1 and delays >= 0 seconds; got {self}.")

    def wait(self, failures: int, error: Exception, what: str) -> None:
        """Sleeps before try number `failures + 1` at reading `what`, or raises `error` when the tries are used up.

        Raises:
            Exception: `error`, if it was the last try or another one cannot help.
        """
        translated = as_data_error(error, what)
        if failures >= self.attempts or isinstance(error, _LASTING) or isinstance(translated, _LASTING):
            if translated is None and not isinstance(error, (DataError, *_LASTING)):
                translated = reading_failed(error, what)
            raise error if translated is None else translated from error
        delay = min(self.first_delay * 2 ** (failures - 1), self.max_delay)
        said = (str(error).splitlines() or [type(error).__name__])[0]
        logger.warning("Reading %s failed (%s); try %d in %.1f s", what, said, failures + 1, delay)
        time.sleep(delay)


def read_resiliently(
    open_at: Callable[[State], Iterator[Chunk]], state: State, *, policy: RetryPolicy, what: str
) -> Iterator[Chunk]:
    """Yields the chunks of `open_at(state)`; after a transient error reopen at the position reached.

    Raises:
        DataUnreachableError: For the last failure, once `policy.attempts` tries in a row have given nothing.
    """
    failures = 0
    while True:
        try:
            for chunk in open_at(state):
                yield chunk
                state, failures = chunk.state_after(len(chunk.rows)), 0
        except transient_errors() as error:
            failures += 1
            policy.wait(failures, error, what)
        else:
            return


def call_resiliently(function: Callable[[], T], *, policy: RetryPolicy, what: str) -> T:
    """Returns `function()`, repeating it after a transient error as the policy says."""
    failures = 0
    while True:
        try:
            return function()
        except transient_errors() as error:
            failures += 1
            policy.wait(failures, error, what)
