"""What the transforms over a source count, apart from what they counted before."""

from __future__ import annotations

from typing import Any

from easydata_sources.combined.transformed import TransformedShardedSource
from easydata_sources.report import DataReport

__all__ = ["count_afresh", "counts_of", "reports_of"]


def reports_of(source: Any) -> list[DataReport]:
    """Returns the reports that the transforms of a source count in, each once, in the order of their application."""
    reports: list[DataReport] = []
    while isinstance(source, TransformedShardedSource):
        reports = source.reports() + reports
        source = source.source
    return list({id(report): report for report in reports}.values())


def counts_of(source: Any) -> list[dict[str, Any]]:
    """Returns what every report of the source holds, as JSON-able dicts."""
    return [report.to_dict() for report in reports_of(source)]


def count_afresh(source: Any) -> None:
    """Sets every report of the source to nothing."""
    for report in reports_of(source):
        report.load_dict({"rows": 0, "counts": {}})
