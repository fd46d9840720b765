"""Names of columns: of two with the same name, a row would hold the last only."""

from __future__ import annotations

from collections.abc import Sequence

from easydata_sources.errors import DataFormatError
from easydata_sources.storage.files import DataFile


def repeated_names(names: Sequence[str]) -> list[str]:
    """Returns the names that occur more than once, in order."""
    seen: set[str] = set()
    return list(dict.fromkeys(name for name in names if name in seen or seen.add(name)))


def check_names(file: DataFile, names: Sequence[str]) -> None:
    """Raises if columns of a file share a name.

    Raises:
        DataFormatError: Naming them; reason `duplicate_names`.
    """
    twice = repeated_names(names)
    if not twice:
        return
    raise DataFormatError(
        "Columns of a file have the same name.",
        file=file.name,
        column=", ".join(map(repr, twice[:5])),
        found=f"{len(names)} columns: {', '.join(names)[:200]}",
        expected="a name of its own for every column",
        mend="rename them where the file is written",
        reason="duplicate_names",
    )
