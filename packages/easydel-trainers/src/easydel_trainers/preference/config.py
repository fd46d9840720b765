"""Options that the trainers on preferences share."""

from __future__ import annotations

from typing import ClassVar

from easydel_trainers.config import TrainerConfig
from easydel_trainers.config_checks import require_whole
from easydel_trainers.errors import ConfigError
from easydel_trainers.trl.names import trainer_config

DEFAULT_MAX_LENGTH = 1024


@trainer_config
class PreferenceConfig(TrainerConfig):
    """What every trainer on preferences needs to know; each adds its own fields."""

    max_length: int | None = None
    """Longest prompt and completion together, in tokens. `None` = the sum of the two budgets below where both are
    given, else 1024. Smaller than that sum is refused."""
    max_prompt_length: int | None = None
    """Longest prompt; longer ones lose their beginning (but keep BOS and the system turn). `None` = no such limit."""
    max_completion_length: int | None = None
    """Longest completion; longer ones lose their end. `None` = no such limit."""
    keep_stop_token: bool = False
    """Whether a completion that is cut keeps its stop token, and loses the tokens before it instead."""

    padding_free: bool = True
    """Lay the sequences of a batch end to end instead of padding each: same loss and gradients, less work."""
    padding_value: int | None = None
    """Token id that empty positions of a batch hold. `None` = the tokenizer's pad token. Never looked at: it changes no
    number."""
    label_pad_token_id: int = -100
    """The ignored label, of a token that is not trained. -100, and no other."""

    def __post_init__(self) -> None:
        """Checks lengths after the shared options, and settles `max_length`."""
        self._settle_max_length()
        TrainerConfig.__post_init__(self)
        if self.label_pad_token_id != -100:
            raise ConfigError("label_pad_token_id", self.label_pad_token_id, "-100, the only ignored label there is")
        require_whole("padding_value", self.padding_value, least=0)

    def _settle_max_length(self) -> None:
        budgets = (self.max_prompt_length, self.max_completion_length)
        for name in ("max_prompt_length", "max_completion_length"):
            require_whole(name, getattr(self, name), least=1)
        whole = sum(budget for budget in budgets if budget is not None)
        if self.max_length is None:
            object.__setattr__(self, "max_length", DEFAULT_MAX_LENGTH if None in budgets else whole)
        elif isinstance(self.max_length, int) and self.max_length < whole:
            raise ConfigError(
                "max_length",
                self.max_length,
                f"at least {whole}, which is max_prompt_length ({budgets[0]}) + max_completion_length ({budgets[1]}): "
                "raise it, lower one of the two, or leave max_length out to get their sum",
            )


@trainer_config
class ReferenceConfig(PreferenceConfig):
    """What every trainer that compares the policy with a reference model needs to know."""

    free_on_resume: ClassVar[frozenset[str]] = PreferenceConfig.free_on_resume | {"ref_log_probs_directory"}

    precompute_ref_log_probs: bool = False
    """Score all rows with the reference model before the first step, and keep only the scores in memory."""
    ref_log_probs_directory: str | None = None
    """Folder in which precomputed scores are kept between runs, by row and reference model. `None` = `reference` in
    `save_directory`; without that, they are not kept."""

    sync_ref_model: bool = False
    """Let the reference model follow the policy (TR-DPO)."""
    ref_model_mixup_alpha: float = 0.6
    """Share of the policy in the reference at each sync, in (0, 1]."""
    ref_model_sync_steps: int = 512
    """Steps between two syncs."""

    def __post_init__(self) -> None:
        """Checks the reference's options after those of preferences."""
        PreferenceConfig.__post_init__(self)
        require_whole("ref_model_sync_steps", self.ref_model_sync_steps, least=1)
        if not 0 < self.ref_model_mixup_alpha <= 1:
            raise ConfigError("ref_model_mixup_alpha", self.ref_model_mixup_alpha, "a number in (0, 1]")
        if self.sync_ref_model and self.precompute_ref_log_probs:
            raise ConfigError("sync_ref_model", True, "False with precompute_ref_log_probs: scores cannot follow")
        if self.ref_log_probs_directory is not None and not self.precompute_ref_log_probs:
            raise ConfigError("ref_log_probs_directory", self.ref_log_probs_directory, "None without precomputing")
