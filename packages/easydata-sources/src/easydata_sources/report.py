"""DataReport: how many rows were lost or altered, and why; past a threshold that is an error.

>>> report = DataReport()
>>> report.saw(2)
>>> report.count("truncated")
>>> report.to_dict()["counts"]
{'truncated': 1}
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from easydata_sources.errors import DataError, DataQualityError

DEFAULT_THRESHOLDS: Mapping[str, float] = {
    "unreadable": 0.0,
    "doubled_bos": 0.0,
    "missing_stop_token": 0.0,
    "fully_masked": 0.05,
}
"""Reason -> largest share of the rows seen that may have it; reasons not named are reported only.

A reason may have kinds behind a slash, `not_rendered/reasoning`; `not_rendered` is the threshold of each kind that has
none of its own.
"""

_MENDS = {
    "unreadable": "repair the rows, or leave them out with .filter(…)",
    "doubled_bos": "the chat template already writes the BOS token: do not add special tokens again",
    "missing_stop_token": "the template must end the assistant's turn with its stop token; longer rows must not "
    "lose it to truncation",
    "fully_masked": "nothing of these rows is trained: raise max_length, or check completion_only_loss and "
    "assistant_only_loss against the rows",
    "not_rendered": "the chat template does not print this part of the row: take a template that does, or say that "
    "nobody misses it (drop_unrendered)",
}

_EVIDENCE_ROWS = 200  # a share is not judged on fewer rows unless they are all there are


class DataReport:
    """Counts of rows by reason; safe to use from several threads.

    Args:
        thresholds: Reason -> largest share (0 to 1) of the rows seen; replaces the default for that reason.
            1 = never an error.

    Raises:
        DataError: If a threshold is not a share.
    """

    def __init__(self, thresholds: Mapping[str, float] | None = None) -> None:
        self.thresholds = {**DEFAULT_THRESHOLDS, **(thresholds or {})}
        for reason, share in self.thresholds.items():
            if not 0 <= share <= 1:
                raise DataError(
                    f"The threshold of {reason!r} must be a share between 0 and 1; found {share}. mend: 0.05 means 5 %"
                )
        self._lock = threading.Lock()
        self._rows = 0
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    @property
    def rows(self) -> int:
        """Rows seen."""
        return self._rows

    @property
    def counts(self) -> dict[str, int]:
        """A copy of the counts by reason."""
        with self._lock:
            return dict(self._counts)

    def limit(self, reason: str) -> float | None:
        """Returns the largest share of the rows that may have this reason; `None` = it is only reported."""
        return self.thresholds.get(reason, self.thresholds.get(_family(reason)))

    def identity(self) -> dict[str, Any]:
        """Returns what rows depend on: nothing of a report."""
        return {}

    def saw(self, n_rows: int) -> None:
        """Adds to the rows seen."""
        with self._lock:
            self._rows += n_rows

    def count(self, reason: str, n: int = 1, example: object = None) -> None:
        """Adds rows of which something is to be reported.

        Args:
            reason: What happened to them, e.g. `truncated`.
            n: How many.
            example: What one of them looks like; the text of the first is kept.
        """
        with self._lock:
            self._counts[reason] = self._counts.get(reason, 0) + n
            if example is not None and reason not in self._examples:
                self._examples[reason] = str(example)

    def check(self, final: bool = False) -> None:
        """Raises if a reason has passed its threshold.

        A threshold of 0 is judged at once; a share only on 200 rows or more, or when `final` says that no
        more come.

        Raises:
            DataQualityError: Names the reason, count, share, threshold, an example and a mend.
        """
        with self._lock:
            for reason, count in self._counts.items():
                limit = self.limit(reason)
                if limit is None or not count:
                    continue
                enough = limit == 0 or final or self._rows >= _EVIDENCE_ROWS
                if enough and count > limit * self._rows:
                    raise DataQualityError(self._message(reason, count, limit))

    def joined(self, other: DataReport) -> DataReport:
        """Returns the rows seen by this report with the counts of both; thresholds are this one's."""
        both, more = DataReport(self.thresholds), other.to_dict()
        both.load_dict(self.to_dict())
        for reason, n in more["counts"].items():
            both.count(reason, n, more["examples"].get(reason))
        return both

    def to_dict(self) -> dict[str, Any]:
        """Returns the counts as a JSON-able dict."""
        with self._lock:
            return {"rows": self._rows, "counts": dict(self._counts), "examples": dict(self._examples)}

    def load_dict(self, saved: Mapping[str, Any]) -> None:
        """Takes over counts saved with `to_dict`, replacing the present ones."""
        with self._lock:
            self._rows = int(saved["rows"])
            self._counts = dict(saved["counts"])
            self._examples = dict(saved.get("examples", {}))

    def _message(self, reason: str, count: int, limit: float) -> str:
        share = f" ({count / self._rows:.1%})" if self._rows else ""
        lines = [f"{count} of {self._rows} rows{share} are {reason!r}; at most {limit:.1%} may be."]
        if reason in self._examples:
            lines.append(f"  example: {self._examples[reason]}")
        lines.append(f"  mend: {_MENDS.get(_family(reason), 'look at the example row')}")
        lines.append(
            f"  or accept it: data_thresholds={{{reason!r}: <share>}} of a trainer's config, elsewhere "
            f"DataReport(thresholds=…)"
        )
        return "\n".join(lines)

    def __getstate__(self) -> dict[str, Any]:
        return {"thresholds": self.thresholds, **self.to_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.thresholds = state["thresholds"]
        self._lock = threading.Lock()
        self.load_dict(state)


def add_counts(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the sum of what one report counted in several stretches of a source, each as `to_dict` gives it."""
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for report in reports:
        for reason, count in report["counts"].items():
            counts[reason] = counts.get(reason, 0) + count
        examples = {**report.get("examples", {}), **examples}
    return {"rows": sum(report["rows"] for report in reports), "counts": counts, "examples": examples}


def _family(reason: str) -> str:
    return reason.partition("/")[0]
