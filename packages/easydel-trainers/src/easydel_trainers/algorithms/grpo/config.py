"""Configuration of group-relative policy optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, final, get_args

from easydel_trainers.algorithms.grpo.loss_names import GRPOLossType, RatioLevel
from easydel_trainers.config import TrainerConfig
from easydel_trainers.config_checks import require_choice, require_positive, require_whole
from easydel_trainers.errors import ConfigError
from easydel_trainers.trl.names import trainer_config

CorrectionMode = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]

_CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo")
_POSITIVE = (
    "temperature",
    "repetition_penalty",
    "epsilon",
    "sapo_temperature_pos",
    "sapo_temperature_neg",
    "reward_timeout",
)


@final
@trainer_config
class GRPOConfig(TrainerConfig):
    """What to do in GRPO; see `TrainerConfig` for the fields that all trainers share.

    `total_batch_size` counts completions: 32 with `num_return_sequences` 4 are eight prompts, each answered four times.
    A rollout is the completions of one step; it is trained on `num_iterations` times.
    """

    free_on_resume: ClassVar[frozenset[str]] = TrainerConfig.free_on_resume | {
        "log_completions",
        "num_completions_to_print",
        "reward_timeout",
    }

    num_return_sequences: int = 8
    """Completions of each prompt, which are compared with each other. At least 2; divides `total_batch_size`."""
    max_prompt_length: int | None = 512
    """Longest prompt in tokens; longer ones lose their beginning (but keep BOS and the system turn) and are counted.
    `None` = what `max_length` leaves beside the completion; without that, no limit."""
    max_completion_length: int = 256
    """Most tokens that are sampled after a prompt; a completion that needs more is truncated."""
    max_length: int | None = None
    """Longest prompt and completion together. `None` = the sum of the two above. Smaller than that sum is refused."""

    temperature: float = 1.0
    """Divides the logits when completions are sampled, and when they are scored. > 0."""
    top_p: float = 1.0
    """Sample from the fewest likeliest tokens that together have at least this probability; 1 = from all."""
    top_k: int = 0
    """Sample from so many likeliest tokens; 0 = from all."""
    min_p: float = 0.0
    """Sample from the tokens at least so many times as likely as the likeliest, in [0, 1]; 0 = from all."""
    repetition_penalty: float = 1.0
    """Makes tokens that the prompt or the completion has already less likely when sampling; > 0, 1 = does not."""

    reward_weights: Sequence[float] | None = None
    """Weight of every reward function, in their order. `None` = 1 each."""
    reward_timeout: float | None = 600.0
    """Seconds that one call of a reward function may take before the run ends with an error that names it. `None` =
    wait for ever."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What a reward's difference to its group's mean is divided by: the standard deviation of the group, that of the
    whole batch, or nothing."""
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = "sum_then_normalize"
    """Whether rewards of several functions are added up and then normalised, or each is normalised within its group,
    then added, and the sum normalised over the batch (GDPO)."""

    loss_type: GRPOLossType = "dapo"
    """How tokens become a loss: `grpo` and `sapo` average over the tokens of each completion, then over completions;
    `dr_grpo` divides by completions times `max_completion_length`; `bnpo`, `dapo` and `cispo` by the tokens of the
    step. `cispo` and `sapo` do not clip."""
    importance_sampling_level: RatioLevel = "token"
    """Whether each token has its own probability ratio, or a completion has one, their geometric mean (GSPO)."""
    num_iterations: int = 1
    """Optimizer steps on each rollout; the ratios of all but the first differ from 1, and are clipped."""
    epsilon: float = 0.2
    """A ratio gains nothing below 1 - epsilon, > 0."""
    epsilon_high: float | None = None
    """A ratio gains nothing above 1 + epsilon_high; `None` = `epsilon`. For `cispo` the largest ratio itself, 5.0 in
    its paper; required there."""
    delta: float | None = None
    """Largest ratio, also where the advantage is negative; more than 1 + epsilon_high. `None` = no such limit."""
    sapo_temperature_pos: float = 1.0
    """How fast `sapo` closes its soft gate for completions better than their group."""
    sapo_temperature_neg: float = 1.05
    """The same for the others."""
    mask_truncated_completions: bool = False
    """Leave completions that did not end by themselves out of the loss."""
    top_entropy_quantile: float = 1.0
    """Share of the step's tokens, those of highest entropy, that the policy's loss is made of, in (0, 1]."""

    beta: float = 0.0
    """Weight of the divergence from the reference model. 0 = there is no reference model."""
    use_bias_correction_kl: bool = True
    """Multiply the estimate of the divergence with the probability ratio, which makes its gradient unbiased off
    policy."""
    sync_ref_model: bool = False
    """Let the reference model follow the policy (TR-DPO)."""
    ref_model_mixup_alpha: float = 0.6
    """Share of the policy in the reference at each sync, in (0, 1]."""
    ref_model_sync_steps: int = 512
    """Steps between two syncs."""

    steps_off_policy: Literal[0, 1] = 0
    """1 = the next rollout is sampled while this one is trained on, by the parameters before it, of which a copy is
    held. 0 = sampling waits for the step."""
    importance_sampling_correction: bool = True
    """Weigh tokens by how much likelier this trainer's model finds them than the engine said that sampled them. Of
    effect only with an engine that has log-probabilities of its own."""
    importance_sampling_mode: CorrectionMode = "sequence_mask"
    """Whether that weight is of each token or of a completion, and whether weights out of bounds are cut to them or
    make 0."""
    importance_sampling_clip_max: float | None = 3.0
    """Largest such weight. `None` = no limit."""
    importance_sampling_clip_min: float | None = None
    """Smallest such weight. `None` = no limit."""

    padding_free: bool = True
    """Lay the completions of a batch end to end instead of padding each: same loss and gradients, less work."""
    padding_value: int | None = None
    """Token id that empty positions of a batch hold. `None` = the tokenizer's pad token. Never looked at: it changes no
    number."""
    log_completions: bool = True
    """At logged steps, show completions with their rewards: in the run's folder, its report, trackers, and on a
    terminal."""
    num_completions_to_print: int | None = 4
    """How many of them. `None` = all of a rollout."""

    def __post_init__(self) -> None:
        """Checks ranges and what they say together, and settles lengths."""
        self._settle_lengths()
        if self.reward_weights is not None:
            object.__setattr__(self, "reward_weights", tuple(float(weight) for weight in self.reward_weights))
        TrainerConfig.__post_init__(self)
        self._check_choices_here()
        self._check_numbers()
        self._check_group()
        self._check_loss()
        self._check_reference()

    @property
    def prompts_per_step(self) -> int:
        """Prompts of one rollout."""
        return self.total_batch_size // self.num_return_sequences

    @property
    def upper_clip(self) -> float:
        """`epsilon_high`, or what stands for it."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    def _settle_lengths(self) -> None:
        require_whole("max_completion_length", self.max_completion_length, least=1)
        require_whole("max_prompt_length", self.max_prompt_length, least=1)
        require_whole("max_length", self.max_length, least=1)
        prompt, completion = self.max_prompt_length, self.max_completion_length
        if self.max_length is None:
            object.__setattr__(self, "max_length", None if prompt is None else prompt + completion)
            return
        if self.max_length < completion + (prompt or 1):
            raise ConfigError(
                "max_length",
                self.max_length,
                f"at least {completion + (prompt or 1)}, which is max_prompt_length ({prompt or 'at least 1'}) + "
                f"max_completion_length ({completion}): raise it, lower one of the two, or leave it out",
            )
        if prompt is None:
            object.__setattr__(self, "max_prompt_length", self.max_length - completion)

    def _check_choices_here(self) -> None:
        require_choice("loss_type", self.loss_type, get_args(GRPOLossType))
        require_choice("importance_sampling_mode", self.importance_sampling_mode, get_args(CorrectionMode))
        require_choice("importance_sampling_level", self.importance_sampling_level, get_args(RatioLevel))
        require_choice("scale_rewards", self.scale_rewards, ("group", "batch", "none"))
        require_choice(
            "multi_objective_aggregation",
            self.multi_objective_aggregation,
            ("sum_then_normalize", "normalize_then_sum"),
        )

    def _check_numbers(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) is not None:
                require_positive(name, getattr(self, name))
        if not 0 <= self.min_p <= 1:
            raise ConfigError("min_p", self.min_p, "a number in [0, 1]")
        if self.steps_off_policy not in (0, 1):
            raise ConfigError("steps_off_policy", self.steps_off_policy, "0 or 1")
        for name in ("top_p", "top_entropy_quantile"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(name, getattr(self, name), "a number in (0, 1]")
        for name, least in (("top_k", 0), ("num_iterations", 1), ("num_completions_to_print", 1), ("padding_value", 0)):
            require_whole(name, getattr(self, name), least=least)
        low, high = self.importance_sampling_clip_min, self.importance_sampling_clip_max
        if low is not None and not 0 <= low < (float("inf") if high is None else high):
            raise ConfigError("importance_sampling_clip_min", low, "at least 0, and less than the largest weight")

    def _check_group(self) -> None:
        require_whole("num_return_sequences", self.num_return_sequences, least=1)
        group, batch = self.num_return_sequences, self.total_batch_size
        if group < 2:
            raise ConfigError(
                "num_return_sequences", group, "at least 2: a completion is judged by the others to its prompt"
            )
        if batch % group:
            raise ConfigError(
                "total_batch_size",
                batch,
                f"a multiple of num_return_sequences ({group}): it counts completions, so {group} is one prompt, and "
                f"{-(-batch // group) * group} would be {-(-batch // group)}",
            )

    def _check_loss(self) -> None:
        if self.loss_type == "cispo" and self.epsilon_high is None:
            raise ConfigError(
                "epsilon_high", None, "a number for cispo, whose largest ratio it is: 5.0 in the paper that proposes it"
            )
        if self.epsilon_high is not None:
            require_positive("epsilon_high", self.epsilon_high)
        if self.loss_type not in _CLIPPED and self.delta is not None:
            raise ConfigError("delta", self.delta, f"None for {self.loss_type}, which does not clip ratios")
        if self.delta is not None and self.delta <= 1 + self.upper_clip:
            raise ConfigError("delta", self.delta, f"more than 1 + epsilon_high, which is {1 + self.upper_clip:g}")

    def _check_reference(self) -> None:
        if not self.beta >= 0:
            raise ConfigError("beta", self.beta, "a number that is 0 or larger")
        require_whole("ref_model_sync_steps", self.ref_model_sync_steps, least=1)
        if not 0 < self.ref_model_mixup_alpha <= 1:
            raise ConfigError("ref_model_mixup_alpha", self.ref_model_mixup_alpha, "a number in (0, 1]")
        if self.sync_ref_model and not self.beta:
            raise ConfigError("sync_ref_model", True, "False where beta is 0, as there is no reference model")
