"""What goes wrong with rewards."""

from __future__ import annotations

from easydel_trainers.errors import TrainerError


class RewardError(TrainerError):
    """A reward function raised, took too long, or returned what is no reward.

    Attributes:
        row: number of the completion in its rollout; `None` = no single one is to blame.
    """

    def __init__(self, message: str, *, row: int | None = None):
        super().__init__(message)
        self.row = row
