"""Transforms of rows: what a transform is, and how several become one.

Four kinds of thing may be given where a transform is asked for:

* a callable `row -> row | None` (`None` drops the row), or its class form `Transform`;
* an `ExpandTransform`, `row -> several rows`;
* a `BatchTransform`, which handles many rows at a time because that is faster (tokenizers);
* a chain of any of these, made with `first >> second`.

All of them are functions of the row alone: a transform may count, but what it returns must not depend on
the rows around it, or resuming in the middle would give other rows. The one exception says so: a batch transform
that `mixes_rows` (packing) is always given whole windows of the rows that were read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, final

from easydata_sources.errors import DataFormatError, RowError
from easydata_sources.identity import function_identity, settings_identity, settings_of
from easydata_sources.report import DataReport
from easydata_sources.types import Identity, Row

BATCH_ROWS = 256
"""Rows that a batch transform is given at a time."""


class RowTransform(ABC):
    """Base of the transform classes: they can be called, and chained with `>>`."""

    @property
    def keeps_every_row(self) -> bool:
        """Whether each row gives exactly one row, so that lengths stay known and rows can be stepped over."""
        return False

    @abstractmethod
    def __call__(self, row: Row) -> Any:
        """Transforms one row."""

    def identity(self) -> Identity:
        """Returns what the outputs depend on, in plain values: the class, and what it was made with."""
        kind = settings_identity({"class": type(self)})["class"]
        code = {"code": kind["code"]} if "code" in kind else {}
        return {"transform": type(self).__qualname__, **code, **settings_identity(settings_of(self))}

    def __rshift__(self, other: TransformLike) -> ChainedTransform:
        return ChainedTransform([self, other])

    def __rrshift__(self, other: TransformLike) -> ChainedTransform:
        return ChainedTransform([other, self])


class Transform(RowTransform):
    """One row in, one row or nothing out."""

    @abstractmethod
    def __call__(self, row: Row) -> Row | None:
        """Returns the new row; `None` drops it."""


class ExpandTransform(RowTransform):
    """One row in, any number of rows out."""

    @abstractmethod
    def __call__(self, row: Row) -> Iterable[Row]:
        """Returns the rows that take the row's place."""


