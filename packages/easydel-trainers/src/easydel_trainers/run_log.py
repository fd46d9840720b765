"""The log of a run: one JSON object a line, also after a restart.

A run that was killed has lines behind its last checkpoint. They are cut off when it goes on, so that the log of a
resumed run reads like that of an uninterrupted one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

LOG_NAME = "log.jsonl"

Record = dict[str, float]


class RunLog:
    """Records of a run, in memory and, given a folder, in `log.jsonl` there.

    Args:
        directory: the run's folder; `None` = memory only.
        resumed_step: keep what was logged up to this step; 0 = begin anew.
        writes: whether this process writes the file; one of a run does, the others read what was logged before.
    """

    def __init__(self, directory: str | Path | None, *, resumed_step: int = 0, writes: bool = True):
        self._path = None if directory is None else Path(directory) / LOG_NAME
        self.records: list[Record] = []
        if self._path is not None:
            self.records = [record for record in _read(self._path) if record["step"] <= resumed_step]
        if not writes:
            self._path = None
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _replace(self._path, self.records)

    def add(self, record: Mapping[str, float]) -> None:
        """Append one record; it is on disk when this returns."""
        self.records.append(dict(record))
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


def _read(path: Path) -> list[Record]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    records = (_record(line) for line in lines if line.endswith("\n"))
    return [record for record in records if record is not None]


def _record(line: str) -> Record | None:
    """A kill may have left half a line at the end, a full disk one in the middle."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _replace(path: Path, records: list[Record]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    temporary.replace(path)
