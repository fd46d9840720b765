"""The errors of this package: each names the place, what was found, what was expected and one way to mend it.

All derive from `DataError` (a `ValueError`), so `except DataError` catches whatever is wrong with data while
letting programming errors through. Every error survives pickling, because rows are often read in workers.

To add one: subclass `DataError`, and the standard-library type a caller would expect, and give it a
one-line reason.
"""

from __future__ import annotations

from typing import Any, Self, TypeVar

from easydata_sources.safe_text import readable

ErrorT = TypeVar("ErrorT", bound="DataFormatError")


class DataError(ValueError):
    """Base of everything that can be wrong with data.

    As text it holds no secrets of addresses or of the environment, moves no terminal's cursor, and fits a screen.
    """

    def __str__(self) -> str:
        return readable(self._message())

    def _message(self) -> str:
        return super().__str__()


class DataFilesNotFoundError(DataError, FileNotFoundError):
    """A path does not exist, or a glob or folder matches no file."""


class UnfinishedFilesError(DataError):
    """Files belong to a set that its writer has not finished."""


class DataAccessError(DataError, PermissionError):
    """The server or the system refuses to show what was asked for."""


class DataUnreachableError(DataError, ConnectionError):
    """A server does not answer."""


class DataQualityError(DataError):
    """Too many rows were lost or altered for one reason (see `DataReport`)."""


class MissingExtraError(DataError, ImportError):
    """An optional dependency is needed that is not installed."""

    def __init__(self, purpose: str, *, module: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs the package `{module}`, which is not installed.\n"
            f'  mend: pip install "easydata-sources[{extra}]"'
        )
        self._arguments = (purpose, module, extra)

    def __reduce__(self) -> tuple[Any, ...]:
        return _missing_extra, self._arguments


class DataFormatError(DataError):
    """Data that cannot be read, or is not what was expected there.

    Args:
        problem: One sentence: what is wrong.
        file: Data set, file or shard that holds the data.
        row: Row within the file, from 0.
        column: Column or field of the row.
        found: What is there (short; long values should be cut by the caller).
        expected: What should be there.
        mend: One thing the reader can do about it.
        reason: Short name under which such rows are counted, e.g. `broken_json`; not part of the message.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | None = None,
        row: int | None = None,
        column: str | None = None,
        found: str | None = None,
        expected: str | None = None,
        mend: str | None = None,
        reason: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = file
        self.row = row
        self.column = column
        self.found = found
        self.expected = expected
        self.mend = mend
        self.reason = reason
        super().__init__(problem)

    def _message(self) -> str:
        details = {
            "file": self.file,
            "row": self.row,
            "column": self.column,
            "found": self.found,
            "expected": self.expected,
            "mend": self.mend,
        }
        lines = [f"  {name}: {value}" for name, value in details.items() if value is not None]
        return "\n".join([self.problem, *lines])

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.__dict__.copy())

    def located(self, *, file: str, row: int | None = None) -> Self:
        """Returns the same error with its origin filled in where it was still unknown."""
        found = {**self.__dict__, "file": self.file or file, "row": row if self.row is None else self.row}
        return _rebuild(type(self), found)


class RowError(DataFormatError):
    """A row that a `BatchTransform` cannot handle; raised inside `transform_batch`.

    `row_in_batch` is the index of the bad row in the batch the transform was given.
    `TransformedShardedSource` turns it into the data set, shard and row that a reader can look up.
    """

    def __init__(
        self,
        problem: str,
        *,
        row_in_batch: int,
        file: str | None = None,
        row: int | None = None,
        column: str | None = None,
        found: str | None = None,
        expected: str | None = None,
        mend: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(
            problem, file=file, row=row, column=column, found=found, expected=expected, mend=mend, reason=reason
        )
        self.row_in_batch = row_in_batch


def _rebuild(kind: type[ErrorT], fields: dict[str, Any]) -> ErrorT:
    error = kind.__new__(kind, fields["problem"])
    error.__dict__.update(fields)
    return error


def _missing_extra(purpose: str, module: str, extra: str) -> MissingExtraError:
    return MissingExtraError(purpose, module=module, extra=extra)
