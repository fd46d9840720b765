"""What a checkpoint of a run holds beside its arrays, and going on from one."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from easydel_trainers.announcer import restore_told, told_states
from easydel_trainers.averaging import judged_params
from easydel_trainers.best_model import BestModel
from easydel_trainers.checkpoint import Best, Checkpointer, differences, installed_versions, refuse_other_run
from easydel_trainers.config import numeric_identity
from easydel_trainers.data.epochs import rows_in_all
from easydel_trainers.errors import CheckpointError
from easydel_trainers.loop import RunState
from easydel_trainers.metrics import MetricWindow
from easydel_trainers.params_digest import params_digest
from easydel_trainers.processes import is_speaker
from easydel_trainers.run_lock import lock_folder
from easydel_trainers.step import Params

if TYPE_CHECKING:
    from easydel_trainers.loop import Record
    from easydel_trainers.trainer import Trainer

_LOG = logging.getLogger(__name__)


class RunCheckpoints:
    """The checkpoints of one run in its folder.

    Args:
        trainer: whose run it is.
        progress: what is saved, and what `resume` fills.
        best: the same for the best evaluation so far.
        folder: where they lie; this process keeps others out of it.
        resources: what is opened is closed with it, checkpoints still being written too.

    Raises:
        CheckpointError: if the folder cannot be used.
    """

    def __init__(self, trainer: Trainer[Any], progress: RunState, best: BestModel, folder: Path, resources: ExitStack):
        self._trainer, self._config = trainer, trainer.arguments
        self._progress, self._best = progress, best
        metric = self._config.metric_for_best_model
        kept = None if metric is None else Best(metric=metric, greater=self._config.greater_is_better)
        try:
            if is_speaker():
                lock_folder(folder, resources)
            checkpointer = Checkpointer(folder, keep=self._config.save_total_limit, best=kept)
            self._checkpointer = resources.enter_context(checkpointer)
        except OSError as error:
            raise CheckpointError(
                f"save_directory `{folder}` cannot be written to: {error}. Choose another, or None to save nothing."
            ) from error

    def resume(self) -> None:
        """Fill progress and trainer from the newest whole checkpoint, if there is one.

        Raises:
            CheckpointError: if it belongs to another run, or the config wants none.
        """
        checkpointer, progress = self._checkpointer, self._progress
        step = checkpointer.newest_whole_step()
        if step is None:
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
        progress.data_state = meta["data"]
        progress.window, progress.overall = MetricWindow(meta["window"]), MetricWindow(meta["overall"])
        self._best.restore(meta["best"])
        restore_told(self._trainer.callbacks, meta["callbacks"])
        self._trainer._restore_extras(meta["extras"], arrays)
        _LOG.info("Continuing from step %d of %s", step, self._config.save_directory)

    def save(self, evaluation: Record | None) -> None:
        """Begin to write a checkpoint of the present step.

        Args:
            evaluation: that of this step, by which the best checkpoints are kept.
        """
        arrays, metrics = self._trainer._extra_arrays(), self._best.metrics(evaluation)
        self._checkpointer.save(self._progress.state, self._meta(), arrays, step=self._progress.step, metrics=metrics)

    def wait(self) -> None:
        """Wait until what was begun is written."""
        self._checkpointer.wait()

    def params_of(self, step: int) -> Params | None:
        """The parameters to judge of an earlier step; `None` = it was not saved."""
        if step not in self._checkpointer.steps:
            return None
        state, _ = self._checkpointer.restore(self._progress.state, step=step)
        return judged_params(state.params, state.opt_state)

    def _compare(self, meta: dict[str, Any], step: int) -> None:
        if self._config.resume != "force":
            refuse_other_run(meta, self._identity(), step=step)
            return
        lines = differences(meta["identity"], self._identity())
        lines += differences(meta["versions"], installed_versions())
        if lines:
            _LOG.warning("resume='force': going on from step %d although %s", step, "; ".join(lines))

    def _meta(self) -> dict[str, Any]:
        progress = self._progress
        return {
            "identity": self._identity(),
            "num_tokens": progress.num_tokens,
            "batch": progress.batch,
            "data": progress.data_state,
            "window": progress.window.state(),
            "overall": progress.overall.state(),
            "best": self._best.state(),
            "callbacks": told_states(self._trainer.callbacks),
            "extras": self._trainer._extra_meta(),
        }

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to continue this run, as flat plain values."""
        trainer = self._trainer
        source = trainer._rows.required
        shapes = {
            "parameter " + jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(self._progress.state.params)
        }
        data = {"training shards": source.num_shards(), "training rows": rows_in_all(source, 1)}
        base = {"frozen parameters": params_digest(trainer._frozen)}
        return {"trainer": type(trainer).__name__, **numeric_identity(self._config), **data, **shapes, **base}
