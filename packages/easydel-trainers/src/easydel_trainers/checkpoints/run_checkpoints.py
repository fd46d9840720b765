"""What a checkpoint of a run holds beside its arrays, and going on from one."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

from easydel_trainers.checkpoints.checkpointer import Checkpointer, differences, installed_versions, refuse_other_run
from easydel_trainers.checkpoints.identity import refuse_other_length, run_identity, unknown_parts
from easydel_trainers.checkpoints.lock import lock_folder
from easydel_trainers.errors import CheckpointError, ProcessLostError
from easydel_trainers.processes import is_main_process
from easydel_trainers.records.log import LOG_NAME
from easydel_trainers.run.best_model import BestModel
from easydel_trainers.run.callbacks import callback_states, restore_callbacks
from easydel_trainers.run.loop import RunState
from easydel_trainers.step.averaging import eval_params
from easydel_trainers.step.metrics import MetricWindow
from easydel_trainers.step.objective import Params

if TYPE_CHECKING:
    from easydel_trainers.training import Training

_LOG = logging.getLogger(__name__)


def open_checkpoints(
    training: Training, progress: RunState, best: BestModel, resources: ExitStack
) -> RunCheckpoints | None:
    """Returns the checkpoints of a run, which goes on from the newest; `None` where there is no folder.

    Args:
        training: whose run it is.
        progress: filled from the checkpoint that the run goes on from.
        best: the same for the best evaluation so far.
        resources: what is opened is closed with it.

    Raises:
        CheckpointError: if the folder cannot be used, or holds another run.
    """
    if training.config.save_directory is None:
        _LOG.warning(
            "Nothing of this run is saved: there is no save_directory. Ended early, it begins at step 1 again%s.",
            ", as it does now, from the parameters that the run before left" if training.program.has_trained else "",
        )
        return None
    checkpoints = RunCheckpoints(training, progress, best, Path(training.config.save_directory), resources)
    checkpoints.resume()
    return checkpoints


@final
class RunCheckpoints:
    """The checkpoints of one run in its folder.

    Args:
        training: whose run it is.
        progress: what is saved, and what `resume` fills.
        best: the same for the best evaluation so far.
        folder: where they lie; this process keeps others out of it.
        resources: what is opened is closed with it, checkpoints still being written too.

    Raises:
        CheckpointError: if the folder cannot be used.
    """

    def __init__(self, training: Training, progress: RunState, best: BestModel, folder: Path, resources: ExitStack):
        self._training, self._config = training, training.config
        self._progress, self._best, self._folder = progress, best, folder
        try:
            if is_main_process():
                lock_folder(folder, resources)
            self._checkpointer = Checkpointer(
                folder, keep=self._config.save_total_limit, best_step=lambda: self._best.step
            )
        except OSError as error:
            raise CheckpointError(
                f"save_directory `{folder}` cannot be written to: {error}. Choose another, or None to save nothing."
            ) from error
        resources.push(self._close)
        self._identity = {**run_identity(training), **training.weights_before}

    def resume(self) -> None:
        """Fills progress and training from the newest whole checkpoint, if there is one.

        Raises:
            CheckpointError: if it belongs to another run, or the config wants none.
        """
        checkpointer, progress = self._checkpointer, self._progress
        step = checkpointer.newest_whole_step()
        if step is None:
            if (self._folder / LOG_NAME).exists():
                _LOG.warning(
                    "%s tells of an earlier run, and no whole checkpoint is there: beginning at step 1.", LOG_NAME
                )
            return
        if self._config.resume == "never":
            raise CheckpointError(
                f"`{self._config.save_directory}` holds a checkpoint of step {step}, and resume='never' was "
                "asked for. Choose another save_directory, or remove the folder."
            )
        meta = checkpointer.meta(step)
        self._compare(meta, step)
        progress.state, arrays = checkpointer.restore(progress.state, step=step)
        progress.step, progress.batch, progress.num_tokens = step, meta["batch"], meta["num_tokens"]
        progress.data_state, progress.evaluated = meta["data"], meta["evaluated"]
        progress.window, progress.overall = MetricWindow(meta["window"]), MetricWindow(meta["overall"])
        self._best.restore(meta["best"])
        checkpointer.remove_superseded()
        restore_callbacks(self._training.callbacks, meta["callbacks"])
        self._training.source.restore(meta["extras"], arrays)
        _LOG.info("Continuing from step %d of %s", step, self._config.save_directory)

    def save(self) -> None:
        """Begins to write a checkpoint of the present step."""
        arrays = self._training.source.arrays()
        self._checkpointer.save(self._progress.state, self._meta(), arrays, step=self._progress.step)

    def wait(self) -> None:
        """Waits until what was begun is written."""
        self._checkpointer.wait()

    def params_of(self, step: int) -> Params | None:
        """Returns the parameters to judge of an earlier step; `None` = it was not saved, or is damaged."""
        if not self._checkpointer.whole(step):
            return None
        state, _ = self._checkpointer.restore(self._progress.state, step=step)
        return eval_params(state.params, state.opt_state)

    def _compare(self, meta: dict[str, Any], step: int) -> None:
        config, now = self._config, self._training.data.total_steps
        if config.resume == "force":
            lines = differences(meta["identity"], self._identity)
            lines += differences(meta["versions"], installed_versions())
            if lines:
                _LOG.warning("resume='force': going on from step %d although %s", step, "; ".join(lines))
            return
        refuse_other_run(meta, self._identity, step=step)
        if warning := refuse_other_length(config, then=meta["total_steps"], now=now, step=step):
            _LOG.warning("%s", warning)
        if unknown := unknown_parts(self._identity):
            _LOG.warning(
                "Nothing tells whether these are as they were when the checkpoint was written: %s. If they are not, "
                "choose another save_directory.",
                "; ".join(unknown),
            )

    def _meta(self) -> dict[str, Any]:
        progress = self._progress
        return {
            "identity": self._identity,
            "total_steps": self._training.data.total_steps,
            "num_tokens": progress.num_tokens,
            "batch": progress.batch,
            "data": progress.data_state,
            "evaluated": progress.evaluated,
            "window": progress.window.state(),
            "overall": progress.overall.state(),
            "best": self._best.state(),
            "callbacks": callback_states(self._training.callbacks),
            "extras": self._training.source.meta(),
        }

    def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes writing, unless another process is lost."""
        if isinstance(error, ProcessLostError):
            return  # writing would wait for it in vain
        try:
            self._checkpointer.close()
        except CheckpointError as not_written:
            if self._config.on_save_error == "stop":
                raise
            _LOG.error("NOT SAVED (on_save_error='continue'): %s", not_written)
