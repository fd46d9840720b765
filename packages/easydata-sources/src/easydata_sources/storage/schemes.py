"""Data sets that have a name of their own instead of a path: `SCHEME://NAME`.

package://my_rows/data/train.jsonl      a file inside an installed Python package
hub://tatsu-lab/alpaca:train            one split of a data set on the Hugging Face Hub
demo://arithmetic/train                 rows that this machine makes itself (needs `import easydel`)
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from easydata_sources.errors import DataError
from easydata_sources.storage.package_files import resolved

OPENERS: dict[str, str] = {}
"""What a scheme's data sets are opened with, as `module:function`; imported when it is first needed. The function is
given what follows `SCHEME://`, and returns what `as_sharded_source` takes."""


def opened(name: str) -> Any:
    """Returns what stands behind the name of a data set, for `as_sharded_source`; a path or URL of files as it is.

    Raises:
        DataError: If the scheme is `demo` and what makes such rows was not imported.
        PackageFileError: If a package is not installed, or has no such file.
    """
    scheme, found, rest = name.partition("://")
    if not found:
        return name
    if scheme == "hub":
        return _hub_rows(rest)
    if scheme in OPENERS:
        module, _, function = OPENERS[scheme].partition(":")
        return getattr(import_module(module), function)(rest)
    if scheme == "demo":
        raise DataError(f"{name!r} are rows that `easydel` makes.\n  mend: import easydel")
    return resolved(name)


def _hub_rows(rest: str) -> Any:
    from easydata_sources.hf.sources import HuggingFaceShardedSource

    name, _, split = rest.partition(":")
    return HuggingFaceShardedSource(name, split or "train", streaming=False)
