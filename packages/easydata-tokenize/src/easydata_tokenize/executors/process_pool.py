"""ProcessPool: units of work in several processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast, final

from easydata_sources.errors import DataError

from easydata_tokenize.executors.executor import Executor, Finished, Tries
from easydata_tokenize.saved.manifest import WrittenUnit
from easydata_tokenize.shards.progress import OnCommit, Progress
from easydata_tokenize.shards.shard_work import ShardWork

__all__ = ["ProcessPool"]


@final
class ProcessPool(Executor):
    """Does units of work in several processes, each a fresh Python that imports what it needs.

    A process that dies (killed by the system for its memory, say) costs the group of rows it was at: another takes its
    unit over. Transforms must be picklable: a function of a module, or an instance of a class of one.

    Args:
        num_workers: Processes; None = one for each core.
        max_retries: Further tries of a unit that fails without getting on.

    Raises:
        DataError: If an argument is out of range.
    """

    def __init__(self, num_workers: int | None = None, *, max_retries: int = 3) -> None:
        super().__init__(max_retries=max_retries)
        self.num_workers = (os.cpu_count() or 1) if num_workers is None else num_workers
        if self.num_workers < 1:
            raise DataError(f"`num_workers` must be at least 1; found {num_workers}.")

    def run(self, works: Mapping[int, ShardWork], *, finished: Finished, on_commit: OnCommit) -> None:
        tries, waiting = Tries(works, self.max_retries), list(works)
        workers = [_Worker(self._threads(len(works))) for _ in range(min(self.num_workers, len(works)))]
        try:
            while waiting or any(worker.busy for worker in workers):
                for worker in workers:
                    if waiting and not worker.busy:
                        worker.send(waiting[0], works[waiting[0]])
                        del waiting[0]
                readable = wait([worker.pipe for worker in workers if worker.busy])
                for worker in [worker for worker in workers if worker.busy and worker.pipe in readable]:
                    unit, message = worker.receive()
                    if isinstance(message, Progress):
                        on_commit(message)
                    elif isinstance(message, WrittenUnit):
                        finished(unit, message)
                    else:
                        tries.failed(unit, message)
                        waiting.insert(0, unit)
        finally:
            for worker in workers:
                worker.end()

    def _threads(self, works: int) -> int:
        """Returns the threads for the tokenizer in each process."""
        # By itself it would start as many as there are cores, in each.
        return max(1, (os.cpu_count() or 1) // max(1, min(self.num_workers, works)))


class _Worker:
    """A process that does one unit after the other, and another in its place when it dies."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._unit: int | None = None

    @property
    def busy(self) -> bool:
        return self._unit is not None

    def send(self, unit: int, work: ShardWork) -> None:
        """Sends a unit of work, to a new process if there is none.

        Raises:
            DataError: If the work cannot be sent.
        """
        if self._process is None:
            # A fork of a process with threads (Arrow's, the tokenizer's) may hang; a fresh one never does.
            context = multiprocessing.get_context("spawn")
            self._pipe, there = context.Pipe()
            self._process = context.Process(target=_serve, args=(there, self._threads), daemon=True)
            self._process.start()
            there.close()
        try:
            content = pickle.dumps(work)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise DataError(
                f"The work cannot be sent to another process: {error}.\n"
                "  mend: use functions and classes of a module in transforms, no lambdas; or leave num_workers out"
            ) from error
        self._unit = unit
        with suppress(BrokenPipeError):  # it died meanwhile, which its silence will tell
            self.pipe.send_bytes(content)

    def receive(self) -> tuple[int, Progress | WrittenUnit | OSError | str]:
        """Returns the unit at work and its message, maybe a failure; raises what another try would raise again."""
        unit = cast(int, self._unit)
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionError):
            return unit, self._buried()
        if isinstance(message, Progress):
            return unit, message
        self._unit = None
        if isinstance(message, Exception) and (isinstance(message, DataError) or not isinstance(message, OSError)):
            raise message
        return unit, message

    def end(self) -> None:
        """Ends the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._buried()

    def _buried(self) -> str:
        process = cast(BaseProcess, self._process)
        process.join()
        self.pipe.close()
        self._process = self._pipe = self._unit = None
        return f"worker {process.pid} died, exit code {process.exitcode}"

    @property
    def pipe(self) -> Connection:
        """The connection to the process; only if there is one."""
        return cast(Connection, self._pipe)


def _serve(pipe: Connection, threads: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    while True:
        try:
            work = pickle.loads(pipe.recv_bytes())
            pipe.send(work.run(pipe.send))
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again in the process that asked
            pipe.send(error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
