"""One call of `train()`: what it holds open, what happens between two steps, how it begins and ends.

The loop takes steps; the trainer knows the algorithm; this class ties both to checkpoints, news, signals and
callbacks. Hooks of a trainer that need the live run (the current parameters, the step) are given this object.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easydel_trainers.announcer import Announcer
from easydel_trainers.averaging import judged_params
from easydel_trainers.best_model import BestModel
from easydel_trainers.checkpoint import installed_versions
from easydel_trainers.config import shown_fields
from easydel_trainers.data.prefetch import Prefetched
from easydel_trainers.data.row_exchange import open_exchange
from easydel_trainers.data.steps import PreparedStep
from easydel_trainers.errors import CheckpointError, DivergedError
from easydel_trainers.flops import attention_dims, matmul_parameters, peak_flops_per_second
from easydel_trainers.interruption import Interrupted
from easydel_trainers.loop import Hooks, Loop, Record, RunState
from easydel_trainers.loss_watch import LossWatch
from easydel_trainers.output import TrainOutput
from easydel_trainers.previews import greedy_answers
from easydel_trainers.processes import is_speaker
from easydel_trainers.profile_window import ProfileWindow
from easydel_trainers.report.live import LiveReport
from easydel_trainers.run_checkpoints import RunCheckpoints
from easydel_trainers.run_files import write_whole
from easydel_trainers.sampled import Sampled
from easydel_trainers.save_moments import SaveMoments
from easydel_trainers.signals import StopSignals
from easydel_trainers.step import ROUNDED_AWAY, Batch, Params
from easydel_trainers.throughput import Throughput, peak_memory_bytes

if TYPE_CHECKING:
    from easydel_trainers.trainer import Trainer

_LOG = logging.getLogger(__name__)
_MUCH = 0.1  # share of updates that round away without a warning


class TrainingRun:
    """A run from its first step, or its newest checkpoint, to its last.

    Args:
        trainer: whose model is trained, and whose hooks are called.
        resources: what the run opens is closed with it: checkpoints still being written, threads, the bar.

    Raises:
        CheckpointError: if the checkpoint found belongs to another run, or the folder cannot be used.
    """

    def __init__(self, trainer: Trainer[Any], resources: ExitStack):
        self._trainer, self._config = trainer, trainer.arguments
        self._began = time.perf_counter()
        # First of all: whoever sees the run's folder or log may rely on a signal being heeded.
        self._signals = resources.enter_context(StopSignals())
        self.progress = RunState(state=trainer._initial_state(trainer._trained_params()))
        self._best = BestModel(self._config.metric_for_best_model, greater=self._config.greater_is_better)
        self._folder = None if self._config.save_directory is None else Path(self._config.save_directory)
        self._checkpoints = None
        self._missing_best: int | None = None
        if self._folder is None:
            _LOG.warning(
                "Nothing of this run is saved: there is no save_directory. Ended early, it begins at step 1 again%s.",
                ", as it does now, from the parameters that the run before left" if trainer.has_trained else "",
            )
        else:
            self._checkpoints = RunCheckpoints(trainer, self.progress, self._best, self._folder, resources)
            self._checkpoints.resume()
        self._news = Announcer(
            self._config,
            trainer.callbacks,
            done=self.step,
            total=trainer.total_steps,
            resources=resources,
        )
        self._moments = SaveMoments(self._config)
        self._page = self._make_page()
        self._watch = LossWatch(self._config.loss_spike_factor)
        self._spikes = 0
        self._told_of_rounding = False
        self.shapes: Counter[tuple[int, ...]] = Counter()
        """How many steps had arrays of `[micro-batches, lines, length]`; each shape is one compilation."""
        profiled = self._config.profile_steps if is_speaker() else None
        self._profile = ProfileWindow((self._folder or Path()) / "profile", profiled, resources)
        self.row_exchange = open_exchange()
        self._loop = self._make_loop()
        self._steps = self._open_steps(resources)

    # What hooks and callbacks may look at and ask for.

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.progress.step

    @property
    def params(self) -> Params:
        """The parameters behind the last step. The next step consumes them: use them now, do not keep them."""
        return self.progress.state.params

    @property
    def judged_params(self) -> Params:
        """The parameters to evaluate: an average where the config asks for one, else `params`."""
        return judged_params(self.params, self.progress.state.opt_state)

    @property
    def last_step(self) -> int | None:
        """The step the run ends with; `None` = unknown."""
        return self._trainer.total_steps

    @property
    def compile_seconds(self) -> float:
        """Time spent compiling steps so far."""
        return self._loop.throughput.compile_seconds

    @property
    def timed_steps(self) -> int:
        """Steps of this process that did not compile, from which its rates come."""
        return self._loop.throughput.steps

    @property
    def seconds_per_step(self) -> float | None:
        """Mean time of those; `None` = there is none yet."""
        return self._loop.throughput.seconds_per_step

    @property
    def seconds_left(self) -> float | None:
        """Expected time to the last step, without compilations and evaluations; `None` = not known."""
        return self._loop.seconds_left

    def is_logged(self, step: int) -> bool:
        """Whether a step's record is logged."""
        return self._log_due(step)

    def show_sampled(self, answers: Sequence[Sampled]) -> None:
        """Show answers that were sampled in training, wherever the run's news go."""
        self._news.sampled(self.step, answers)

    def leave(self, name: str, text: str) -> None:
        """Write a file of the run's folder, whole or not at all; nothing where there is no folder.

        Raises:
            CheckpointError: if it cannot be written and `on_save_error` is `stop`.
        """
        folder = self._folder
        if folder is not None and is_speaker():
            self._news.writing(lambda: write_whole(folder / name, text))

    def stop(self) -> None:
        """End the run behind the step just taken, as if it were the last: evaluate, save, return."""
        self._loop.stop()

    # How a run goes.

    def take_steps(self) -> None:
        """Train to the end.

        Raises:
            DivergedError: when the loss is no longer finite.
            DataQualityError: when too many rows are cut, dropped or odd.
            Interrupted: when a signal or the cluster asked to stop; a checkpoint is written by then.
        """
        began_at = self.step
        self._tell(lambda callback: callback.on_begin(self))
        self._loop.run(self._steps)
        if self._signals.received is not None:
            self._interrupt(self._signals.received)
        self._loop.finish()
        if self.step > began_at:
            self._finish()
        elif self._lacks_evaluation():
            self._evaluate()  # a kill, or a checkpoint of the last step written before it
        self._trainer._after_run(self)
        self._settle_report()
        self._tell(lambda callback: callback.on_end(self))

    def _settle_report(self) -> None:
        """Leave in the data report what was trained on, not what was read ahead."""
        if isinstance(self._steps, Prefetched):
            self._steps.close()
        if self.progress.data_state is not None:
            self._trainer._count_up_to(self.progress.data_state)
        self._trainer.data_report.check(final=True)

    def release(self) -> Params:
        """Give up the arrays.

        Returns:
            The parameters the model is to hold: those of the best evaluation, an average, or the last ones.
        """
        params = self._final_params()
        # The optimizer's state is twice the model's size, and of no more use.
        self.progress.state = self.progress.state._replace(params=params, opt_state=())
        return params

    def require_best(self) -> None:
        """Look whether the model holds what it is to hold.

        Raises:
            CheckpointError: if it holds the last parameters in place of the best ones, whose checkpoint is lost.
        """
        if self._missing_best is None:
            return
        message = (
            f"The checkpoint of the best step, {self._missing_best}, is not there or damaged: the model holds the "
            f"parameters of the last step, {self.step}. load_best_model_at_end=False is content with those."
        )
        if self._config.on_save_error == "stop":
            raise CheckpointError(message)
        _LOG.error("%s", message)

    def output(self) -> TrainOutput:
        """What the run gives back; also written to `summary.json`."""
        progress, report = self.progress, self._trainer.data_report
        metrics = {
            **{f"train_{name}": value for name, value in progress.overall.means().items()},
            "train_runtime": time.perf_counter() - self._began,
            "num_tokens": progress.num_tokens,
            **self._loop.totals(),
            "peak_memory_bytes": peak_memory_bytes(),
            "loss_spikes": self._spikes,
            "failed_writes": self._news.failed_writes,
        }
        if self._best.step is not None and self._best.value is not None:
            metrics |= {"best_step": self._best.step, "best_value": self._best.value}
        output = TrainOutput(
            global_step=self.step,
            metrics=metrics,
            history=self._news.history,
            data_report={"rows": report.rows, **report.counts},
        )
        if self._folder is not None and is_speaker():
            summary = {"global_step": self.step, **metrics, "data_report": output.data_report}
            self.leave("summary.json", json.dumps(summary, indent=2) + "\n")
            self._write_page(f"finished behind step {self.step}")
        return output

    def _make_page(self) -> LiveReport | None:
        if self._folder is None or not is_speaker():
            return None
        trainer, kind = self._trainer, type(self._trainer.model).__name__
        return LiveReport(
            self._folder,
            title=" · ".join(name for name in (type(trainer).__name__, trainer._model_name) if name),
            config=shown_fields(self._config),
            versions=installed_versions(),
            auto_class=f"AutoEasyDeLModelFor{'SequenceClassification' if kind == 'SequenceClassifier' else 'CausalLM'}",
        )

    def _make_loop(self) -> Loop:
        trainer = self._trainer
        hooks = Hooks(
            annotate=self._annotate,
            judge=self._judge,
            log_due=self._log_due,
            log=self._logged,
            after_step=self._after_step,
        )
        throughput = Throughput(
            matmul_parameters(trainer.model), attention_dims(trainer.model), peak_flops_per_second()
        )
        return Loop(self.progress, trainer._train_step, hooks, throughput, last_step=trainer.total_steps)

    def _open_steps(self, resources: ExitStack) -> Iterable[PreparedStep]:
        steps = self._trainer._prepared_steps(self)
        if not self._trainer._reads_ahead:
            return resources.enter_context(closing(steps))
        prefetched = resources.enter_context(Prefetched(steps, give_up=lambda: self._signals.received is not None))
        if self.row_exchange is not None:
            resources.callback(self.row_exchange.close)  # before the thread is waited for: it may wait for others
        return prefetched

    def _annotate(self, batch: Batch) -> Batch:
        self._profile.before_step(self.step + 1)
        self.shapes[batch["input_ids"].shape] += 1
        return self._trainer._annotate(batch, self)

    def _judge(self, step: int, prepared: PreparedStep, loss: float, grad_norm: float) -> None:
        try:
            spike = self._watch.is_spike(step, prepared, loss=loss, grad_norm=grad_norm)
        except DivergedError as error:
            error.add_note(self._rows_of(prepared))
            raise
        if spike:
            self._spikes += 1
            _LOG.warning("LOSS SPIKE at step %d: %.4g. %s", step, loss, self._rows_of(prepared))

    def _rows_of(self, prepared: PreparedStep) -> str:
        rows = "\n".join(f"  {line}" for line in self._trainer.describe_batch(prepared.position))
        return f"Batch {prepared.batch} begins at data position {json.dumps(prepared.position)} and holds:\n{rows}"

    def _after_step(self, prepared: PreparedStep) -> None:
        step = self.step
        self._news.step(self)
        self._trainer._after_step(self)
        if self._profile.ends_behind(step):
            self._loop.settle()
            self._profile.end()
        if _due(step, self._config.preview_steps):
            self._preview()
        if _due(step, self._config.evaluation_steps):
            self._evaluate()
        if self._moments.is_due(step, prepared) and not self._loop.is_ending:
            self._save()  # at the end behind the last evaluation, whose result belongs into it
        if self._signals.asked_to_stop(step):
            self._loop.stop()

    def _finish(self) -> None:
        if self._config.preview_steps is not None and not _due(self.step, self._config.preview_steps):
            self._preview()
        if self._lacks_evaluation():
            self._evaluate()
        self._save()
        if self._checkpoints is not None:
            self._news.writing(self._checkpoints.wait)

    def _lacks_evaluation(self) -> bool:
        return self._config.evaluation_steps is not None and self.progress.evaluated != self.step

    def _interrupt(self, reason: str) -> None:
        self._save()
        if self._checkpoints is None:
            _LOG.warning("%s: stopped behind step %d. Nothing is saved: there is no save_directory.", reason, self.step)
        elif self._news.writing(self._checkpoints.wait):
            _LOG.warning("%s: stopped and saved behind step %d. Run again to go on.", reason, self.step)
        raise Interrupted(reason, self.step)

    def _logged(self, record: Record) -> None:
        share = record.get(ROUNDED_AWAY, 0.0)
        if share > _MUCH and not self._told_of_rounding:
            self._told_of_rounding = True
            _LOG.warning(
                "Step %d: %.0f %% of the updates are too small for parameters in %s, and change nothing. "
                "param_dtype='float32' keeps them; a higher learning_rate makes them larger.",
                self.step,
                100 * share,
                self._config.param_dtype,
            )
        self._news.logged(record, self)
        if self._page is not None and self._page.is_due:
            self._write_page(f"step {self.step}" + (f" of {total}" if (total := self._trainer.total_steps) else ""))

    def _write_page(self, state: str) -> None:
        page, report = self._page, self._trainer.data_report
        if page is not None:
            counts = {"rows": report.rows, **report.counts}
            self._news.writing(lambda: page.write(self._news.history, counts, state=state))

    def _log_due(self, step: int) -> bool:
        return step in (1, self._trainer.total_steps) or step % self._config.log_steps == 0

    def _tell(self, tell: Callable[[Any], None]) -> None:
        for callback in self._trainer.callbacks:
            tell(callback)

    def _evaluate(self) -> None:
        self._loop.settle()
        record = {"step": self.step, **self._trainer._evaluate_during(self)}
        better = self._best.improved_by(record)
        self.progress.evaluated = self.step
        self._news.evaluated(record, self)
        if better:
            self._save()
        self._loop.resume_clock()

    def _preview(self) -> None:
        self._loop.settle()
        config, trainer = self._config, self._trainer
        try:
            answers = greedy_answers(
                trainer._model_with(self.judged_params),
                trainer.processing_class,
                config.preview_prompts,
                max_new_tokens=config.preview_max_new_tokens,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is: told, and no reason to end a run
            _LOG.error("The previews of step %d failed, and training goes on: %r", self.step, error)
        else:
            self._news.previewed(self.step, config.preview_prompts, answers)
        self._loop.resume_clock()

    def _final_params(self) -> Params:
        best = self._best.step
        if not self._config.load_best_model_at_end or best in (None, self.step) or self._checkpoints is None:
            return self.judged_params
        params = self._checkpoints.params_of(best)
        self._missing_best = best if params is None else None
        return self.judged_params if params is None else params

    def _save(self) -> None:
        checkpoints = self._checkpoints
        if checkpoints is None:
            return
        self._loop.settle()
        self._news.writing(checkpoints.save)
        self._moments.saved()
        self._loop.resume_clock()


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
