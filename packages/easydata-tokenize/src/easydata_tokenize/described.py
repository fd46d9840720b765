"""What tells one tokenizer from another."""

from __future__ import annotations

from typing import Any

from easydata_sources.identity import function_identity

from easydata_tokenize.tokenizer import ChatTokenizer

__all__ = ["tokenizer_fingerprint"]


def tokenizer_fingerprint(tokenizer: ChatTokenizer) -> dict[str, Any]:
    """Return what a tokenizer's output depends on: digests of its rules and its template, its special tokens."""
    return function_identity(tokenizer)["tokenizer"]
