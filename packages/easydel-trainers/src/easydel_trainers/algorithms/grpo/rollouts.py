"""Steps on completions that the model, or an engine, samples: where GRPO's come from."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import jax
import numpy as np
from easydata_sources import ShardedDataSource
from easydel_models.generation.engine import GenerationEngine
from easydel_models.generation.model_engine import ModelEngine

from easydel_trainers.algorithms.grpo.config import GRPOConfig
from easydel_trainers.algorithms.grpo.objective import make_logps_step, objective_metrics
from easydel_trainers.algorithms.grpo.prompts import PromptReader, Prompts
from easydel_trainers.algorithms.grpo.rewards import RewardFunctions
from easydel_trainers.algorithms.grpo.rollout import Rollout, completion_metrics
from easydel_trainers.algorithms.grpo.rollout_maker import RolloutMaker, Sampler
from easydel_trainers.algorithms.grpo.rollout_steps import Kept, RolloutSteps
from easydel_trainers.data.steps import PreparedStep
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.errors import RewardError
from easydel_trainers.reference.model import Following, ReferenceModel
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.step.device_mesh import put_batch
from easydel_trainers.step.metrics import MetricWindow
from easydel_trainers.step.objective import Batch, Extras, Params
from easydel_trainers.step.program import Program
from easydel_trainers.step_source import EvalState, StepSource, StepStart

if TYPE_CHECKING:
    from easydel_trainers.run.view import RunView

_REFERENCE = "reference."
_EVALUATION = 1  # tells the seeds of evaluations from those of training


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """What completions are made with.

    Attributes:
        rewards: what judges them.
        stop_ids: tokens that end one.
        columns: of the data, which some rows may lack.
        engine: who writes them; `None` = the model itself, in this process.
        reference: what the policy is held to; `None` = nothing.
        reference_digest: fingerprint of its weights; `None` = it is the policy before training, or not known.
        logs: whether reward functions may log metrics of whatever names.
    """

    rewards: RewardFunctions
    stop_ids: tuple[int, ...]
    columns: frozenset[str]
    engine: GenerationEngine | None
    reference: ReferenceModel | None
    reference_digest: str | None
    logs: bool

    @property
    def is_foreign(self) -> bool:
        """Whether tokens come from an engine with log-probabilities of its own."""
        return self.engine is not None and not isinstance(self.engine, ModelEngine)


@final
class Rollouts(StepSource):
    """Samples completions of the data's prompts, judges them, and trains on each rollout as often as is asked for.

    Args:
        config: how.
        data: the prompts.
        program: whose parameters sample, and whose steps they are for.
        sampling: what completions are made with.
    """

    def __init__(self, config: GRPOConfig, data: TrainingData, program: Program, sampling: Sampling):
        self._config, self._data, self._program, self.sampling = config, data, program, sampling
        self._corrects = config.importance_sampling_correction and sampling.is_foreign
        self._logps_step = make_logps_step(program.structure, config, mesh=program.mesh)
        self._kept = Kept()
        self._steps: RolloutSteps | None = None

    @property
    def callbacks(self) -> Sequence[Callback]:
        """What lets the reference follow, and what shows completions."""
        config, reference = self._config, self.sampling.reference
        follows = (Following(reference, config),) if reference is not None and config.sync_ref_model else ()
        return (*follows, _ShowCompletions(self)) if config.log_completions else follows

    @property
    def current(self) -> Rollout | None:
        """The rollout that the last step was taken on."""
        return None if self._steps is None else self._steps.current

    def prepare(self, *, own_rows: bool) -> None:
        """Nothing needs to be known of the rows."""

    def steps(self, run: RunView, start: StepStart) -> Generator[PreparedStep, None, None]:
        """See `StepSource`."""
        config, kept = self._config, self._kept
        self._kept = Kept()
        read = PromptReader(
            self._data.in_order(self._data.transform, state=start.data_state),
            prompts=config.prompts_per_step,
            done=start.batch if kept.following is None else kept.following.number,
            skip=config.skip_batches,
        )
        self._steps = RolloutSteps(
            run,
            iterations=config.num_iterations,
            ahead=config.steps_off_policy > 0,
            read=read,
            make=self._rollout,
            complete=self._with_reference,
            kept=kept,
            mesh=self._program.mesh,
        )
        return self._steps.run()

    def annotate(self, batch: Batch) -> Batch:
        """Returns a rollout is complete."""
        return batch

    def measure(self, source: ShardedDataSource, state: EvalState) -> dict[str, float]:
        """Returns metrics of completions of held-out prompts."""
        if self._steps is not None:
            self._steps.wait()  # the engine samples with one set of parameters at a time
        config, program = self._config, self._program
        transform = self._data.eval_transform()
        prompts_per_batch = max(config.eval_batch_size // config.num_return_sequences, 1)
        size = prompts_per_batch * config.num_return_sequences
        read = PromptReader(self._data.once(source, transform), prompts=prompts_per_batch)
        window = MetricWindow()
        while (prompts := read()) is not None:
            made = self._rollout(prompts, state.params, state.step, rows_per_batch=size, stream=_EVALUATION)
            arrays = put_batch(self._with_reference(made).arrays, program.mesh)
            window.add(jax.device_get(program.eval_step(state.params, arrays)))
            window.add(made.measured)
        transform.report.check(final=True)
        return window.means()

    def metric_names(self, extras: Extras) -> Mapping[str, set[str]] | None:
        """Returns those of the loss, of completions and of reward functions that log none of their own."""
        if self.sampling.logs:
            return None
        own = {"loss", *objective_metrics(self._config), *completion_metrics(())}
        own |= {"reward", "reward_std", "frac_reward_zero_std", "rollout/seconds", "rollout/reward_seconds"}
        own |= {f"rewards/{name}/{what}" for name in self.sampling.rewards.names for what in ("mean", "std")}
        return dict.fromkeys(self._data.held_out, own)

    def identity(self) -> dict[str, Any]:
        """Who judges, what ends a completion, and the reference."""
        sampling = self.sampling
        return {
            "reward functions": list(sampling.rewards.names),
            "stop tokens": list(sampling.stop_ids),
            "reference model": sampling.reference_digest or "the policy before training",
        }

    def meta(self) -> dict[str, Any]:
        """Returns the rollouts that are in use."""
        return {} if self._steps is None else self._steps.kept().meta()

    def arrays(self) -> Mapping[str, np.ndarray]:
        """Returns those of the rollouts, and of a reference that follows."""
        arrays, reference = {} if self._steps is None else self._steps.kept().arrays(), self.sampling.reference
        if reference is not None and self._config.sync_ref_model:
            arrays |= {_REFERENCE + name: array for name, array in reference.arrays().items()}
        return arrays

    def restore(self, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """See `StepSource`."""
        self._kept, reference = Kept.restored(meta, arrays), self.sampling.reference
        if reference is not None and self._config.sync_ref_model:
            mine = {name: array for name, array in arrays.items() if name.startswith(_REFERENCE)}
            reference.restore({name.removeprefix(_REFERENCE): array for name, array in mine.items()})

    def _rollout(
        self, prompts: Prompts, params: Params, step: int, *, rows_per_batch: int | None = None, stream: int = 0
    ) -> Rollout:
        """Returns completions of `prompts` by these parameters, which have seen `step` steps."""
        config, mesh = self._config, self._program.mesh
        whole = self._program.whole_params(params)
        # Whether the parameters that are trained may be others than those that sampled.
        differs = config.num_iterations > 1 or config.steps_off_policy > 0 or self._corrects
        sampler = Sampler(
            engine=self._engine_with(params),
            logps=(lambda arrays: self._logps_step(whole, put_batch(arrays, mesh))) if differs and not stream else None,
            sampled_at=step,
        )
        seed = np.random.SeedSequence([config.seed, stream, prompts.number]).generate_state(1)[0]
        try:
            return self._maker(rows_per_batch).make(prompts, sampler, seed=int(seed >> 1))
        except RewardError as error:
            if error.row is not None and not stream:
                prompt = error.row // config.num_return_sequences
                error.add_note("Its prompt: " + self._data.describe_batch(prompts.position)[prompt])
            raise

    def _engine_with(self, params: Params) -> GenerationEngine:
        """Returns an engine that samples by these parameters."""
        model, engine = self._program.model_with(params), self.sampling.engine
        if engine is None:
            # Made anew for each rollout: its copy of the layers would take the room that the update needs.
            return ModelEngine(model)
        engine.update(model)
        return engine

    def _maker(self, rows_per_batch: int | None) -> RolloutMaker:
        data, sampling = self._data, self.sampling
        return RolloutMaker(
            config=self._config,
            tokenizer=data.tokenizer,
            rewards=sampling.rewards,
            arrange=data.arrange if rows_per_batch is None else data.layout(rows=rows_per_batch).arrange,
            stop_ids=sampling.stop_ids,
            corrects=self._corrects,
            last_step=data.total_steps,
            vocab_size=self._program.model.config.vocab_size,
            columns=sampling.columns,
        )

    def _with_reference(self, rollout: Rollout) -> Rollout:
        reference = self.sampling.reference
        if reference is None:
            return rollout
        batch = put_batch(rollout.arrays, self._program.mesh)
        return rollout.with_arrays(reference_logps=np.asarray(reference.logps(batch)))


@final
class _ShowCompletions(Callback):
    """Shows completions of logged steps."""

    def __init__(self, rollouts: Rollouts):
        self._rollouts = rollouts

    def on_step(self, run: RunView) -> None:
        current = self._rollouts.current
        if current is not None and run.is_logged(run.step):
            run.show_sampled(current.shown)
