"""Rows written as a set of shards: whole or not at all, counted, and continued where a kill left it.

A set is a folder, here or in a bucket, of `shard-00000.parquet` …, of the lengths of their rows (`_lengths/`), and of
`_manifest.json`. A run that was killed goes on behind its last group of rows and writes the same bytes as one that was
not, whoever does the work. A set that is complete is left alone, and one of another source, transform or option is
refused, naming what differs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from easydata_sources.chunked import FileSource
from easydata_sources.convert import as_sharded_source
from easydata_sources.errors import DataError
from easydata_sources.source import ShardedDataSource

from easydata_tokenize.counted import add_counts, counts_of, reports_of
from easydata_tokenize.described import describe_transforms
from easydata_tokenize.executors import Executor, InProcess
from easydata_tokenize.manifest import Manifest, SavedSetDiffersError
from easydata_tokenize.process_pool import ProcessPool
from easydata_tokenize.progress import progress_bar
from easydata_tokenize.row_groups import ShardLimits, parse_size
from easydata_tokenize.set_folder import SetFolder
from easydata_tokenize.shard_files import check_format
from easydata_tokenize.shard_work import ShardLayout, ShardWork
from easydata_tokenize.work_plan import divide, source_below

__all__ = ["WriteStats", "save_dataset", "save_iterator"]

_GROUP_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteStats:
    """What a set holds.

    Attributes:
        num_examples: rows.
        num_shards: files.
        num_tokens: tokens in `input_ids`, or in all columns that end in `_ids`; 0 where there are none.
        total_bytes: size of the files.
        output_paths: the files, in order.
        counts: rows that the transforms dropped or altered, by reason, in the whole set.
    """

    num_examples: int
    num_shards: int
    num_tokens: int
    total_bytes: int
    output_paths: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


def save_dataset(  # noqa: PLR0917 - positions that users of such functions know
    source: Any,
    output_path: str | Path,
    format: str = "parquet",
    max_shard_size: int | str = "500MB",
    num_shards: int | None = None,
    compression: str | None = None,
    *,
    row_group_size: int = _GROUP_ROWS,
    identity: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    output_storage_options: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    num_proc: int | None = None,
    show_progress: bool = True,
    overwrite: bool = False,
) -> WriteStats:
    """Write the rows of a source; run again after a kill, it goes on; finished, it does nothing.

    Each file of the source becomes one shard or several; a source that is no files is one stretch of rows.

    Args:
        source: Whatever `as_sharded_source` takes.
        output_path: Folder to write, or the URL of one in a bucket; made if absent.
        format: `parquet`, `arrow` or `jsonl`.
        max_shard_size: Largest shard in memory, in bytes or as in "500MB" (units of 1024).
        num_shards: Write so many shards of equal source rows instead; needs a source of known length.
        compression: Parquet: "snappy" (unless given), "zstd", "gzip", "brotli", "lz4" or "none"; jsonl: "gzip";
            arrow: "zstd" or "lz4".
        row_group_size: Rows that are written, and can be lost to a kill, at a time.
        identity: What else the rows depend on, such as a tokenizer's fingerprint; compared when the set is continued.
        storage_options: Arguments of the file system, if `source` is a path.
        output_storage_options: Arguments of the file system of `output_path`.
        executor: Who does the work: `InProcess()` (unless given), `ProcessPool(…)`, `RayExecutor(…)`.
        num_proc: Short for `executor=ProcessPool(num_proc)`.
        show_progress: Whether to show rows, rows/s, tokens/s and the time left, on a terminal.
        overwrite: Begin anew, whatever the folder holds.

    Raises:
        SavedSetDiffersError: If the folder holds a set of other rows.
        WorkerError: If workers die again and again without getting on.
        DataError: If an argument is out of range, or the folder cannot be written to.
    """
    rows = as_sharded_source(source, storage_options=storage_options)
    layout = _layout(format, compression, max_shard_size, row_group_size)
    described = {"source": _described(rows), "num_shards": num_shards, **_described_layout(layout)}
    described |= {"transforms": describe_transforms(rows), **(identity or {})}
    chosen = _executor(executor, num_proc)
    folder = SetFolder(output_path, output_storage_options)
    works = dict(enumerate(divide(rows, folder, layout, num_shards)))
    return _write(folder, described, works, rows, executor=chosen, show_progress=show_progress, overwrite=overwrite)


def save_iterator(
    iterator: Iterable[Mapping[str, Any]],
    output_path: str | Path,
    format: str = "parquet",
    max_shard_size: int | str = "500MB",
    compression: str | None = None,
    *,
    row_group_size: int = _GROUP_ROWS,
    output_storage_options: Mapping[str, Any] | None = None,
    show_progress: bool = True,
    overwrite: bool = False,
) -> WriteStats:
    """Write rows that come from anywhere, to the end of the iterator.

    An iterator cannot be continued: a run that was killed begins anew. Use `save_dataset` where there is a source. For
    the other arguments see `save_dataset`.

    Raises:
        SavedSetDiffersError: If the folder holds a complete set.
        DataError: If an argument is out of range, or the folder cannot be written to.
    """
    folder = SetFolder(output_path, output_storage_options)
    found = None if overwrite else Manifest.find(folder)
    if found is not None and found.complete:
        raise SavedSetDiffersError(
            f"{folder} holds a complete set of {sum(shard['rows'] for shard in found.shards)} rows, and an iterator "
            "cannot be compared with it.\n  mend: another output_path, or overwrite=True"
        )
    layout = _layout(format, compression, max_shard_size, row_group_size)
    work = ShardWork(source=iter(iterator), folder=folder, prefix="shard", numbered=True, layout=layout)
    described = {"source": "an iterator", **_described_layout(layout)}
    once = InProcess(max_retries=0)
    return _write(folder, described, {0: work}, None, executor=once, show_progress=show_progress, overwrite=True)


def _write(
    folder: SetFolder,
    identity: Mapping[str, Any],
    works: Mapping[int, ShardWork],
    source: ShardedDataSource | None,
    *,
    executor: Executor,
    show_progress: bool,
    overwrite: bool,
) -> WriteStats:
    before = counts_of(source)
    try:
        manifest = _manifest(folder, json.loads(json.dumps(identity)), overwrite=overwrite)
        if not manifest.complete:
            left = {number: work for number, work in works.items() if not manifest.holds(number)}
            total = _source_rows(source) if len(left) == len(works) else None
            title = f"Writing {folder.url.rpartition('/')[2]}"
            with progress_bar(title, total, shown=show_progress) as heard:
                executor.run(left, finished=manifest.enter, heard=heard)
            manifest.finish()
    except OSError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"The folder {folder} cannot be written to: {error}.\n"
            "  mend: make room or choose another output_path; what is whole stays, and the next run goes on behind it"
        ) from error
    _tell(source, before, manifest.counted)
    return _stats(folder, manifest)


def _layout(format: str, compression: str | None, max_shard_size: int | str, row_group_size: int) -> ShardLayout:
    check_format(format, compression)
    limits = ShardLimits(max_bytes=parse_size(max_shard_size), max_rows=None, group_rows=row_group_size)
    return ShardLayout(format=format, compression=compression, limits=limits)


def _manifest(folder: SetFolder, identity: dict[str, Any], *, overwrite: bool) -> Manifest:
    found = None if overwrite else Manifest.find(folder)
    if found is None:
        folder.make()
        folder.clear_temporary()
        return Manifest.begin(folder, identity)
    found.refuse_other(identity)
    if not found.complete:
        folder.clear_temporary()
    return found


def _executor(executor: Executor | None, num_proc: int | None) -> Executor:
    if executor is not None and num_proc is not None:
        raise DataError("Only one of `executor` and `num_proc` can be given: both say who does the work.")
    return executor or (InProcess() if num_proc is None else ProcessPool(num_proc))


def _tell(source: ShardedDataSource | None, before: list[dict[str, Any]], counted: list[dict[str, Any]]) -> None:
    """Give the caller's reports what was counted, here or elsewhere, in this run or an earlier one."""
    for report, earlier, now in zip(reports_of(source), before, counted, strict=False):
        report.load_dict(add_counts([earlier, now]))


