"""Group-relative policy optimisation: completions of a prompt, each judged by the others."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, final

from easydel_models import SequenceClassifier
from easydel_models.attention import honours_prefixes
from easydel_models.generation.engine import GenerationEngine
from easydel_models.parameters import split_params
from easydel_transforms import GRPOPreprocessTransform

from easydel_trainers.algorithm import Algorithm
from easydel_trainers.algorithms.grpo.config import GRPOConfig
from easydel_trainers.algorithms.grpo.objective import GRPOObjective, make_logps_step
from easydel_trainers.algorithms.grpo.prompts import PromptLayout, columns_of
from easydel_trainers.algorithms.grpo.reward_model import RewardModel, require_model
from easydel_trainers.algorithms.grpo.rewards import RewardFunction, RewardFunctions, function_logs
from easydel_trainers.algorithms.grpo.rollouts import Rollouts, Sampling
from easydel_trainers.checkpoints.params_digest import params_digest
from easydel_trainers.data.batch_rules import RowUse, counting
from easydel_trainers.data.layout import Row
from easydel_trainers.data.step_rows import SequenceLayout
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.errors import ConfigError
from easydel_trainers.model.loading import load_causal_lm
from easydel_trainers.reference.model import ReferenceModel, held_params, load_reference
from easydel_trainers.step.program import Program

AnyReward = RewardFunction | SequenceClassifier | str | PathLike[str]
_MODELS = (SequenceClassifier, str, PathLike)  # the others are functions


@final
class GRPO(Algorithm[GRPOConfig]):
    """Prompts, which the model answers, and what judges the answers.

    Args:
        config: its options.
        tokenizer: of the rows.
        reward_funcs: one or several functions or reward models; none where nothing will be sampled.
        reference_model: what `beta` holds the policy to; `None` = the policy as it is before training.
        engine: who writes the completions. `None` = the model itself, in this process.
    """

    config_type = GRPOConfig
    generates = True

    def __init__(
        self,
        config: GRPOConfig,
        tokenizer: Any,
        *,
        reward_funcs: AnyReward | Sequence[AnyReward] = (),
        reference_model: Any = None,
        engine: GenerationEngine | None = None,
    ):
        super().__init__(
            config,
            tokenizer,
            rows_per_step=config.prompts_per_step,
            steps_per_batch=config.num_iterations,
            check_rows=self._note_columns,
        )
        self._rewards, self._engine, self._reference_model = _as_tuple(reward_funcs), engine, reference_model
        self._columns: frozenset[str] = frozenset()

    def transform(self, use: RowUse) -> GRPOPreprocessTransform:
        """Returns rows of `prompt`, `prompt_ids` and every other column."""
        config, longest = self.config, self.config.max_prompt_length
        if longest is None and use.positions is not None:
            longest = use.positions - config.max_completion_length
        return GRPOPreprocessTransform(tokenizer=self.tokenizer, max_prompt_length=longest, **counting(config))

    def layout(self, *, rows: int, micro_batches: int, parts: int) -> PromptLayout:
        """Returns one completion a row."""
        config, pad = self.config, self.config.padding_value
        completions = SequenceLayout(
            micro_batches=micro_batches,
            rows=rows,
            sequences=1,
            padding_free=config.padding_free,
            share_prompts=honours_prefixes(config.attention),
            parts=parts,
            to_step_rows=lambda step_rows: step_rows,
            buckets=config.length_buckets,
            pad_token_id=(getattr(self.tokenizer, "pad_token_id", None) or 0) if pad is None else pad,
        )
        return PromptLayout(completions=completions, times=config.num_return_sequences)

    def load_model(self, model: Any) -> Any:
        """Returns a causal language model with positions enough for prompt and completion."""
        loaded = load_causal_lm(model, self.config)
        self._check_positions(loaded.config.max_positions)
        return loaded

    def objective(self, structure: Any) -> GRPOObjective:
        """Returns the losses of GRPO."""
        return GRPOObjective(structure=structure, config=self.config)

    def step_source(self, data: TrainingData, program: Program) -> Rollouts:
        """Rollouts of the data's prompts."""
        rewards, (reference, digest) = self._reward_functions(), self._reference(program)
        sampling = Sampling(
            rewards=rewards,
            stop_ids=self._stop_ids(program.model),
            columns=self._columns,
            engine=self._engine,
            reference=reference,
            reference_digest=digest,
            logs=any(function_logs(one) for one in self._rewards),
        )
        return Rollouts(self.config, data, program, sampling)

    # Checks at the door.

    def _note_columns(self, rows: Sequence[Row]) -> None:
        """Refuses reward functions that ask for columns which the first rows have not."""
        self._columns = columns_of(rows)
        if rows:
            functions = [one for one in self._rewards if not isinstance(one, _MODELS)]
            RewardFunctions(functions, timeout=None).require_columns(self._columns)

    def _check_positions(self, most: int) -> None:
        config = self.config
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

    def _reward_functions(self) -> RewardFunctions:
        config, given = self.config, self._rewards
        if config.reward_weights is not None and len(config.reward_weights) != len(given):
            raise ConfigError(
                "reward_weights", config.reward_weights, f"{len(given)} numbers, one for each reward function"
            )
        return RewardFunctions(
            [RewardModel(one, self.tokenizer, config) if isinstance(one, _MODELS) else one for one in given],
            timeout=config.reward_timeout,
            threaded=config.steps_off_policy > 0,  # rollouts are then made in a thread
        )

    def _stop_ids(self, model: Any) -> tuple[int, ...]:
        """Returns tokens that end a completion: the model's, and the tokenizer's."""
        of_tokenizer = getattr(self.tokenizer, "eos_token_id", None)
        ids = {*model.config.eos_token_ids, *(() if of_tokenizer is None else (of_tokenizer,))}
        if not ids and self.config.mask_truncated_completions:
            raise ConfigError(
                "mask_truncated_completions",
                True,
                "False, or an EOS token on the tokenizer: without one no completion ends, and all would be left out",
            )
        return tuple(sorted(ids))

    def _reference(self, program: Program) -> tuple[ReferenceModel | None, str | None]:
        """Returns the reference model, and the fingerprint of one that was given."""
        config, given, policy = self.config, self._reference_model, program.model
        if not config.beta:
            if given is not None:
                raise ConfigError("reference_model", "given", "none where beta is 0, which asks for no reference")
            return None, None
        if config.sync_ref_model and policy.lora is not None:
            raise ConfigError(
                "sync_ref_model", True, "False for a model with adapters: a reference that follows is a whole model"
            )
        reference = load_reference(given, policy, config)
        structure, params = split_params(reference)
        digest = params_digest(params) if given is not None and config.save_directory is not None else None
        step = make_logps_step(structure, config, mesh=program.mesh)
        return ReferenceModel(held_params(reference, policy), step), digest


def checked_rewards(reward_funcs: Any) -> tuple[Any, ...]:
    """Reward functions as they were given, one or several.

    Raises:
        ConfigError: if there is none, or one is a name or value that cannot be any.
    """
    given = _as_tuple(reward_funcs)
    if not given:
        raise ConfigError("reward_funcs", reward_funcs, "at least one function or reward model")
    for one in given:
        if isinstance(one, str | PathLike):
            require_model(one)
        elif not isinstance(one, SequenceClassifier) and not callable(one):
            raise ConfigError("reward_funcs", one, "functions, SequenceClassifiers, or folders or Hub ids of them")
    return given


def _as_tuple(reward_funcs: Any) -> tuple[Any, ...]:
    several = isinstance(reward_funcs, Sequence) and not isinstance(reward_funcs, str)
    return tuple(reward_funcs) if several else (reward_funcs,)
