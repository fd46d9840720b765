"""The sources of a mixture: named, made readable, and not empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from easydata_sources import ShardedDataSource, as_sharded_source

from easydata_mix.errors import MixtureError


def named_sources(sources: Mapping[str, Any] | Sequence[Any]) -> dict[str, ShardedDataSource]:
    """Return the sources by name; a list's are named `source_0`, `source_1`, …

    Raises:
        MixtureError: If there are none, one is known to be empty, or they are neither a mapping nor a list.
        TypeError: If one of them is not a data set; a note says which.
    """
    if isinstance(sources, str | bytes) or not isinstance(sources, Mapping | Sequence):
        raise MixtureError(
            f"The sources must be a dict of name -> data set, or a list of data sets; found {type(sources).__name__}."
        )
    if not sources:
        raise MixtureError("There is nothing to mix: give at least one source.")
    if not isinstance(sources, Mapping):
        sources = {f"source_{index}": source for index, source in enumerate(sources)}
    named = {}
    for name, source in sources.items():
        if not isinstance(name, str):
            raise MixtureError(f"Names of sources must be strings; found {name!r}.")
        try:
            named[name] = as_sharded_source(source, name=name)
        except (TypeError, ValueError) as error:
            error.add_note(f"while preparing the source {name!r} of a mixture")
            raise
        _refuse_empty(name, named[name])
    return named


def _refuse_empty(name: str, source: ShardedDataSource) -> None:
    """Raise if a source says of itself, without being read, that it holds nothing."""
    # A generator: the first shard that holds something spares asking the others.
    infos = (source.get_shard_info(shard) for shard in source.shard_names)
    if all(info is not None and 0 in (info.num_rows, info.byte_size) for info in infos):
        raise MixtureError(
            f"The source {name!r} is empty, so no share of it can be given. Remove it, or check its files and filters."
        )
