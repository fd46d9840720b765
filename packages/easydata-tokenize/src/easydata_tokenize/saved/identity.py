"""What the rows of a set depend on, in words that can be stored, compared and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from easydata_sources.combined.transformed import TransformedShardedSource
from easydata_sources.identity import function_identity
from easydata_sources.source import ShardedDataSource
from easydata_sources.transforms.transform import ChainedTransform, TransformLike

from easydata_tokenize.tokenizer import ChatTokenizer

__all__ = ["describe_rows", "tokenizer_fingerprint"]


def tokenizer_fingerprint(tokenizer: ChatTokenizer) -> dict[str, Any]:
    """Returns what a tokenizer's output depends on: digests of its rules and its template, its special tokens."""
    return function_identity(tokenizer)["tokenizer"]


def describe_rows(source: ShardedDataSource) -> dict[str, Any]:
    """Returns the identity of what is read (`source`), and of every transform over it in order (`transforms`)."""
    transforms: list[TransformLike] = []
    while isinstance(source, TransformedShardedSource):
        applied = source.transform_applied
        parts = applied.transforms if isinstance(applied, ChainedTransform) else (applied,)
        transforms = [*parts, *transforms]
        source = source.source
    described = [_by_name(function_identity(transform)) for transform in transforms]
    return {"source": source.identity(), "transforms": described}


def _by_name(identity: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of a transform under their own names, however deep in its parts they lie."""
    if "transform" not in identity:
        return identity
    rest = {key: part for key, part in identity.items() if key != "transform"}
    named: dict[str, Any] = {"name": identity["transform"]}
    if "code" in rest:
        return {**named, **rest}
    for way, value in (leaf for key, part in rest.items() for leaf in _leaves(part, (key,))):
        name = way[-1].lstrip("_")
        if name in named and named[name] != value:
            name = ".".join(way)
        named[name] = value
    return named


def _leaves(value: Any, way: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping) and way[-1:] != ("tokenizer",) and not {"function", "code", "class"} & value.keys():
        for key, part in value.items():
            if key != "object":
                yield from _leaves(part, (*way, key))
    elif isinstance(value, Mapping) and "fields" in value and "code" not in value:
        yield from _leaves(value["fields"], way)
    else:
        yield way, value
