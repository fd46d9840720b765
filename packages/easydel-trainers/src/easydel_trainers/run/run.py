"""One run: a training from its first step, or its newest checkpoint, to its last."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import final

from easydel_trainers.checkpoints.checkpointer import installed_versions
from easydel_trainers.checkpoints.run_checkpoints import RunCheckpoints, open_checkpoints
from easydel_trainers.checkpoints.save_schedule import SaveSchedule
from easydel_trainers.config import TrainerConfig, shown_fields
from easydel_trainers.data.prefetch import Prefetched
from easydel_trainers.data.row_exchange import open_exchange
from easydel_trainers.data.steps import PreparedStep
from easydel_trainers.errors import CheckpointError
from easydel_trainers.processes import is_main_process, losses_named
from easydel_trainers.report.live import LiveReport
from easydel_trainers.run.best_model import BestModel
from easydel_trainers.run.evaluation import evaluate
from easydel_trainers.run.flops import attention_dims, matmul_parameters, peak_flops_per_second
from easydel_trainers.run.interruption import Interrupted
from easydel_trainers.run.loop import Hooks, Loop, RunState
from easydel_trainers.run.loss_watch import LossWatch
from easydel_trainers.run.output import TrainOutput
from easydel_trainers.run.previews import greedy_answers
from easydel_trainers.run.profile_window import ProfileWindow
from easydel_trainers.run.recorder import RunRecorder
from easydel_trainers.run.resource_use import peak_memory_bytes
from easydel_trainers.run.signals import StopSignals
from easydel_trainers.run.throughput import Throughput
from easydel_trainers.run.view import RunView
from easydel_trainers.step.averaging import eval_params
from easydel_trainers.step.objective import Batch, Params
from easydel_trainers.step_source import EvalState, StepStart
from easydel_trainers.training import Training

_LOG = logging.getLogger(__name__)


def train(training: Training) -> TrainOutput:
    """Trains to the end, from the newest checkpoint if there is one and `resume` allows it.

    Raises:
        CheckpointError: if the checkpoint found belongs to another run, or the best one is lost.
        DivergedError: when the loss is no longer finite.
        DataQualityError: when too many rows are cut, dropped or odd.
        Interrupted: when a signal or the cluster asked to stop; a checkpoint is written by then.
    """
    with ExitStack() as resources:
        run = Run(training, resources)
        try:
            with losses_named():
                run.take_steps()
        finally:
            run.give_back()
        run.require_best()
    return run.output()


@final
class Run:
    """What a run holds open, and how it goes.

    Args:
        training: what is trained on what.
        resources: what the run opens is closed with it: checkpoints still being written, threads, the bar.

    Raises:
        CheckpointError: if the checkpoint found belongs to another run, or the folder cannot be used.
    """

    def __init__(self, training: Training, resources: ExitStack):
        self._training, self._config, self._began = training, training.config, time.perf_counter()
        # First of all: whoever sees the run's folder or log may rely on a signal being heeded.
        self._signals = resources.enter_context(StopSignals())
        self.state = RunState(state=training.program.initial_state())
        self._best = BestModel(self._config.metric_for_best_model, greater=self._config.greater_is_better)
        self._missing_best: int | None = None
        self.checkpoints: RunCheckpoints | None = open_checkpoints(training, self.state, self._best, resources)
        self.recorder = RunRecorder(
            self._config,
            (*training.callbacks, *training.source.callbacks),
            page=_page(training),
            data_report=self._data_report,
            done=self.state.step,
            total=training.data.total_steps,
            resources=resources,
        )
        self._save_schedule = SaveSchedule(self._config)
        self._watch = LossWatch(self._config.loss_spike_factor, training.data.describe_batch)
        self._profile = _profile(self._config, resources)
        self._loop = self._make_loop()
        self.view = RunView(
            self.state,
            self._loop,
            last_step=training.data.total_steps,
            show_sampled=self.recorder.sampled,
            write_file=self.recorder.write_file,
        )
        self.steps: Iterable[PreparedStep] = self._open_steps(resources)

    def take_steps(self) -> None:
        """Trains to the end; see `train`."""
        config, state, loop, recorder = self._config, self.state, self._loop, self.recorder
        began_at = state.step
        recorder.begin(self.view)
        with closing(loop.dispatched(self.steps)) as dispatched:
            for prepared in dispatched:
                recorder.step(self.view)
                if self._profile.ends_behind(state.step):
                    loop.settle()
                    self._profile.end()
                if _is_due(state.step, config.preview_steps):
                    self._preview()
                if _is_due(state.step, config.evaluation_steps):
                    self._evaluate()
                if self._save_schedule.is_due(state.step, prepared) and not loop.is_ending:
                    self.save()  # at the end behind the last evaluation, whose result belongs into it
                if self._signals.asked_to_stop(state.step):
                    loop.stop()
        if self._signals.received is not None:
            self._interrupt(self._signals.received)
        loop.finish()
        if state.step > began_at:
            if config.preview_steps is not None and not _is_due(state.step, config.preview_steps):
                self._preview()
            if self._lacks_evaluation():
                self._evaluate()
            self.save()
            if self.checkpoints is not None:
                recorder.writing(self.checkpoints.wait)
        elif self._lacks_evaluation():
            self._evaluate()  # a kill, or a checkpoint of the last step written before it
        self._settle_report()
        recorder.end(self.view)

    def save(self) -> None:
        """Begins to write a checkpoint of the present step, if there is a folder."""
        if self.checkpoints is None:
            return
        self._loop.settle()
        self.recorder.writing(self.checkpoints.save)
        self._save_schedule.saved()
        self._loop.resume_clock()

    def give_back(self) -> None:
        """Gives the model the parameters that it is to hold: those of the best evaluation, an average, or the last."""
        params, extras = self._final_params(), self.state.state.extras
        # The optimizer's state is twice the model's size, and of no more use.
        self.state.state = self.state.state._replace(params=params, opt_state=())
        self._training.program.take_back(params, extras)

    def require_best(self) -> None:
        """Looks whether the model holds what it is to hold.

        Raises:
            CheckpointError: if it holds the last parameters in place of the best ones, whose checkpoint is lost.
        """
        if self._missing_best is None:
            return
        message = (
            f"The checkpoint of the best step, {self._missing_best}, is not there or damaged: the model holds the "
            f"parameters of the last step, {self.state.step}. load_best_model_at_end=False is content with those."
        )
        if self._config.on_save_error == "stop":
            raise CheckpointError(message)
        _LOG.error("%s", message)

    def output(self) -> TrainOutput:
        """Returns what the run gives back; also written to `summary.json`."""
        state, best = self.state, self._best
        metrics = {
            **{f"train_{name}": value for name, value in state.overall.means().items()},
            "train_runtime": time.perf_counter() - self._began,
            "num_tokens": state.num_tokens,
            **self._loop.totals(),
            "peak_memory_bytes": peak_memory_bytes(),
            "loss_spikes": self._watch.spikes,
            "failed_writes": self.recorder.failed_writes,
        }
        if best.step is not None and best.value is not None:
            metrics |= {"best_step": best.step, "best_value": best.value}
        report = self._data_report()
        output = TrainOutput(global_step=state.step, metrics=metrics, history=self.recorder.history, data_report=report)
        self.recorder.finish(state.step, {"global_step": state.step, **metrics, "data_report": report})
        return output

    def _evaluate(self) -> None:
        state, training = self.state, self._training
        self._loop.settle()
        params = EvalState(params=self._eval_params(), extras=state.state.extras, step=state.step)
        record = {"step": state.step, **evaluate(training.source, training.data.held_out, params)}
        better = self._best.improved_by(record)
        state.evaluated = state.step
        self.recorder.evaluated(record, self.view)
        if better:
            self.save()
        self._loop.resume_clock()

    def _preview(self) -> None:
        config, program = self._config, self._training.program
        self._loop.settle()
        try:
            answers = greedy_answers(
                program.model_with(self._eval_params()),
                self._training.data.tokenizer,
                config.preview_prompts,
                max_new_tokens=config.preview_max_new_tokens,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is: told, and no reason to end a run
            _LOG.error("The previews of step %d failed, and training goes on: %r", self.state.step, error)
        else:
            self.recorder.previewed(self.state.step, config.preview_prompts, answers)
        self._loop.resume_clock()

    def _interrupt(self, reason: str) -> None:
        self.save()
        if self.checkpoints is None:
            _LOG.warning(
                "%s: stopped behind step %d. Nothing is saved: there is no save_directory.", reason, self.state.step
            )
        elif self.recorder.writing(self.checkpoints.wait):
            _LOG.warning("%s: stopped and saved behind step %d. Run again to go on.", reason, self.state.step)
        raise Interrupted(reason, self.state.step)

    def _settle_report(self) -> None:
        """Leaves in the data report what was trained on, not what was read ahead."""
        if isinstance(self.steps, Prefetched):
            self.steps.close()
        if self.state.data_state is not None:
            self._training.data.count_up_to(self.state.data_state)
        self._training.data.report.check(final=True)

    def _lacks_evaluation(self) -> bool:
        return self._config.evaluation_steps is not None and self.state.evaluated != self.state.step

    def _eval_params(self) -> Params:
        return eval_params(self.state.state.params, self.state.state.opt_state)

    def _final_params(self) -> Params:
        best = self._best.step
        if not self._config.load_best_model_at_end or best in (None, self.state.step) or self.checkpoints is None:
            return self._eval_params()
        params = self.checkpoints.params_of(best)
        self._missing_best = best if params is None else None
        return self._eval_params() if params is None else params

    def _data_report(self) -> dict[str, int]:
        report = self._training.data.report
        return {"rows": report.rows, **report.counts}

    # What is opened.

    def _make_loop(self) -> Loop:
        program, last_step = self._training.program, self._training.data.total_steps
        model = program.model
        hooks = Hooks(
            annotate=self._annotate,
            on_result=self._watch.look,
            is_logged=lambda step: step in (1, last_step) or step % self._config.log_steps == 0,
            on_record=lambda record: self.recorder.logged(record, self.view),
        )
        throughput = Throughput(matmul_parameters(model), attention_dims(model), peak_flops_per_second())
        return Loop(self.state, program.train_step, hooks, throughput, last_step=last_step)

    def _annotate(self, batch: Batch) -> Batch:
        self._profile.before_step(self.state.step + 1)
        return self._training.source.annotate(batch)

    def _open_steps(self, resources: ExitStack) -> Iterable[PreparedStep]:
        training, exchange = self._training, open_exchange()
        start = StepStart(data_state=self.state.data_state, batch=self.state.batch, exchange=exchange)
        steps = training.source.steps(self.view, start)
        if training.data.rules.generates:
            return resources.enter_context(closing(steps))  # a step needs the live parameters: none is prepared ahead
        prefetched = resources.enter_context(Prefetched(steps, give_up=lambda: self._signals.received is not None))
        if exchange is not None:
            resources.callback(exchange.close)  # before the thread is waited for: it may wait for others
        return prefetched


def _page(training: Training) -> LiveReport | None:
    config = training.config
    if config.save_directory is None or not is_main_process():
        return None
    kind = type(training.program.model).__name__
    return LiveReport(
        Path(config.save_directory),
        title=" · ".join(name for name in (training.name, training.model_name) if name),
        config=shown_fields(config),
        versions=installed_versions(),
        auto_class=f"AutoEasyDeLModelFor{'SequenceClassification' if kind == 'SequenceClassifier' else 'CausalLM'}",
    )


def _profile(config: TrainerConfig, resources: ExitStack) -> ProfileWindow:
    folder = Path() if config.save_directory is None else Path(config.save_directory)
    return ProfileWindow(folder / "profile", config.profile_steps if is_main_process() else None, resources)


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
