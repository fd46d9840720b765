"""Recording what happens in a run: log, page, progress bar, trackers, callbacks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from easydel_trainers.config import TrainerConfig, shown_fields
from easydel_trainers.errors import CheckpointError
from easydel_trainers.processes import is_main_process
from easydel_trainers.records.files import keep_lines, write_whole
from easydel_trainers.records.log import RunLog
from easydel_trainers.records.progress import ProgressBar
from easydel_trainers.records.sampled import COMPLETIONS_NAME, Sampled, sampled_table, write_sampled
from easydel_trainers.report.live import LiveReport
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.run.previews import PREVIEWS_NAME, write_previews
from easydel_trainers.step.step import ROUNDED_AWAY
from easydel_trainers.trackers.tracker import Tracker, open_trackers

if TYPE_CHECKING:
    from easydel_trainers.run.view import RunView

_LOG = logging.getLogger(__name__)
_MUCH = 0.1  # share of updates that round away without a warning


@final
class RunRecorder:
    """Where what happens in a run is recorded.

    What cannot be written to the run's folder ends the run, or is counted, as `on_save_error` says. A tracker that
    fails is told of and left alone from then on: it is a service of others, and no reason to lose a run.

    Args:
        config: of the run.
        callbacks: told of everything.
        page: of the run; `None` = there is none.
        data_report: counts of rows so far, for the page.
        done: steps taken before.
        total: steps of the whole run; `None` = unknown.
        resources: close the bar and the trackers when they close.
    """

    def __init__(
        self,
        config: TrainerConfig,
        callbacks: Sequence[Callback],
        *,
        page: LiveReport | None,
        data_report: Callable[[], Mapping[str, int]],
        done: int,
        total: int | None,
        resources: ExitStack,
    ):
        self._config, self._callbacks, self._total = config, callbacks, total
        self._page, self._data_report = page, data_report
        self._folder = None if config.save_directory is None else Path(config.save_directory)
        self._warned_of_rounding = False
        self.failed_writes = 0
        self._log = RunLog(self._folder, resumed_step=done, writes=is_main_process())
        self.writing(self._log.cut)
        for name in (PREVIEWS_NAME, COMPLETIONS_NAME):
            if self._folder is not None and is_main_process():
                self.writing(partial(keep_lines, self._folder / name, lambda line: line["step"] <= done))
        self._trackers = self._open_trackers(resources, done) if is_main_process() else []
        shown = config.progress_bar if is_main_process() else False
        self._bar = resources.enter_context(ProgressBar(shown=shown, total=total, done=done))

    @property
    def history(self) -> list[dict[str, float]]:
        """Every record so far, those before a resume included."""
        return self._log.records

    def begin(self, run: RunView) -> None:
        """The run is about to take its first step, or the first after a resume."""
        for callback in self._callbacks:
            callback.on_begin(run)

    def end(self, run: RunView) -> None:
        """The last step was taken, and saved."""
        for callback in self._callbacks:
            callback.on_end(run)

    def step(self, run: RunView) -> None:
        """A step was taken."""
        self._bar.step(seconds_left=run.seconds_left)
        for callback in self._callbacks:
            callback.on_step(run)

    def logged(self, record: Mapping[str, float], run: RunView) -> None:
        """A training record is complete."""
        self._warn_of_rounding(record)
        self._keep(record)
        self._bar.show(record)
        for callback in self._callbacks:
            callback.on_log(record, run)
        if self._page is not None and self._page.is_due:
            self._write_page(f"step {run.step}" + (f" of {self._total}" if self._total else ""))

    def evaluated(self, record: Mapping[str, float], run: RunView) -> None:
        """An evaluation ended."""
        self._keep(record)
        self._bar.show_evaluation(record)
        for callback in self._callbacks:
            callback.on_evaluate(record, run)

    def previewed(self, step: int, prompts: Sequence[str], answers: Sequence[str]) -> None:
        """The model answered the preview prompts."""
        folder = self._own_folder
        if folder is not None:
            self.writing(lambda: write_previews(folder, step, prompts, answers))
        texts = dict(zip(prompts, answers, strict=True))
        self._track(lambda tracker: tracker.log_texts("previews", texts, step=step))
        if is_main_process():
            _LOG.info("Step %d: %s", step, "; ".join(f"{prompt!r} -> {answer!r}" for prompt, answer in texts.items()))

    def sampled(self, step: int, answers: Sequence[Sampled]) -> None:
        """Answers were sampled in training."""
        folder = self._folder
        if folder is not None:
            self.writing(lambda: write_sampled(folder, step, answers))
        texts = {f"{number}. {one.scores}": f"{one.prompt}\n→ {one.completion}" for number, one in enumerate(answers)}
        self._track(lambda tracker: tracker.log_texts("completions", texts, step=step))
        if self._bar.shown and answers:
            self._bar.print(sampled_table(step, answers))

    def finish(self, step: int, summary: Mapping[str, Any]) -> None:
        """The run is over: leave its summary and its page behind."""
        self.write_file("summary.json", json.dumps(summary, indent=2) + "\n")
        self._write_page(f"finished behind step {step}")

    def write_file(self, name: str, text: str) -> None:
        """Writes a file of the run's folder, whole or not at all; nothing where there is no folder.

        Raises:
            CheckpointError: if it cannot be written and `on_save_error` is `stop`.
        """
        folder = self._own_folder
        if folder is not None:
            self.writing(lambda: write_whole(folder / name, text))

    def writing(self, write: Callable[[], object]) -> bool:
        """Writes something to the run's folder.

        Returns:
            Whether that worked.

        Raises:
            CheckpointError: if it did not and `on_save_error` is `stop`.
        """
        try:
            write()
        except (OSError, CheckpointError) as error:
            if self._config.on_save_error == "stop":
                if isinstance(error, CheckpointError):
                    raise
                raise CheckpointError(
                    f"The run's folder `{self._folder}` cannot be written to: {error}. Make room, or choose another "
                    "save_directory; on_save_error='continue' trains on without."
                ) from error
            self.failed_writes += 1
            _LOG.error("NOT SAVED (training goes on, as on_save_error='continue' asks): %s", error)
            return False
        return True

    @property
    def _own_folder(self) -> Path | None:
        """That this process writes to; `None` = nothing is saved, or another process writes."""
        return self._folder if is_main_process() else None

    def _warn_of_rounding(self, record: Mapping[str, float]) -> None:
        share = record.get(ROUNDED_AWAY, 0.0)
        if share > _MUCH and not self._warned_of_rounding:
            self._warned_of_rounding = True
            _LOG.warning(
                "Step %d: %.0f %% of the updates are too small for parameters in %s, and change nothing. "
                "param_dtype='float32' keeps them; a higher learning_rate makes them larger.",
                int(record["step"]),
                100 * share,
                self._config.param_dtype,
            )

    def _write_page(self, state: str) -> None:
        page = self._page
        if page is not None:
            self.writing(lambda: page.write(self._log.records, self._data_report(), state=state))

    def _keep(self, record: Mapping[str, float]) -> None:
        self.writing(lambda: self._log.add(record))
        self._track(lambda tracker: tracker.log(record))

    def _track(self, tell: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                tell(tracker)
            except Exception as error:  # noqa: BLE001 - of any service's client: told, and the run goes on without it
                _LOG.error("%s failed and gets no more records: %r", type(tracker).__name__, error)
                self._trackers.remove(tracker)

    def _open_trackers(self, resources: ExitStack, done: int) -> list[Tracker]:
        config = self._config
        folder = Path() if self._folder is None else self._folder
        return open_trackers(
            config.report_to,
            folder=folder,
            run_name=config.run_name or folder.absolute().name,
            config=shown_fields(config),
            done=done,
            resources=resources,
        )
