"""`easydel grpo`: what the command is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from easydel_trainers.algorithms.grpo.config import GRPOConfig
from easydel_trainers.errors import ConfigError
from tyro.conf import Suppress

from easydel.cli.preference import ReferencedRun


@dataclass(frozen=True, kw_only=True, slots=True)
class GRPORun(ReferencedRun):
    """Train on the model's own answers to prompts, judged by reward functions within the group of a prompt (GRPO)."""

    trainer: Annotated[Literal["grpo"], Suppress] = "grpo"
    """The command that a file is for; others refuse it."""
    reward_funcs: tuple[str, ...]
    """What judges the answers: MODULE:FUNCTION, PATH.py:FUNCTION, or a reward model's folder, Hub id or .gguf file."""
    training: GRPOConfig = field(default_factory=GRPOConfig)
    """Options of the trainer."""

    def __post_init__(self) -> None:
        """Check what only this command knows."""
        ReferencedRun.__post_init__(self)
        if not self.reward_funcs:
            raise ConfigError("reward_funcs", self.reward_funcs, "at least one function or reward model")

    def trainer_options(self) -> dict[str, Any]:
        """What the trainer is given beside model, rows and options."""
        from easydel.cli.rewards import reward_at

        return {
            **ReferencedRun.trainer_options(self),
            "reward_funcs": [reward_at(name) for name in self.reward_funcs],
        }
