"""Rows written as a set of shards: whole or not at all, counted, and continued where a kill left it.

A set is a folder, here or in a bucket, of `shard-00000.parquet` …, of the lengths of their rows (`_lengths/`), and of
`_manifest.json`. A run that was killed goes on behind its last group of rows and writes the same bytes as one that was
not, whoever does the work. A set that is complete is left alone, and one of another source, transform or option is
refused, naming what differs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from easydata_sources.convert import as_sharded_source
from easydata_sources.errors import DataError
from easydata_sources.formats.file_source import FileSource
from easydata_sources.report import add_counts
from easydata_sources.source import ShardedDataSource

from easydata_tokenize.executors.executor import Executor, InProcess
from easydata_tokenize.executors.process_pool import ProcessPool
from easydata_tokenize.saved.counts import counts_of, reports_of
from easydata_tokenize.saved.differences import not_comparable
from easydata_tokenize.saved.folder import SetFolder
from easydata_tokenize.saved.identity import describe_rows
from easydata_tokenize.saved.lock import one_writer
from easydata_tokenize.saved.manifest import Manifest, SavedSetDiffersError
from easydata_tokenize.saved.overlap import refuse_overlap
from easydata_tokenize.saved.tokenizers import set_tokenizers
from easydata_tokenize.shards.files import check_format, extension
from easydata_tokenize.shards.progress import progress_bar
from easydata_tokenize.shards.row_groups import ShardLimits, parse_size
from easydata_tokenize.shards.shard_work import ShardLayout, ShardWork
from easydata_tokenize.shards.work_plan import divide, source_below

__all__ = ["WriteStats", "save_dataset", "save_iterator"]

logger = logging.getLogger(__name__)

_GROUP_ROWS = 4096
_ITERATOR = "an iterator"


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
    assume_same: bool = False,
) -> WriteStats:
    """Writes the rows of a source; run again after a kill, it goes on; finished, it does nothing.

    Each file of the source becomes one shard or several, or many small ones one together; a source that is no files is
    one stretch of rows. The folder must be new, empty, or hold such a set and nothing else: no file that a manifest of
    such a set does not list is ever written over or removed. One process writes to it at a time.

    A set is the same set if source, transforms and options are the same by content: files by checksum (large ones by
    size, time and samples), rows in memory and data sets by their values, functions by their code and what they use.

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
        overwrite: Begin anew in place of the set that the folder holds.
        assume_same: Go on with a set, or accept it, although parts of what it was made of cannot be compared (a stream,
            a source without `identity`), or functions have another code.

    Raises:
        SavedSetDiffersError: If the folder holds a set of other rows, or one of which this cannot be known.
        IncompleteSetError: If a file of it has gone meanwhile.
        ForeignFilesError: If the folder holds anything but a set.
        OverlapError: If it lies in the input, or the input in it.
        SetInUseError: If another process writes to it.
        WorkerError: If workers die again and again without getting on.
        DataError: If an argument is out of range, or the folder cannot be written to.
    """
    rows = as_sharded_source(source, storage_options=storage_options)
    layout = _layout(format, compression, max_shard_size, row_group_size)
    chosen = _executor(executor, num_proc)
    folder = SetFolder(output_path, output_storage_options)
    refuse_overlap(folder, source, rows.data_files(), extension(format, compression), storage_options)
    works = dict(enumerate(divide(rows, folder, layout, num_shards)))
    described = {**describe_rows(rows), "num_shards": num_shards, **_described_layout(layout), **(identity or {})}
    if made := [one.fingerprint for one in set_tokenizers(rows)]:
        described["input"] = [{"tokenizer": fingerprint} for fingerprint in made]
    how = _How(executor=chosen, show_progress=show_progress, overwrite=overwrite, assume_same=assume_same)
    return _write(folder, described, works, rows, how)


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
    """Writes rows that come from anywhere, to the end of the iterator.

    An iterator cannot be continued: a run that was killed begins anew. Use `save_dataset` where there is a source. For
    the other arguments see `save_dataset`.

    Raises:
        SavedSetDiffersError: If the folder holds a complete set.
        DataError: If an argument is out of range, or the folder cannot be written to.
    """
    folder = SetFolder(output_path, output_storage_options)
    found = Manifest.find(folder)
    if found is not None and not overwrite and not found.removed:
        if found.complete:
            raise SavedSetDiffersError(
                f"{folder} holds a complete set of {sum(shard['rows'] for shard in found.shards)} rows, and an "
                "iterator cannot be compared with it.\n  mend: another output_path, or overwrite=True"
            )
        if found.identity.get("source") != _ITERATOR:
            raise SavedSetDiffersError(
                f"{folder} holds a set that save_dataset or tokenize_and_save has begun, and that goes on when it is "
                "called again.\n  mend: another output_path, or overwrite=True"
            )
    layout = _layout(format, compression, max_shard_size, row_group_size)
    work = ShardWork(source=iter(iterator), folder=folder, prefix="shard", numbered=True, layout=layout)
    described = {"source": _ITERATOR, **_described_layout(layout)}
    how = _How(executor=InProcess(max_retries=0), show_progress=show_progress, overwrite=True, assume_same=True)
    return _write(folder, described, {0: work}, None, how)


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    executor: Executor
    show_progress: bool
    overwrite: bool
    assume_same: bool


def _write(
    folder: SetFolder,
    described: Mapping[str, Any],
    works: Mapping[int, ShardWork],
    source: ShardedDataSource | None,
    how: _How,
) -> WriteStats:
    before, identity = counts_of(source), json.loads(json.dumps(described))
    try:
        manifest = None if how.overwrite else Manifest.find(folder)
        if manifest is not None and manifest.complete:
            manifest.refuse_other(identity, assume_same=how.assume_same)
            manifest.check_files()
        else:
            with one_writer(folder):
                manifest = _manifest(folder, identity, how)
                if not manifest.complete:
                    _run(folder, manifest, works, source, how)
    except OSError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"The folder {folder} cannot be written to: {error}.\n"
            "  mend: make room or choose another output_path; what is whole stays, and the next run goes on behind it"
        ) from error
    _tell(source, before, manifest.counted)
    return _stats(folder, manifest)


def _run(
    folder: SetFolder,
    manifest: Manifest,
    works: Mapping[int, ShardWork],
    source: ShardedDataSource | None,
    how: _How,
) -> None:
    left = {number: work for number, work in works.items() if not manifest.holds(number)}
    total = _source_rows(source) if len(left) == len(works) else None
    title = f"Writing {folder.url.rpartition('/')[2]}"
    with progress_bar(title, total, shown=how.show_progress) as on_commit:
        how.executor.run(left, finished=manifest.enter, on_commit=on_commit)
    manifest.finish()


def _layout(format: str, compression: str | None, max_shard_size: int | str, row_group_size: int) -> ShardLayout:
    check_format(format, compression)
    limits = ShardLimits(max_bytes=parse_size(max_shard_size), max_rows=None, group_rows=row_group_size)
    return ShardLayout(format=format, compression=compression, limits=limits)


def _manifest(folder: SetFolder, identity: dict[str, Any], how: _How) -> Manifest:
    found = Manifest.find(folder)
    if found is None or how.overwrite or found.removed:
        if unknown := not_comparable(identity):
            logger.warning(
                "When this is written again, it will have to be confirmed (assume_same=True) that it is the same: %s",
                "; ".join(unknown[:5]),
            )
        return Manifest.begin(folder, identity, found)
    found.refuse_other(identity, assume_same=how.assume_same)
    if not found.complete:
        found.refuse_foreign()
    found.check_files()
    return found


def _executor(executor: Executor | None, num_proc: int | None) -> Executor:
    if executor is not None and num_proc is not None:
        raise DataError("Only one of `executor` and `num_proc` can be given: both say who does the work.")
    return executor or (InProcess() if num_proc is None else ProcessPool(num_proc))


def _tell(source: ShardedDataSource | None, before: list[dict[str, Any]], counted: list[dict[str, Any]]) -> None:
    """Gives the caller's reports what was counted, here or elsewhere, in this run or an earlier one."""
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
    """Returns rows to be read, if that is known without reading far away."""
    below = None if source is None else source_below(source)
    if below is None or (isinstance(below, FileSource) and any(file.remote for file in below.files)):
        return None
    try:
        return len(below)
    except TypeError:
        return None


def _described_layout(layout: ShardLayout) -> dict[str, Any]:
    limits = {name: value for name, value in asdict(layout.limits).items() if name != "max_rows"}
    return {"format": layout.format, "compression": layout.compression, **limits}