def _stats(folder: SetFolder, manifest: Manifest) -> WriteStats:
    shards = manifest.shards
    return WriteStats(
        num_examples=sum(shard["rows"] for shard in shards),
        num_shards=len(shards),
        num_tokens=sum(shard["tokens"] for shard in shards),
        total_bytes=sum(shard["bytes"] for shard in shards),
        output_paths=tuple(folder.address(shard["file"]) for shard in shards),
        counts=add_counts(manifest.counted)["counts"],
    )


def _source_rows(source: ShardedDataSource | None) -> int | None:
    """Rows to be read, if that is known without reading far away."""
    below = None if source is None else source_below(source)
    if below is None or (isinstance(below, FileSource) and any(file.remote for file in below.files)):
        return None
    try:
        return len(below)
    except TypeError:
        return None


def _described(source: ShardedDataSource) -> list[Any]:
    """What of a source can be compared without reading it: its shards with their sizes or rows."""
    infos = [(name, source.get_shard_info(name)) for name in source.shard_names]
    return [[name, info and info.num_rows, info and info.byte_size] for name, info in infos]


def _described_layout(layout: ShardLayout) -> dict[str, Any]:
    limits = {name: value for name, value in asdict(layout.limits).items() if name != "max_rows"}
    return {"format": layout.format, "compression": layout.compression, **limits}
