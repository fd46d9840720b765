"""One call of `train()`: what it holds open, what happens between two steps, how it begins and ends.

The loop takes steps; the trainer knows the algorithm; this class ties both to checkpoints, log, progress bar and
callbacks. Hooks of a trainer that need the live run (the current parameters, the step) are given this object.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from easydel_models.parameters import split_params

from easydel_trainers.checkpoint import Checkpointer, refuse_other_run
from easydel_trainers.config import numeric_identity
from easydel_trainers.data.epochs import rows_in_all
from easydel_trainers.data.prefetch import Prefetched
from easydel_trainers.data.steps import PreparedStep
from easydel_trainers.errors import CheckpointError
from easydel_trainers.loop import Hooks, Loop, Record, RunState
from easydel_trainers.metrics import MetricWindow
from easydel_trainers.output import TrainOutput
from easydel_trainers.progress import ProgressBar
from easydel_trainers.run_log import RunLog
from easydel_trainers.step import Params
from easydel_trainers.throughput import peak_memory_bytes

if TYPE_CHECKING:
    from easydel_trainers.trainer import Trainer

_LOG = logging.getLogger(__name__)


class TrainingRun:
    """A run from its first step, or its newest checkpoint, to its last.

    Args:
        trainer: whose model is trained, and whose hooks are called.
        resources: what the run opens is closed with it: checkpoints still being written, threads, the bar.

    Raises:
        CheckpointError: if the checkpoint found belongs to another run.
    """

    def __init__(self, trainer: Trainer[Any], resources: ExitStack):
        self._trainer, self._config = trainer, trainer.arguments
        self._began = time.perf_counter()
        self.progress = RunState(state=trainer._initial_state(split_params(trainer.model)[1]))
        self._checkpointer = self._open_checkpoints(resources)
        self._resume()
        self._log = RunLog(self._config.save_directory, resumed_step=self.step)
        self._bar = resources.enter_context(
            ProgressBar(shown=self._config.progress_bar, total=trainer.total_steps, done=self.step)
        )
        hooks = Hooks(
            annotate=lambda arrays: trainer._annotate(arrays, self),
            log_due=self._log_due,
            log=self._record,
            after_step=self._after_step,
        )
        self._loop = Loop(self.progress, trainer._train_step, hooks, last_step=trainer.total_steps)
        self._steps = self._open_steps(resources)

    # What hooks may look at and ask for.

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.progress.step

    @property
    def params(self) -> Params:
        """The parameters behind the last step. The next step consumes them: use them now, do not keep them."""
        return self.progress.state.params

    def stop(self) -> None:
        """End the run behind the step just taken, as if it were the last: evaluate, save, return."""
        self._loop.stop()

    # How a run goes.

    def take_steps(self) -> None:
        """Train to the end.

        Raises:
            DivergedError: when the loss is no longer finite.
            DataQualityError: when too many rows are cut, dropped or odd.
        """
        began_at = self.step
        self._loop.run(self._steps)
        if self.step > began_at:
            if self._config.evaluation_steps is not None and not _due(self.step, self._config.evaluation_steps):
                self._evaluate()
            self._save()
        self._trainer.data_report.check(final=True)

    def release(self) -> None:
        """Forget the optimizer's state: twice the model's size, and of no more use."""
        self.progress.state = self.progress.state._replace(opt_state=())

    def output(self) -> TrainOutput:
        """What the run gives back; also written to `summary.json`."""
        progress, report = self.progress, self._trainer.data_report
        metrics = {
            **{f"train_{name}": value for name, value in progress.overall.means().items()},
            "train_runtime": time.perf_counter() - self._began,
            "num_tokens": progress.num_tokens,
            **self._loop.totals(),
            "peak_memory_bytes": peak_memory_bytes(),
        }
        output = TrainOutput(
            global_step=self.step,
            metrics=metrics,
            history=self._log.records,
            data_report={"rows": report.rows, **report.counts},
        )
        if self._config.save_directory is not None:
            summary = {"global_step": self.step, **metrics, "data_report": output.data_report}
            path = Path(self._config.save_directory) / "summary.json"
            path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        return output

    def _open_steps(self, resources: ExitStack) -> Iterable[PreparedStep]:
        steps = self._trainer._prepared_steps(self)
        return resources.enter_context(Prefetched(steps)) if self._trainer._reads_ahead else steps

    def _after_step(self, step: int) -> None:
        self._bar.step()
        self._trainer._after_step(self)
        if _due(step, self._config.evaluation_steps):
            self._evaluate()
        if _due(step, self._config.save_steps):
            self._save()

    def _log_due(self, step: int) -> bool:
        return step in (1, self._trainer.total_steps) or step % self._config.log_steps == 0

    def _record(self, entry: Record) -> None:
        self._log.add(entry)
        self._bar.show(entry)
        for callback in self._trainer.callbacks:
            callback.on_log(entry)

    def _evaluate(self) -> None:
        began = time.perf_counter()
        self._loop.settle()
        entry = {"step": self.step, **self._trainer._evaluate_during(self)}
        self._log.add(entry)
        for callback in self._trainer.callbacks:
            callback.on_evaluate(entry)
        self._loop.throughput.paused(time.perf_counter() - began)

    # Checkpoints.

    def _open_checkpoints(self, resources: ExitStack) -> Checkpointer | None:
        config = self._config
        if config.save_directory is None:
            return None
        return resources.enter_context(Checkpointer(config.save_directory, keep=config.save_total_limit))

    def _save(self) -> None:
        began = time.perf_counter()
        self._loop.settle()
        if self._checkpointer is not None:
            arrays = self._trainer._extra_arrays()
            self._checkpointer.save(self.progress.state, self._meta(), arrays, step=self.step)
        self._loop.throughput.paused(time.perf_counter() - began)

    def _resume(self) -> None:
        checkpointer, progress = self._checkpointer, self.progress
        step = None if checkpointer is None else checkpointer.latest_step
        if checkpointer is None or step is None:
            return
        if self._config.resume == "never":
            raise CheckpointError(
                f"`{self._config.save_directory}` holds a checkpoint of step {step}, and resume='never' was "
                "asked for. Choose another save_directory, or remove the folder."
            )
        meta = checkpointer.meta(step)
        refuse_other_run(meta["identity"], self._identity(), step=step)
        progress.state, arrays = checkpointer.restore(progress.state, step=step)
        progress.step, progress.num_tokens, progress.data_state = step, meta["num_tokens"], meta["data"]
        progress.window, progress.overall = MetricWindow(meta["window"]), MetricWindow(meta["overall"])
        self._trainer._restore_extras(meta["extras"], arrays)
        _LOG.info("Continuing from step %d of %s", step, self._config.save_directory)

    def _meta(self) -> dict[str, Any]:
        progress = self.progress
        return {
            "identity": self._identity(),
            "num_tokens": progress.num_tokens,
            "data": progress.data_state,
            "window": progress.window.state(),
            "overall": progress.overall.state(),
            "extras": self._trainer._extra_meta(),
        }

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to continue this run, as flat plain values."""
        trainer = self._trainer
        source = trainer._required_train_source()
        shapes = {
            "parameter " + jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(self.params)
        }
        data = {"training shards": source.num_shards(), "training rows": rows_in_all(source, 1)}
        return {"trainer": type(trainer).__name__, **numeric_identity(self._config), **data, **shapes}


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
