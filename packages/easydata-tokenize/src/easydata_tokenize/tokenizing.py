"""Tokenize once, train many times: files of rows to a set of tokenized shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from easydata_sources.combined.transformed import TransformedShardedSource
from easydata_sources.convert import as_sharded_source
from easydata_sources.errors import DataError, RowError
from easydata_sources.report import DataReport
from easydata_sources.transforms.transform import CountingTransform, TransformLike

from easydata_tokenize.encode import RowEncoder, located
from easydata_tokenize.examples import TokenExample, read_example
from easydata_tokenize.executors.executor import Executor
from easydata_tokenize.layouts import SFT_LAYOUTS
from easydata_tokenize.saved.folder import SetFolder
from easydata_tokenize.saved.identity import tokenizer_fingerprint
from easydata_tokenize.saved.overlap import refuse_overlap
from easydata_tokenize.saving import WriteStats, save_dataset
from easydata_tokenize.shards.files import check_format, extension
from easydata_tokenize.tokenizer import ChatTokenizer, load_tokenizer
from easydata_tokenize.truncate import kept_tokens

__all__ = ["TokenizeTransform", "tokenize_and_save"]


@final
class TokenizeTransform(CountingTransform):
    """Rows of any layout to `input_ids`, with a `completion_mask` where a row has a prompt of its own.

    What is trained stays open: the trainer's options decide, as for raw rows.

    Args:
        tokenizer: A fast tokenizer; conversations need its chat template.
        max_length: Most tokens of a row, at least 1, cut at the end; None = no limit.
        report: Counter to use; None = a new one. Counted are `truncated` and the notes of `EncodedRow`.
    """

    def __init__(
        self, tokenizer: ChatTokenizer, max_length: int | None = 2048, *, report: DataReport | None = None
    ) -> None:
        if max_length is not None and max_length < 1:
            raise DataError(
                f"`max_length` must be at least 1 or None; found {max_length}.\n  mend: None keeps rows of any length"
            )
        self.max_length = max_length
        self.report = report if report is not None else DataReport()
        self._encoder = RowEncoder(tokenizer)

    def transform_batch(self, rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """Returns the tokenized row for every row.

        Raises:
            RowError: If a row has no known layout or cannot be rendered.
            DataQualityError: If more rows are altered than `report` allows.
        """
        self.report.saw(len(rows))
        examples = [located(index, self._read, row) for index, row in enumerate(rows)]
        for index, example in enumerate(examples):
            if isinstance(example, TokenExample):
                raise RowError("Row is tokenized already.", row_in_batch=index, column="input_ids")
        outputs = []
        for row in self._encoder.encode([example for example in examples if not isinstance(example, TokenExample)]):
            kept = kept_tokens(len(row.input_ids), self.max_length)
            for note in [*row.notes, *(["truncated"] if kept.stop < len(row.input_ids) else [])]:
                self.report.count(note)
            output: dict[str, Any] = {"input_ids": row.input_ids[kept]}
            if row.completion_start is not None:
                positions = range(len(output["input_ids"]))
                output["completion_mask"] = [int(position >= row.completion_start) for position in positions]
            outputs.append([output])
        self.report.check()
        return outputs

    def _read(self, row: Mapping[str, Any]) -> Any:
        return read_example(row, SFT_LAYOUTS, has_template=self._encoder.has_template)


def tokenize_and_save(
    data_files: Any,
    tokenizer: str | Path | ChatTokenizer,
    output_path: str | Path,
    output_format: str = "parquet",
    max_length: int | None = 2048,
    *,
    transform: TransformLike | None = None,
    max_shard_size: int | str = "500MB",
    num_shards: int | None = None,
    compression: str | None = None,
    row_group_size: int = 4096,
    storage_options: Mapping[str, Any] | None = None,
    output_storage_options: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    num_proc: int | None = None,
    show_progress: bool = True,
    overwrite: bool = False,
    assume_same: bool = False,
) -> WriteStats:
    """Tokenizes rows and writes them; run again after a kill, it goes on; finished, it does nothing.

    Args:
        data_files: A path, glob, folder or URL, or anything else that `as_sharded_source` takes.
        tokenizer: A tokenizer, or a folder, Hub id or `.gguf` file of one.
        output_path: Folder to write, or the URL of one in a bucket.
        output_format: `parquet`, `arrow` or `jsonl`.
        max_length: Most tokens of a row.
        transform: What to apply instead of `TokenizeTransform`, such as a trainer's `…PreprocessTransform`; it brings
            its own lengths.
        max_shard_size: As of `save_dataset`.
        num_shards: As of `save_dataset`.
        compression: As of `save_dataset`.
        row_group_size: Rows that are written, and can be lost to a kill, at a time.
        storage_options: Arguments of the file system that `data_files` is on.
        output_storage_options: Arguments of the file system that `output_path` is on.
        executor: Who does the work, as of `save_dataset`.
        num_proc: Short for `executor=ProcessPool(num_proc)`.
        show_progress: As of `save_dataset`.
        overwrite: Begin anew in place of the set that the folder holds.
        assume_same: As of `save_dataset`.

    Raises:
        SavedSetDiffersError: If the folder holds a set of another tokenizer, input or config.
        ForeignFilesError: If the folder holds anything but a set.
        OverlapError: If it lies in the input, or the input in it.
        SetInUseError: If another process writes to it.
        DataError: If rows cannot be read, or the folder cannot be written to.
    """
    loaded: Any = load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    applied = TokenizeTransform(loaded, max_length) if transform is None else transform
    source = as_sharded_source(data_files, storage_options=storage_options)
    folder = SetFolder(output_path, output_storage_options)
    check_format(output_format, compression)
    refuse_overlap(folder, data_files, (), extension(output_format, compression), storage_options)
    return save_dataset(
        TransformedShardedSource(source, applied),
        output_path,
        output_format,
        max_shard_size,
        num_shards,
        compression,
        identity={"tokenizer": tokenizer_fingerprint(loaded), "tokenizer_name": _name(tokenizer, loaded)},
        row_group_size=row_group_size,
        output_storage_options=output_storage_options,
        executor=executor,
        num_proc=num_proc,
        show_progress=show_progress,
        overwrite=overwrite,
        assume_same=assume_same,
    )


def _name(given: Any, loaded: Any) -> str:
    """Returns what people call the tokenizer, for error messages."""
    return str(given) if isinstance(given, str | Path) else str(getattr(loaded, "name_or_path", None) or "a tokenizer")
