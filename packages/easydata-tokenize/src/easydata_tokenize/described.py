"""What the rows of a set depend on, in words that can be stored and compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, is_dataclass
from typing import Any

from easydata_sources.report import DataReport
from easydata_sources.source import ShardedDataSource
from easydata_sources.transform import ChainedTransform, RowTransform
from easydata_sources.transformed import TransformedShardedSource

from easydata_tokenize.tokenizer import ChatTokenizer

__all__ = ["describe_transforms", "tokenizer_fingerprint"]

_OURS = ("easydata_", "easydel_")


def tokenizer_fingerprint(tokenizer: ChatTokenizer) -> dict[str, Any]:
    """What a tokenizer's output depends on: its vocabulary and rules, its template, its special tokens."""
    template = str(tokenizer.chat_template or "")
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    # How the last call padded and cut is kept there, and is no part of what the tokenizer is.
    backend |= {"padding": None, "truncation": None}
    return {
        "backend": hashlib.sha256(json.dumps(backend).encode()).hexdigest()[:16],
        "chat_template": hashlib.sha256(template.encode()).hexdigest()[:16],
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def describe_transforms(source: ShardedDataSource) -> list[dict[str, Any]]:
    """Name, plain settings and tokenizer of every transform over a source; of functions only that they are there."""
    described: list[dict[str, Any]] = []
    while isinstance(source, TransformedShardedSource):
        applied = source.transform_applied
        parts = applied.transforms if isinstance(applied, ChainedTransform) else (applied,)
        described = [_described(part) for part in parts if isinstance(part, RowTransform)] + described
        source = source.source
    return described


def _described(transform: RowTransform) -> dict[str, Any]:
    values = {name.lstrip("_"): value for name, value in sorted(vars(transform).items())}
    plain = {name: value for name, value in values.items() if isinstance(value, str | int | float | bool | None)}
    return {"name": type(transform).__name__, **_inside(transform, depth=3), **plain}


def _inside(owner: Any, depth: int) -> dict[str, Any]:
    """Settings and tokenizer that an object of ours holds, however it is built; its own caches are no settings."""
    found: dict[str, Any] = {}
    for name, value in sorted(getattr(owner, "__dict__", {}).items()):
        if hasattr(value, "backend_tokenizer"):
            found["tokenizer"] = tokenizer_fingerprint(value)
        elif is_dataclass(value) and not isinstance(value, type) and name.startswith("_"):
            plain = asdict(value).items()
            found |= {key: item for key, item in plain if isinstance(item, str | int | float | bool | None)}
        elif depth and type(value).__module__.startswith(_OURS) and not isinstance(value, DataReport):
            found |= _inside(value, depth - 1)
    return found