class BatchTransform(RowTransform):
    """Many rows in, for each of them any number of rows out."""

    @property
    def batch_rows(self) -> int:
        """Source rows handled at a time."""
        return BATCH_ROWS

    @property
    def mixes_rows(self) -> bool:
        """Whether outputs depend on the rows around; each batch is then a window of exactly `batch_rows` rows read."""
        return False

    @abstractmethod
    def transform_batch(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Returns one list of outputs per input row; an empty list drops the row.

        Raises:
            RowError: If a row cannot be handled; `row_in_batch` says which.
        """

    def __call__(self, row: Row) -> Row | None:
        """Returns the first output for a single row."""
        outputs = self.transform_batch([row])[0]
        return outputs[0] if outputs else None


TransformLike: TypeAlias = RowTransform | Callable[[Row], Row | None]


@final
class MapTransform(Transform):
    """Replaces each row by exactly one other.

    Args:
        function: Returns the new row; never `None`.
    """

    def __init__(self, function: Callable[[Row], Row]) -> None:
        self._function = function

    @property
    def keeps_every_row(self) -> bool:
        return True

    def __call__(self, row: Row) -> Row:
        output = self._function(row)
        if output is None:
            raise DataFormatError(
                f"The function {transform_name(self._function)} given to .map() returned None.",
                found=f"None for the row with the fields {', '.join(row)}",
                expected="a row for every row, so that the length stays known",
                mend="return the row; to drop rows use .filter(predicate), or .transform(function)",
            )
        return output


@final
class FilterTransform(Transform):
    """Keeps the rows for which a predicate is true."""

    def __init__(self, predicate: Callable[[Row], Any]) -> None:
        self._predicate = predicate

    def __call__(self, row: Row) -> Row | None:
        return row if self._predicate(row) else None


class CountingTransform(BatchTransform):
    """A batch transform that counts what it drops or alters; the counts become part of a stream's position."""

    report: DataReport
    """Rows seen so far, and rows dropped or altered, by reason."""


class ChainedTransform(BatchTransform):
    """Several transforms, one after the other; chains inside it are laid flat."""

    def __init__(self, transforms: Sequence[TransformLike]) -> None:
        self.transforms: tuple[TransformLike, ...] = tuple(
            part
            for transform in transforms
            for part in (transform.transforms if isinstance(transform, ChainedTransform) else (transform,))
        )

    def identity(self) -> Identity:
        return {"chain": [function_identity(part) for part in self.transforms]}

    @property
    def keeps_every_row(self) -> bool:
        return all(isinstance(part, RowTransform) and part.keeps_every_row for part in self.transforms)

    @property
    def batch_rows(self) -> int:
        windows = [part.batch_rows for part in self._batched if part.mixes_rows]
        return max(windows or [BATCH_ROWS, *(part.batch_rows for part in self._batched)])

    @property
    def mixes_rows(self) -> bool:
        return any(part.mixes_rows for part in self._batched)

    @property
    def _batched(self) -> list[BatchTransform]:
        return [part for part in self.transforms if isinstance(part, BatchTransform)]

    def transform_batch(self, rows: Sequence[Row]) -> list[list[Row]]:
        groups = [[row] for row in rows]
        for transform in self.transforms:
            groups = apply_to_groups(partial(apply_transform, transform), groups)
        return groups


def is_row_by_row(transform: TransformLike) -> bool:
    """Returns whether a transform gives at most one row per row and gains nothing from seeing many at a time."""
    if isinstance(transform, ChainedTransform):
        return all(is_row_by_row(part) for part in transform.transforms)
    return not isinstance(transform, ExpandTransform | BatchTransform)


def batch_rows(transform: TransformLike) -> int:
    """Returns how many source rows a transform is given at a time."""
    if is_row_by_row(transform):
        return 1
    return transform.batch_rows if isinstance(transform, BatchTransform) else BATCH_ROWS


def mixes_rows(transform: TransformLike) -> bool:
    """Returns whether the outputs of a row depend on the rows around it."""
    return isinstance(transform, BatchTransform) and transform.mixes_rows


def keeps_every_row(transform: TransformLike) -> bool:
    """Returns whether each row gives exactly one row; unknown callables may drop some."""
    return isinstance(transform, RowTransform) and transform.keeps_every_row


def apply_transform(transform: TransformLike, rows: Sequence[Row]) -> list[list[Row]]:
    """Returns the outputs of any kind of transform, one list per input row.

    Raises:
        RowError: If the transform raises it, or returns something that is no row.
    """
    if isinstance(transform, BatchTransform):
        return _checked_batch(transform, transform.transform_batch(rows), len(rows))
    if isinstance(transform, ExpandTransform):
        return [_checked_rows(transform, list(_call(transform, row, i)), i) for i, row in enumerate(rows)]
    outputs = [_call(transform, row, index) for index, row in enumerate(rows)]
    return [[] if output is None else _checked_rows(transform, [output], i) for i, output in enumerate(outputs)]


def transform_name(transform: TransformLike) -> str:
    """Returns a name for error messages: the function's, or the class's."""
    if isinstance(transform, MapTransform):
        return transform_name(transform._function)
    if isinstance(transform, RowTransform):
        return type(transform).__name__
    return str(getattr(transform, "__qualname__", type(transform).__name__))


def _call(transform: Callable[[Row], Any], row: Row, index: int) -> Any:
    try:
        return transform(row)
    except RowError:
        raise
    except DataFormatError as error:
        raise _as_row_error(error, index) from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        error.add_note(f"raised by {transform_name(transform)}; the row has the fields {', '.join(row)}")
        raise


def _as_row_error(error: DataFormatError, index: int) -> RowError:
    return RowError(
        error.problem,
        row_in_batch=index,
        file=error.file,
        row=error.row,
        column=error.column,
        found=error.found,
        expected=error.expected,
        mend=error.mend,
        reason=error.reason,
    )


def _checked_rows(transform: TransformLike, outputs: list[Any], index: int) -> list[Row]:
    for output in outputs:
        if not isinstance(output, Mapping):
            raise RowError(
                f"{transform_name(transform)} returned something that is not a row.",
                row_in_batch=index,
                found=f"{type(output).__name__} {str(output)[:60]}",
                expected="a dict, or None to drop the row",
                mend="to turn a row into several, subclass ExpandTransform",
            )
    return outputs


def _checked_batch(transform: BatchTransform, outputs: list[list[Row]], rows: int) -> list[list[Row]]:
    if len(outputs) != rows:
        raise DataFormatError(
            f"{transform_name(transform)}.transform_batch returned the wrong number of lists.",
            found=f"{len(outputs)} for {rows} rows",
            expected="one list of rows per input row, an empty one for a dropped row",
        )
    return outputs


def apply_to_groups(apply: Callable[[Sequence[Row]], list[list[Row]]], groups: list[list[Row]]) -> list[list[Row]]:
    """Returns the outputs for groups of rows, one group each; a `RowError` says which group its row is in."""
    owners = [index for index, group in enumerate(groups) for _ in group]
    try:
        outputs = apply([row for group in groups for row in group])
    except RowError as error:
        error.row_in_batch = owners[error.row_in_batch]
        raise
    joined: list[list[Row]] = [[] for _ in groups]
    for owner, output in zip(owners, outputs, strict=True):
        joined[owner] += output
    return joined
