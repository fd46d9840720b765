"""BadRow: what a careful source puts in the place of a row that it cannot read (see `policy.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from easydata_sources.errors import DataFormatError, RowError

LARGEST_ROW_BYTES = 32 << 20
"""Larger rows are bad unless the policy says otherwise: they are data that lost its line ends, or whole books."""

FILE_FAULTS = (DataFormatError, FileNotFoundError)
"""What reading raises when data is damaged or gone. A server that refuses or cannot be reached is no bad row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Care:
    """How carefully a source reads."""

    largest_row_bytes: int = LARGEST_ROW_BYTES
    """Rows of more bytes are bad."""
    marks: bool = False
    """Put a `BadRow` in the place of a bad row, instead of raising."""


class BadRow(dict[str, Any]):
    """Stands where a bad row was; has no fields."""

    __slots__ = ("content", "error", "reason")

    def __init__(self, error: Exception, *, content: Any = None) -> None:
        super().__init__()
        self.error = error
        self.reason = reason_of(error)
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return _bad_row, (self.error, self.content)


def reason_of(error: BaseException) -> str:
    """Returns the short name under which an error is counted."""
    if isinstance(error, DataFormatError) and error.reason:
        return error.reason
    if isinstance(error, FileNotFoundError):
        return "file_gone"
    cause = error.__cause__ if isinstance(error, RowError) and error.__cause__ is not None else error
    if isinstance(cause, LookupError):
        return "missing_column"
    if isinstance(cause, TypeError | AttributeError):
        return "wrong_type"
    return "unfit_row" if isinstance(error, RowError) else "unreadable"


def _bad_row(error: Exception, content: Any) -> BadRow:
    return BadRow(error, content=content)
