"""The beginning of a row, as the example that a data report keeps for a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["excerpt"]


def excerpt(row: Mapping[str, Any]) -> str:
    """Return at most 200 letters of a row."""
    text = str(row)
    return text if len(text) <= 200 else text[:199] + "…"
