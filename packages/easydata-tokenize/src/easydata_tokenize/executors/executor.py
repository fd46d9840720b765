"""Who does the units of work of a set: this process, several processes, or the workers of a Ray cluster.

All do the same work in the same units, so the files are the same bytes. A unit whose worker died, or whose storage
failed, is given out again and goes on behind its last commit. It may fail several times as long as each time commits
something; without that, its tries are bounded.
"""

from __future__ import annotations

import errno
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeAlias, final

from easydata_sources.errors import DataError

from easydata_tokenize.saved.manifest import WrittenUnit
from easydata_tokenize.shards.progress import OnCommit
from easydata_tokenize.shards.shard_work import ShardWork

__all__ = ["Executor", "Finished", "InProcess", "Tries", "WorkerError"]

logger = logging.getLogger(__name__)

Finished: TypeAlias = Callable[[int, WrittenUnit], None]
"""Is told the number of a unit and what became of it."""

# The system has understood and refused; asked again it says the same.
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


class WorkerError(DataError):
    """A unit of work failed again and again without getting on."""


class Executor(ABC):
    """Does units of work. Abstract: a subclass says where.

    Args:
        max_retries: Further tries of a unit that fails without having committed anything since its last try.

    Raises:
        DataError: If it is negative.
    """

    def __init__(self, *, max_retries: int = 3) -> None:
        if max_retries < 0:
            raise DataError(f"`max_retries` must be at least 0; found {max_retries}.")
        self.max_retries = max_retries

    @abstractmethod
    def run(self, works: Mapping[int, ShardWork], *, finished: Finished, on_commit: OnCommit) -> None:
        """Does all the work.

        Args:
            works: units by number.
            finished: is called in this process for every unit that is done, in any order.
            on_commit: is called in this process for commits; some executors tell only when a unit is done.

        Raises:
            WorkerError: If a unit fails too often.
            DataError: What a unit raised about its rows; another try would raise it again.
        """


@final
class InProcess(Executor):
    """Does one unit after the other, here."""

    def run(self, works: Mapping[int, ShardWork], *, finished: Finished, on_commit: OnCommit) -> None:
        tries = Tries(works, self.max_retries)
        for number, work in works.items():
            while True:
                try:
                    written = work.run(on_commit)
                    break
                except OSError as error:
                    if isinstance(error, DataError):
                        raise
                    tries.failed(number, error)
            finished(number, written)


@final
class Tries:
    """Counts the tries of every unit that did not get on.

    Args:
        works: the units by number.
        most: tries after the first.
    """

    def __init__(self, works: Mapping[int, ShardWork], most: int) -> None:
        self._works, self._most = works, most
        self._failures: dict[int, int] = {}
        self._commits: dict[int, tuple[int, int]] = {}

    def failed(self, number: int, reason: BaseException | str) -> None:
        """Notes a failed try, and waits a moment; raises if there is to be no other.

        Raises:
            OSError: `reason`, if it is one that will not go away.
            WorkerError: If the unit has used up its tries.
        """
        if isinstance(reason, _LASTING) or (isinstance(reason, OSError) and reason.errno in _FULL):
            raise reason
        work = self._works[number]
        try:
            commits = work.commits()
        except OSError:  # the storage is what fails
            commits = self._commits.get(number, (0, 0))
        got_on = commits > self._commits.get(number, (0, 0))
        self._commits[number] = commits
        self._failures[number] = 1 if got_on else self._failures.get(number, 0) + 1
        place = f"{work.prefix} of {work.folder}, which has {commits[0]} shards and {commits[1]} groups of rows"
        if self._failures[number] > self._most:
            raise WorkerError(
                f"The work on {place}, failed {self._failures[number]} times without getting on.\n"
                f"  last: {reason}\n"
                "  mend: look at the reason (memory? a script that starts processes needs "
                '`if __name__ == "__main__":`); run the same call again, it goes on from there'
            ) from (reason if isinstance(reason, BaseException) else None)
        logger.warning("The work on %s, failed (%s); it goes on there", place, reason)
        time.sleep(min(0.1 * 2 ** (self._failures[number] - 1), 5.0))
