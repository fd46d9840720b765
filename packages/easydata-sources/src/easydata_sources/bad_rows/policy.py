"""Bad rows: what happens to rows that cannot be read or transformed, decided in one place for all sources.

    >>> from easydata_sources import MemoryShardedSource
    >>> source = MemoryShardedSource([{"n": 1}, {"m": 2}, {"n": 3}]).map(lambda row: {"n": row["n"] * 10})
    >>> [row["n"] for row in source.on_bad_rows("skip")]
    [10, 30]

Below `on_bad_rows` a `BadRow` stands in the place of every such row, so positions, shuffles and the hosts' shares count
it like any other: which rows are left does not depend on the number of hosts, and resuming meets the same bad rows at
the same places. A file that breaks off, or is gone, leaves one `BadRow` for the rest of it. Above, `SetAside` takes
them out, counts them by reason and holds the count against a budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final, get_args

from easydata_sources.bad_rows.bad_row import LARGEST_ROW_BYTES, BadRow, reason_of
from easydata_sources.bad_rows.quarantine import Quarantine
from easydata_sources.errors import DataError, DataQualityError, RowError
from easydata_sources.report import DataReport
from easydata_sources.streams import RowStream
from easydata_sources.transforms.transform import Transform, TransformLike, apply_transform, transform_name
from easydata_sources.types import Identity, Origin, Row, State

Policy: TypeAlias = Literal["raise", "skip", "quarantine"]

ROW_FAULTS = (DataError, LookupError, TypeError, ValueError, AttributeError)
"""What a transform raises when a row is not what it expects; anything else is no fault of the row."""

_EVIDENCE_ROWS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRows:
    """What to do with bad rows.

    Raises:
        DataError: If the fields do not fit together.
    """

    policy: Policy = "raise"
    """`raise` an error that names the row; `skip` it; or `quarantine` it: skip, and write it to `file`."""
    file: str | None = None
    """JSON-lines file that takes the quarantined rows: row, file and row number, reason, error. On a local disk."""
    budget: int | float = 0.01
    """Bad rows above which an error is raised: a share of the rows seen (a float up to 1.0, held against the count once
    1,000 rows were seen), or a number of rows over all passes (an int, held against it at once)."""
    largest_row_bytes: int = LARGEST_ROW_BYTES
    """Rows that take more bytes as stored are bad."""

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise DataError(f"The policy for bad rows is one of {', '.join(get_args(Policy))}; found {self.policy!r}.")
        if (self.policy == "quarantine") != (self.file is not None):
            raise DataError(
                f"The policy {self.policy!r} and file={self.file!r} do not fit together: a file is needed for "
                "`quarantine`, and for nothing else.\n  mend: on_bad_rows('quarantine', file='bad_rows.jsonl')"
            )
        if isinstance(self.budget, bool) or self.budget < 0 or (isinstance(self.budget, float) and self.budget > 1):
            raise DataError(
                f"The budget for bad rows is a share from 0.0 to 1.0, or a whole number of rows; found {self.budget}."
            )
        if self.largest_row_bytes < 1:
            raise DataError(f"largest_row_bytes must be positive; found {self.largest_row_bytes}.")


@final
class SetAside(Transform):
    """Takes the bad rows out: counts them, writes them to the quarantine, and raises above the budget.

    Args:
        policy: What to do with them.
        report: Counter to use; None = a new one.
    """

    def __init__(self, policy: BadRows, report: DataReport | None = None) -> None:
        self.policy = policy
        self.report = DataReport() if report is None else report
        self._quarantine = None if policy.file is None else Quarantine(policy.file)

    def identity(self) -> Identity:
        return {"transform": type(self).__qualname__, "largest_row_bytes": self.policy.largest_row_bytes}

    def __call__(self, row: Row) -> Row | None:
        self.report.saw(1)
        if not isinstance(row, BadRow):
            return row
        self.set_aside(row)
        return None

    def set_aside(self, bad: BadRow) -> None:
        """Counts a bad row, which the report has seen already.

        Raises:
            DataQualityError: If it is one too many.
        """
        if self._quarantine is not None:
            self._quarantine.add(bad.error, reason=bad.reason, content=bad.content)
        self.report.count(bad.reason, example=bad.error)
        counts = self.report.counts
        budget, seen, total = self.policy.budget, self.report.rows, sum(counts.values())
        is_share = isinstance(budget, float)
        if total <= (budget * seen if is_share else budget) or (is_share and seen < _EVIDENCE_ROWS):
            return
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        allowed = f"{budget:.2%} of the rows" if is_share else f"{budget} rows"
        raise DataQualityError(
            f"{total} of {seen} rows are bad ({reasons}); the budget allows {allowed}. The last one:\n{bad.error}\n"
            "  mend: repair the data, or allow more: on_bad_rows(…, budget=…)"
        ) from bad.error


def apply_marking(transform: TransformLike, rows: Sequence[Row], reports: Sequence[DataReport]) -> list[list[Row]]:
    """Returns the outputs of a transform with a `BadRow` for every row it cannot handle; bad rows pass by it.

    Args:
        transform: Any kind of transform.
        rows: Its rows.
        reports: The counters of the transform, set back before a batch is tried again.
    """
    outputs: list[list[Row]] = [[row] if isinstance(row, BadRow) else [] for row in rows]
    good = [index for index, row in enumerate(rows) if not isinstance(row, BadRow)]
    before = [report.to_dict() for report in reports]
    probed = False
    while good:
        try:
            results = apply_transform(transform, [rows[index] for index in good])
        except ROW_FAULTS as error:
            _restore(reports, before)
            if isinstance(error, DataQualityError):
                raise
            faults = _probe(transform, rows, good, error) if not probed or isinstance(error, RowError) else {}
            _restore(reports, before)
            probed = True
            if not faults:  # together they fail, one by one they do not: nobody can say which row is bad
                raise
            for index, fault in faults.items():
                outputs[index] = [BadRow(fault, content=rows[index])]
            good = [index for index in good if index not in faults]
        else:
            for index, result in zip(good, results, strict=True):
                outputs[index] = result
            break
    return outputs


def _probe(
    transform: TransformLike, rows: Sequence[Row], good: Sequence[int], first: Exception
) -> dict[int, Exception]:
    """Returns the rows that the transform cannot handle, each tried by itself."""
    faults: dict[int, Exception] = {good[first.row_in_batch]: first} if isinstance(first, RowError) else {}
    for index in good:
        try:
            apply_transform(transform, [rows[index]])
        except ROW_FAULTS as error:
            faults[index] = error if isinstance(error, RowError) else _unfit(transform, rows[index], error)
    return faults


def _unfit(transform: TransformLike, row: Row, error: Exception) -> RowError:
    fault = RowError(
        f"{transform_name(transform)} cannot handle a row.",
        row_in_batch=0,
        found=f"{type(error).__name__}: {error}, for the fields {', '.join(map(str, row))}",
        reason=reason_of(error),
    )
    fault.__cause__ = error
    return fault


def _restore(reports: Sequence[DataReport], before: Sequence[dict[str, Any]]) -> None:
    for report, counts in zip(reports, before, strict=True):
        report.load_dict(counts)


@final
class GoodRows(RowStream):
    """The rows of a careful source that are not bad; a position is the source's, and the counts up to there."""

    def __init__(self, check: SetAside, stream: RowStream, counts: dict[str, Any] | None) -> None:
        self._check = check
        self._stream = stream
        self._unreported = 0
        self._failure: DataQualityError | None = None
        if counts is not None:
            check.report.load_dict(counts)

    def __next__(self) -> Row:
        if self._failure is not None:
            raise self._failure  # asked again, it must fail again rather than go on
        for row in self._stream:
            self._unreported += 1
            if not isinstance(row, BadRow):
                return row
            self._report()
            try:
                self._check.set_aside(row)
            except DataQualityError as error:
                self._failure = error
                raise
        self._report()
        raise StopIteration

    def state(self) -> State:
        self._report()
        return {"source": self._stream.state(), "consumed": 0, "reports": [self._check.report.to_dict()]}

    def origin(self) -> Origin:
        return self._stream.origin()

    def _report(self) -> None:
        # One by one this would take longer than many a row.
        self._check.report.saw(self._unreported)
        self._unreported = 0
