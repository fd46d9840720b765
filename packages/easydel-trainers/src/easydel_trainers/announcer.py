"""Telling everyone what happens in a run: log, progress bar, trackers, callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from easydel_trainers.callbacks import Callback
from easydel_trainers.config import TrainerConfig, shown_fields
from easydel_trainers.errors import CheckpointError
from easydel_trainers.previews import PREVIEWS_NAME, write_previews
from easydel_trainers.processes import is_speaker
from easydel_trainers.progress import ProgressBar
from easydel_trainers.run_files import keep_lines
from easydel_trainers.run_log import RunLog
from easydel_trainers.sampled import COMPLETIONS_NAME, Sampled, sampled_table, write_sampled
from easydel_trainers.trackers.tracker import Tracker, open_trackers

if TYPE_CHECKING:
    from easydel_trainers.training_run import TrainingRun

_LOG = logging.getLogger(__name__)


@final
class Announcer:
    """Where a run's news go.

    What cannot be written to the run's folder ends the run, or is counted, as `on_save_error` says. A tracker that
    fails is told of and left alone from then on: it is a service of others, and no reason to lose a run.

    Args:
        config: of the run.
        callbacks: told of everything.
        done: steps taken before.
        total: steps of the whole run; `None` = unknown.
        resources: close the bar and the trackers when they close.
    """

    def __init__(
        self,
        config: TrainerConfig,
        callbacks: Sequence[Callback],
        *,
        done: int,
        total: int | None,
        resources: ExitStack,
    ):
        self._config, self._callbacks = config, callbacks
        self._folder = None if config.save_directory is None else Path(config.save_directory)
        self.failed_writes = 0
        self._log = RunLog(self._folder, resumed_step=done, writes=is_speaker())
        self.writing(self._log.cut)
        for name in (PREVIEWS_NAME, COMPLETIONS_NAME):
            if self._folder is not None and is_speaker():
                self.writing(partial(keep_lines, self._folder / name, lambda line: line["step"] <= done))
        self._trackers = self._open_trackers(resources, done) if is_speaker() else []
        shown = config.progress_bar if is_speaker() else False
        self._bar = resources.enter_context(ProgressBar(shown=shown, total=total, done=done))

    @property
    def history(self) -> list[dict[str, float]]:
        """Every record so far, those before a resume included."""
        return self._log.records

    def step(self, run: TrainingRun) -> None:
        """A step was taken."""
        self._bar.step(seconds_left=run.seconds_left)
        for callback in self._callbacks:
            callback.on_step(run)

    def logged(self, record: Mapping[str, float], run: TrainingRun) -> None:
        """A training record is complete."""
        self._keep(record)
        self._bar.show(record)
        for callback in self._callbacks:
            callback.on_log(record, run)

    def evaluated(self, record: Mapping[str, float], run: TrainingRun) -> None:
        """An evaluation ended."""
        self._keep(record)
        self._bar.show_evaluation(record)
        for callback in self._callbacks:
            callback.on_evaluate(record, run)

    def previewed(self, step: int, prompts: Sequence[str], answers: Sequence[str]) -> None:
        """The model answered the preview prompts."""
        folder = self._folder
        if folder is not None and is_speaker():
            self.writing(lambda: write_previews(folder, step, prompts, answers))
        texts = dict(zip(prompts, answers, strict=True))
        self._track(lambda tracker: tracker.log_texts("previews", texts, step=step))
        if is_speaker():
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

    def writing(self, write: Callable[[], object]) -> bool:
        """Write something to the run's folder.

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


def told_states(callbacks: Sequence[Callback]) -> list[dict[str, Any]]:
    """States of callbacks for a checkpoint, in order."""
    return [{"callback": type(callback).__name__, "state": callback.state()} for callback in callbacks]


def restore_told(callbacks: Sequence[Callback], saved: Sequence[Mapping[str, Any]]) -> None:
    """Give callbacks their states back; one that was not there then begins anew."""
    waiting = list(saved)
    for callback in callbacks:
        name = type(callback).__name__
        match = next((entry for entry in waiting if entry["callback"] == name), None)
        if match is not None:
            waiting.remove(match)
            callback.restore(dict(match["state"]))
