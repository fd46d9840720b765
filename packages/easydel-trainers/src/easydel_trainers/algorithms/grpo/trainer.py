"""Group-relative policy optimisation: the trainer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, final

import jax
import numpy as np
from easydata_sources import ShardedDataSource
from easydel_models import SequenceClassifier
from easydel_models.adapters.lora import combine_params
from easydel_models.attention import honours_prefixes
from easydel_models.generation.engine import GenerationEngine
from easydel_models.generation.model_engine import ModelEngine
from easydel_models.parameters import split_params
from easydel_transforms import GRPOPreprocessTransform

from easydel_trainers.algorithms.grpo.config import GRPOConfig
from easydel_trainers.algorithms.grpo.errors import RewardError
from easydel_trainers.algorithms.grpo.objective import GRPOObjective, make_logps_step, objective_metrics
from easydel_trainers.algorithms.grpo.reward_model import RewardModel, require_model
from easydel_trainers.algorithms.grpo.rewards import RewardFunction, RewardFunctions, function_logs
from easydel_trainers.algorithms.grpo.rollout import Rollout, completion_metrics
from easydel_trainers.algorithms.grpo.rollout_maker import Prompts, RolloutMaker, Sampler, columns_of
from easydel_trainers.algorithms.grpo.rollout_steps import Kept, RolloutSteps
from easydel_trainers.causal_lm import load_causal_lm
from easydel_trainers.data.counted import counting
from easydel_trainers.data.epochs import EpochRows
from easydel_trainers.data.groups import GroupLayout
from easydel_trainers.data.steps import PreparedStep
from easydel_trainers.device_mesh import put_batch
from easydel_trainers.errors import ConfigError
from easydel_trainers.evaluation import metric_name
from easydel_trainers.loop import Record
from easydel_trainers.metrics import MetricWindow
from easydel_trainers.params_digest import params_digest
from easydel_trainers.preference.reference import ReferenceModel, held_params, load_reference
from easydel_trainers.step import Params
from easydel_trainers.trainer import Trainer
from easydel_trainers.training_run import TrainingRun

AnyReward = RewardFunction | SequenceClassifier | str | PathLike[str]

_REFERENCE = "reference."
_EVALUATION = 1  # tells the seeds of evaluations from those of training


@final
class GRPOTrainer(Trainer[GRPOConfig]):
    """Trains a causal language model on its own answers, each judged by the others to the same prompt.

    Args:
        model: see `Trainer`.
        arguments: see `Trainer`.
        reward_funcs: one or several of: a function or coroutine function of `prompts`, `completions`,
            `completion_ids` and every other column of the data, by name, each a list with one entry for each
            completion, which returns a list of numbers, `None` where it has nothing to say; or a reward model: a
            `SequenceClassifier`, or the folder, Hub id or `.gguf` file of one.
        reference_model: what `beta` holds the policy to: a model, or a folder, Hub id or `.gguf` file. `None` = the
            policy as it is before training, adapters that it came with included.
        engine: who writes the completions. `None` = the model itself, in this process.
        options: the others of `Trainer`.
    """

    def __init__(
        self,
        model: Any,
        arguments: GRPOConfig | None = None,
        *,
        reward_funcs: AnyReward | Sequence[AnyReward] = (),
        reference_model: Any = None,
        engine: GenerationEngine | None = None,
        **options: Any,
    ):
        self._given_rewards = _checked_rewards(reward_funcs)
        super().__init__(model, arguments, **options)
        config = self.arguments
        self._rewards = self._reward_functions()
        self._engine = engine
        self._stop_ids = self._find_stop_ids()
        self._logps_step = make_logps_step(split_params(self.model)[0], config, mesh=self._mesh)
        self._reference = self._make_reference(reference_model)
        self._kept = Kept()
        self._steps: RolloutSteps | None = None

    _reference_digest: str | None = None

    # What is particular to this algorithm.

    def _default_config(self) -> GRPOConfig:
        return GRPOConfig()

    def _make_transform(self) -> GRPOPreprocessTransform:
        config, longest = self.arguments, self.arguments.max_prompt_length
        if longest is None and self._rows.positions is not None:
            longest = self._rows.positions - config.max_completion_length
        return GRPOPreprocessTransform(tokenizer=self.processing_class, max_prompt_length=longest, **counting(config))

    def _check_first_rows(self) -> None:
        self._columns = columns_of(self._first_rows)
        if self._first_rows:
            functions = [one for one in self._given_rewards if not isinstance(one, SequenceClassifier | str | PathLike)]
            RewardFunctions(functions, timeout=None).require_columns(self._columns)

    @property
    def _longest_row(self) -> int | None:
        return self.model.config.max_positions if self.arguments.max_length is None else self.arguments.max_length

    def _metric_names(self) -> set[str] | None:
        config = self.arguments
        if any(function_logs(one) for one in self._given_rewards):
            return None
        own = {"loss", *objective_metrics(config), *completion_metrics(())}
        own |= {"reward", "reward_std", "frac_reward_zero_std", "rollout/seconds", "rollout/reward_seconds"}
        own |= {f"rewards/{name}/{what}" for name in self._rewards.names for what in ("mean", "std")}
        return {metric_name(source, metric) for source in self._rows.held_out for metric in own}

    def _fit_model(self) -> None:
        config, most = self.arguments, self.model.config.max_positions
        if config.max_length is not None and config.max_length > most:
            raise ConfigError(
                "max_length",
                config.max_length,
                f"at most {most}, the positions that the model was made for: lower max_prompt_length "
                f"({config.max_prompt_length}) or max_completion_length ({config.max_completion_length})",
            )
        if config.max_completion_length >= most:
            raise ConfigError(
                "max_completion_length", config.max_completion_length, f"less than the model's {most} positions"
            )
        self._rows.positions = most
        self._transform = self._make_transform()
        super()._fit_model()

    def _load_model(self, model: Any) -> Any:
        return load_causal_lm(model, self.arguments)

    def _make_objective(self, structure: Any) -> GRPOObjective:
        return GRPOObjective(structure=structure, config=self.arguments)

    def _layout(self, *, rows: int, micro_batches: int) -> GroupLayout:
        config, pad = self.arguments, self.arguments.padding_value
        return GroupLayout(
            micro_batches=micro_batches,
            rows=rows,
            sequences=1,
            padding_free=config.padding_free,
            share_prompts=honours_prefixes(config.attention),
            parts=self._row_parts,
            group=lambda groups: groups,
            ladder=config.length_buckets,
            pad_token_id=(getattr(self.processing_class, "pad_token_id", None) or 0) if pad is None else pad,
        )

    @property
    def _rows_per_batch(self) -> int:
        return self.arguments.prompts_per_step

    # What a user calls.

    def _training_batch_iterator(self) -> Iterator[dict[str, np.ndarray]]:
        """Prompts of whole rollouts in training order, from the start; training does not advance.

        Each is `input_ids` and `attention_mask`, int32 `[total_batch_size, length]`, padded on the left; the
        `num_return_sequences` lines of a prompt lie next to each other.
        """
        config = self.arguments
        rows = self._rows.in_order(self._make_transform())
        while batch := list(itertools.islice(rows, config.prompts_per_step)):
            yield _left_padded([row["prompt_ids"] for row in batch], config.num_return_sequences)

    # Hooks of a run.

    _reads_ahead = False

    def _prepared_steps(self, run: TrainingRun) -> Generator[PreparedStep, None, None]:
        config, kept = self.arguments, self._kept
        self._kept = Kept()
        rows = self._rows.in_order(self._transform, state=run.progress.data_state)
        following = kept.following
        read = _PromptReader(rows, config, done=run.progress.batch if following is None else following.number)
        self._steps = RolloutSteps(
            run,
            iterations=config.num_iterations,
            ahead=config.steps_off_policy > 0,
            read=read,
            data_state=rows.state,
            make=self._rollout,
            complete=self._with_reference,
            kept=kept,
            mesh=self._mesh,
        )
        return self._steps.run()

    def _after_step(self, run: TrainingRun) -> None:
        config, steps = self.arguments, self._steps
        if self._reference is not None and config.sync_ref_model and run.step % config.ref_model_sync_steps == 0:
            self._reference.follow(run.params, alpha=config.ref_model_mixup_alpha)
        if steps is not None and steps.current is not None and config.log_completions and run.is_logged(run.step):
            run.show_sampled(steps.current.shown)

    def _extra_meta(self) -> dict[str, Any]:
        return {} if self._steps is None else self._steps.kept().meta()

    def _extra_arrays(self) -> Mapping[str, np.ndarray]:
        arrays = {} if self._steps is None else self._steps.kept().arrays()
        if self._reference is not None and self.arguments.sync_ref_model:
            arrays |= {_REFERENCE + name: array for name, array in self._reference.arrays().items()}
        return arrays

    def _restore_extras(self, meta: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        self._kept = Kept.restored(meta, arrays)
        if self._reference is not None and self.arguments.sync_ref_model:
            mine = {name: array for name, array in arrays.items() if name.startswith(_REFERENCE)}
            self._reference.restore({name.removeprefix(_REFERENCE): array for name, array in mine.items()})

    def _identity(self) -> dict[str, Any]:
        reference = {"reference model": self._reference_digest or "the policy before training"}
        return {"reward functions": list(self._rewards.names), "stop tokens": list(self._stop_ids), **reference}

    def _measure(self, params: Params, source: ShardedDataSource, run: TrainingRun | None) -> Record:
        config = self.arguments
        if self._steps is not None:
            self._steps.wait()  # the engine samples with one set of parameters at a time
        transform = self._make_transform()
        rows = self._rows.once(source, transform)
        prompts_per_batch = max(config.eval_batch_size // config.num_return_sequences, 1)
        size = prompts_per_batch * config.num_return_sequences
        read = _PromptReader(rows, config, done=0, prompts=prompts_per_batch, skip=())
        window, step = MetricWindow(), 0 if run is None else run.step
        while (prompts := read()) is not None:
            made = self._rollout(prompts, params, step, rows_per_batch=size, stream=_EVALUATION)
            arrays = put_batch(self._with_reference(made).arrays, self._mesh)
            window.add(jax.device_get(self._eval_step(params, arrays)))
            window.add(made.measured)
        transform.report.check(final=True)
        return window.means()

    def _count_steps(self, *, exactly: bool = False) -> int | None:
        rollouts, config = super()._count_steps(exactly=exactly), self.arguments
        if rollouts is None or config.max_training_steps is not None:
            return rollouts
        return rollouts * config.num_iterations

    # Rollouts.

    def _rollout(
        self, prompts: Prompts, params: Params, step: int, *, rows_per_batch: int | None = None, stream: int = 0
    ) -> Rollout:
        """Completions of `prompts` by these parameters, which have seen `step` steps."""
        config = self.arguments
        whole = combine_params(params, self._frozen)
        sampler = Sampler(
            engine=self._engine_with(params),
            logps=(lambda arrays: self._logps_step(whole, put_batch(arrays, self._mesh)))
            if self._needs_old_logps and not stream
            else None,
            sampled_at=step,
        )
        seed = np.random.SeedSequence([config.seed, stream, prompts.number]).generate_state(1)[0]
        try:
            return self._maker(rows_per_batch).make(prompts, sampler, seed=int(seed >> 1))
        except RewardError as error:
            if error.row is not None and not stream:
                prompt = error.row // config.num_return_sequences
                error.add_note("Its prompt: " + self.describe_batch(prompts.position)[prompt])
            raise

    def _engine_with(self, params: Params) -> GenerationEngine:
        """An engine that samples by these parameters."""
        model = self._model_with(params)
        if self._engine is None:
            # Made anew for each rollout: its copy of the layers would take the room that the update needs.
            return ModelEngine(model)
        self._engine.update(model)
        return self._engine

    def _maker(self, rows_per_batch: int | None) -> RolloutMaker:
        rows = rows_per_batch
        arrange = self._arrange if rows is None else self._layout(rows=rows, micro_batches=1).arrange
        return RolloutMaker(
            config=self.arguments,
            tokenizer=self.processing_class,
            rewards=self._rewards,
            arrange=arrange,
            stop_ids=self._stop_ids,
            corrects=self._corrects,
            last_step=self._total_steps,
            vocab_size=self.model.config.vocab_size,
            columns=self._columns,
        )

    @property
    def _corrects(self) -> bool:
        """Whether tokens come from an engine with log-probabilities of its own."""
        own = self._engine is None or isinstance(self._engine, ModelEngine)
        return self.arguments.importance_sampling_correction and not own

    @property
    def _needs_old_logps(self) -> bool:
        """Whether the parameters that are trained may be others than those that sampled."""
        return self.arguments.num_iterations > 1 or self.arguments.steps_off_policy > 0 or self._corrects

    def _with_reference(self, rollout: Rollout) -> Rollout:
        if self._reference is None:
            return rollout
        batch = put_batch(rollout.arrays, self._mesh)
        return rollout.with_arrays(reference_logps=np.asarray(self._reference.logps(batch)))

    # Checks at the door.

    def _reward_functions(self) -> RewardFunctions:
        config, given = self.arguments, self._given_rewards
        if config.reward_weights is not None and len(config.reward_weights) != len(given):
            raise ConfigError(
                "reward_weights", config.reward_weights, f"{len(given)} numbers, one for each reward function"
            )
        return RewardFunctions(
            [self._reward_function(one) for one in given],
            timeout=config.reward_timeout,
            threaded=config.steps_off_policy > 0,  # rollouts are then made in a thread
        )

    def _reward_function(self, given: Any) -> Callable[..., Any]:
        if isinstance(given, SequenceClassifier | str | PathLike):
            return RewardModel(given, self.processing_class, self.arguments)
        return given

    def _find_stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a completion: the model's, and the tokenizer's."""
        of_tokenizer = getattr(self.processing_class, "eos_token_id", None)
        ids = {*self.model.config.eos_token_ids, *(() if of_tokenizer is None else (of_tokenizer,))}
        if not ids and self.arguments.mask_truncated_completions:
            raise ConfigError(
                "mask_truncated_completions",
                True,
                "False, or an EOS token on the tokenizer: without one no completion ends, and all would be left out",
            )
        return tuple(sorted(ids))

    def _make_reference(self, reference_model: Any) -> ReferenceModel | None:
        config = self.arguments
        if not config.beta:
            if reference_model is not None:
                raise ConfigError("reference_model", "given", "none where beta is 0, which asks for no reference")
            return None
        if config.sync_ref_model and self.model.lora is not None:
            raise ConfigError(
                "sync_ref_model", True, "False for a model with adapters: a reference that follows is a whole model"
            )
        reference = load_reference(reference_model, self.model, config)
        structure, params = split_params(reference)
        if reference_model is not None and config.save_directory is not None:
            self._reference_digest = params_digest(params)
        step = make_logps_step(structure, config, mesh=self._mesh)
        return ReferenceModel(held_params(reference, self.model), step)


