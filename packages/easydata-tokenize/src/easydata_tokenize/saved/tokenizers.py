"""Which tokenizers made the sets that a source reads, told from the manifests beside its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from easydata_tokenize.saved.folder import SetFolder
from easydata_tokenize.saved.manifest import DamagedManifestError, Manifest, SavedSetDiffersError

if TYPE_CHECKING:
    from easydata_sources.source import ShardedDataSource

__all__ = ["SetTokenizer", "set_tokenizers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTokenizer:
    """The tokenizer of a set.

    Attributes:
        folder: of the set.
        name: what the tokenizer was called; None if that is not known.
        fingerprint: as `tokenizer_fingerprint` returns it.
    """

    folder: str
    name: str | None
    fingerprint: Mapping[str, Any]


def set_tokenizers(source: ShardedDataSource) -> list[SetTokenizer]:
    """Returns the tokenizers of the sets that a source reads, through whatever lies above them; no row is read.

    Files without a manifest beside them, or with one of another program, are no set.
    """
    found: list[SetTokenizer] = []
    folders = {
        file.url.rpartition("/")[0]: file.storage_options for file in source.data_files() if "::" not in file.url
    }
    for folder, options in folders.items():
        try:
            manifest = Manifest.find(SetFolder(folder, options))
        except (DamagedManifestError, SavedSetDiffersError, OSError):
            continue
        if manifest is None:
            continue
        name = manifest.identity.get("tokenizer_name")
        for fingerprint in _tokenizers(manifest.identity):
            known = SetTokenizer(folder=folder, name=name, fingerprint=fingerprint)
            found += [] if known in found else [known]
    return found


def _tokenizers(identity: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(identity, Mapping):
        for key, value in identity.items():
            if key == "tokenizer" and isinstance(value, Mapping) and "rules" in value:
                yield value
            else:
                yield from _tokenizers(value)
    elif isinstance(identity, list):
        for value in identity:
            yield from _tokenizers(value)
