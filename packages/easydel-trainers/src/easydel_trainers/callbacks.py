"""What a user can hang into a run, without subclassing a trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

Record = Mapping[str, float]


@runtime_checkable
class Callback(Protocol):
    """Told about a run as it goes. Records are plain numbers by name; they always hold `step`."""

    def on_log(self, record: Record) -> None:
        """A training record was logged."""
        ...

    def on_evaluate(self, record: Record) -> None:
        """An evaluation ended."""
        ...