def _checked_rewards(reward_funcs: Any) -> tuple[Any, ...]:
    """Reward functions as they were given, one or several; names and values that cannot be any are refused."""
    several = isinstance(reward_funcs, Sequence) and not isinstance(reward_funcs, str)
    given: Sequence[Any] = reward_funcs if several else [reward_funcs]
    if not given:
        raise ConfigError("reward_funcs", reward_funcs, "at least one function or reward model")
    for one in given:
        if isinstance(one, str | PathLike):
            require_model(one)
        elif not isinstance(one, SequenceClassifier) and not callable(one):
            raise ConfigError("reward_funcs", one, "functions, SequenceClassifiers, or folders or Hub ids of them")
    return tuple(given)


class _PromptReader:
    """Reads the prompts of one rollout after the other."""

    def __init__(
        self,
        rows: EpochRows,
        config: GRPOConfig,
        *,
        done: int,
        prompts: int | None = None,
        skip: Sequence[int] | None = None,
    ):
        self._rows, self._done = rows, done
        self._prompts = config.prompts_per_step if prompts is None else prompts
        self._skip = frozenset(config.skip_batches if skip is None else skip)

    def __call__(self) -> Prompts | None:
        while True:
            position = self._rows.state()
            taken = list(itertools.islice(self._rows, self._prompts))
            if not taken:
                return None
            self._done += 1
            if self._done not in self._skip:
                return Prompts(rows=taken, number=self._done, epoch=self._rows.epoch, position=position)


def _left_padded(prompts: Sequence[np.ndarray], times: int) -> dict[str, np.ndarray]:
    length = max(len(prompt) for prompt in prompts)
    ids = np.zeros((len(prompts), length), np.int32)
    mask = np.zeros_like(ids)
    for line, prompt in enumerate(prompts):
        ids[line, length - len(prompt) :] = prompt
        mask[line, length - len(prompt) :] = 1
    return {"input_ids": np.repeat(ids, times, axis=0), "attention_mask": np.repeat(mask, times, axis=0)}
