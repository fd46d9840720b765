"""The page of a run that is still going: written now and then, and when it ends."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import final

from easydel_trainers.records.sampled import COMPLETIONS_NAME, read_sampled
from easydel_trainers.report.run_report import Record, RunReport, Sample
from easydel_trainers.run.previews import read_previews

_SECONDS_BETWEEN = 30.0
_SHOWN_STEPS = 20  # whose sampled answers are on the page, the last ones


@final
class LiveReport:
    """Writes `report.html` into a run's folder.

    Args:
        folder: the run's folder.
        title: trainer and model.
        config: every setting.
        versions: of the packages a run's numbers depend on.
        auto_class: name in `easydel` of the class that loads the model.
    """

    def __init__(
        self, folder: Path, *, title: str, config: Mapping[str, object], versions: Mapping[str, str], auto_class: str
    ):
        self._folder, self._title, self._auto_class = folder, title, auto_class
        self._config, self._versions = config, versions
        self._written_at: float | None = None

    @property
    def is_due(self) -> bool:
        """Whether the last writing was long enough ago."""
        return self._written_at is None or time.monotonic() - self._written_at >= _SECONDS_BETWEEN

    def write(self, records: Sequence[Record], data_report: Mapping[str, int], *, state: str) -> None:
        """Writes the page.

        Args:
            records: the log so far.
            data_report: rows read under `rows`, and counts by reason.
            state: where the run stands, in a few words.
        """
        report = RunReport(
            title=self._title,
            state=state,
            directory=str(self._folder),
            records=records,
            data_report=data_report,
            config=self._config,
            versions=self._versions,
            samples=[*_samples(self._folder), *_completions(self._folder / COMPLETIONS_NAME)],
            auto_class=self._auto_class,
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        report.write(self._folder)
        self._written_at = time.monotonic()


def _samples(folder: Path) -> list[Sample]:
    return [Sample(step=step, prompt=prompt, answer=answer) for step, prompt, answer in read_previews(folder)]


def _completions(path: Path) -> list[Sample]:
    return [
        Sample(step=step, prompt=one.prompt, answer=one.completion, scores=one.scores)
        for step, one in read_sampled(path, last=_SHOWN_STEPS)
    ]
