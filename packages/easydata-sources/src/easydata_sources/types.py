"""The types that all of this package speaks of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

Row: TypeAlias = dict[str, Any]
"""One row at the user's edge."""

Rows: TypeAlias = "list[Row] | pa.RecordBatch"
"""A run of consecutive rows."""

State: TypeAlias = dict[str, Any]
"""A position: plain dicts, lists, strings, numbers; a few hundred bytes at most."""

Origin: TypeAlias = tuple[str, int | None]
"""Where a row came from: shard, and row in it (None = unknown)."""

Identity: TypeAlias = dict[str, Any]
"""What something depends on: JSON-able; it may hold identities of other things."""
