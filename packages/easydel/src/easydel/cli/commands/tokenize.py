"""`easydel tokenize ROWS FOLDER`: tokenize once, train many times."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, final

import tyro

from easydel.cli.output.errors import EXIT_OK, CommandError
from easydel.cli.settings.command_line import parse_flags


@final
@dataclass(frozen=True, kw_only=True)
class TokenizeFlags:
    """Tokenize rows and write them to a folder that any trainer reads as its train_dataset.

    A folder that is half written is gone on with; a finished one is left as it is. With --like, rows are made as the
    training of that file would make them, with its template, masks and lengths; else what is trained stays open.
    """

    rows: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROWS")]
    """A path, glob or URL of files, hub://OWNER/NAME:SPLIT, or demo://NAME/SPLIT."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """Folder to write."""
    tokenizer: str | None = None
    """Folder, Hub id, .gguf file or package://PACKAGE/FILE of a tokenizer or model. None = that of --like."""
    like: Path | None = None
    """Config file of the training that the rows are for."""
    max_length: int | None = 2048
    """Most tokens of a row. Without --like only."""
    format: Literal["parquet", "arrow", "jsonl"] = "parquet"
    """Kind of the files."""
    max_shard_size: str = "500MB"
    """Largest size of a file."""
    overwrite: bool = False
    """Begin anew in place of the set that the folder holds."""
    assume_same: bool = False
    """Go on with a set although parts of what it was made of cannot be compared: you know that they are the same."""
    json: bool = False
    """Print {"output", "rows", "tokens", "shards", "bytes", "data_report"} as one line of JSON."""


def run(words: Sequence[str], command: str) -> int:
    """Carries out one command line; returns the exit code."""
    flags = parse_flags(TokenizeFlags, words, command=f"easydel {command}")
    if flags.tokenizer is None and flags.like is None:
        raise CommandError("Say which tokenizer: --tokenizer MODEL, or --like CONFIG.yaml for that of a training.")

    from easydata_tokenize import tokenize_and_save
    from easydata_tokenize.saved.folder import SetFolder
    from easydata_tokenize.saved.overlap import refuse_overlap

    from easydel.cli.output.console import print_json
    from easydel.cli.training.rows import open_rows

    if not flags.rows.startswith(("demo://", "hub://", "package://")):
        refuse_overlap(SetFolder(flags.output), flags.rows, (), flags.format, None)
    with tempfile.TemporaryDirectory() as made_rows:
        tokenizer, transform = _how(flags)
        written = tokenize_and_save(
            open_rows(flags.rows, Path(made_rows)),
            tokenizer,
            flags.output,
            flags.format,
            flags.max_length,
            transform=transform,
            max_shard_size=flags.max_shard_size,
            overwrite=flags.overwrite,
            assume_same=flags.assume_same,
        )
    counts = {} if transform is None else {"rows_read": transform.report.rows, **transform.report.counts}
    if flags.json:
        figures = {"rows": written.num_examples, "tokens": written.num_tokens, "shards": written.num_shards}
        print_json({"output": str(flags.output), **figures, "bytes": written.total_bytes, "data_report": counts})
    else:
        said = f"{written.num_examples:,} rows, {written.num_tokens:,} tokens in {written.num_shards:,} files"
        print(f"{flags.output}: {said}")
        if counts:
            print("data: " + ", ".join(f"{count:,} {reason}" for reason, count in counts.items()))
        print(f"Train on it: `train_dataset: {flags.output}`")
    return EXIT_OK


def _how(flags: TokenizeFlags) -> tuple[Any, Any]:
    """Returns the tokenizer, and the transform of a training if one was named."""
    from easydata_tokenize import load_tokenizer

    tokenizer = None if flags.tokenizer is None else load_tokenizer(flags.tokenizer)
    if flags.like is None:
        return tokenizer, None
    from easydel.cli.training.config_yaml import config_of_file
    from easydel.cli.training.trainer import row_transform

    return row_transform(config_of_file(flags.like), tokenizer)
