"""RayExecutor: units of work on the machines of a Ray cluster (extra `ray`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from easydata_sources.errors import DataError

from easydata_tokenize.executors.executor import Executor, Finished, Tries
from easydata_tokenize.saved.manifest import WrittenUnit
from easydata_tokenize.shards.progress import OnCommit, Progress
from easydata_tokenize.shards.shard_work import ShardWork

__all__ = ["RayExecutor"]


@final
class RayExecutor(Executor):
    """Does units of work as Ray tasks; every machine must reach the source and the folder of the set.

    A worker or a machine that is lost costs the group of rows it was at: another takes its unit over. Connects to the
    cluster that `ray.init` has connected to, or else to the one of the environment, or else starts one here.

    Args:
        num_workers: Most tasks at a time; None = as many as the cluster has room for.
        max_retries: Further tries of a unit that fails without getting on.
        options: What a task needs, as `ray.remote` takes it, such as `{"num_cpus": 2}`.

    Raises:
        DataError: If an argument is out of range, or Ray is not installed.
    """

    def __init__(
        self, num_workers: int | None = None, *, max_retries: int = 3, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(max_retries=max_retries)
        if num_workers is not None and num_workers < 1:
            raise DataError(f"`num_workers` must be at least 1; found {num_workers}.")
        self.num_workers, self.options = num_workers, dict(options or {})
        _ray()

    def run(self, works: Mapping[int, ShardWork], *, finished: Finished, on_commit: OnCommit) -> None:
        ray = _ray()
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False)
        # Ray's own retries would know nothing of what is committed already.
        task = ray.remote(max_retries=0, **self.options)(_work)
        tries, waiting, busy = Tries(works, self.max_retries), list(works), dict[Any, int]()
        try:
            while waiting or busy:
                while waiting and (self.num_workers is None or len(busy) < self.num_workers):
                    unit = waiting.pop(0)
                    busy[task.remote(works[unit])] = unit
                done, _ = ray.wait(list(busy))
                for reference in done:
                    unit = busy.pop(reference)
                    try:
                        written, progress = ray.get(reference)
                    except (ray.exceptions.RayTaskError, ray.exceptions.RayError, OSError) as error:
                        _judge(error, unit, tries)
                        waiting.insert(0, unit)
                        continue
                    on_commit(progress)
                    finished(unit, written)
        finally:
            for reference in busy:
                ray.cancel(reference, force=True)


def _work(work: ShardWork) -> tuple[WrittenUnit, Progress]:
    made: list[Progress] = []
    written = work.run(made.append)
    return written, Progress(
        source_rows=sum(part.source_rows for part in made),
        rows=sum(part.rows for part in made),
        tokens=sum(part.tokens for part in made),
    )


def _judge(error: Exception, unit: int, tries: Tries) -> None:
    """Raises what another try would raise again; otherwise notes that the try has failed."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception) and (isinstance(cause, DataError) or not isinstance(cause, OSError)):
        raise cause
    tries.failed(unit, cause if isinstance(cause, OSError) else f"{type(error).__name__}: {str(error)[:200]}")


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports] - an extra
        import ray.exceptions  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DataError(
            'Working on a Ray cluster needs Ray, which is not installed.\n  mend: pip install "easydata-tokenize[ray]"'
        ) from error
    return ray
