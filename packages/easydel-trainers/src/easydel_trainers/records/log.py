"""The log of a run: one JSON object a line, also after a restart.

A run that was killed has lines behind its last checkpoint. They are cut off when it goes on, so that the log of a
resumed run reads like that of an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from easydel_trainers.records.files import append_line, keep_lines, read_lines

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
        self._writes, self._resumed_step = writes, resumed_step
        self.records: list[Record] = []
        if self._path is not None:
            self.records = [record for record in read_lines(self._path) if record["step"] <= resumed_step]

    def cut(self) -> None:
        """Takes out of the file what was logged behind the step that the run goes on from."""
        if self._path is not None and self._writes:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            keep_lines(self._path, lambda record: record["step"] <= self._resumed_step)

    def add(self, record: Mapping[str, float]) -> None:
        """Appends one record; it is on disk when this returns."""
        self.records.append(dict(record))
        if self._path is not None and self._writes:
            append_line(self._path, record)
