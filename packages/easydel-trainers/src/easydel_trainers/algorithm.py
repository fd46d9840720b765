"""What tells one trainer from another.

An algorithm says how rows become trainable and how a batch is laid out (`BatchRules`), which model it wants, what is
minimised, and where steps come from. Only the last three need a model: whoever wants to look at rows and batches, as
the inspector does, makes an `Algorithm` and no more.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, TypeVar

from easydel_trainers.config import TrainerConfig
from easydel_trainers.data.batch_rules import BatchRules
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.step.objective import Objective, ScoredObjective
from easydel_trainers.step.program import Program
from easydel_trainers.step_source import StepSource

Config = TypeVar("Config", bound=TrainerConfig)


class Algorithm(BatchRules[Config]):
    """How a model is trained; see `BatchRules` for its arguments and for what it says of rows. Abstract."""

    @abstractmethod
    def load_model(self, model: Any) -> Any:
        """Returns the model of this algorithm's kind in the config's types, from an object, a folder, a Hub id or a
        file.
        """

    @abstractmethod
    def objective(self, structure: Any) -> Objective | ScoredObjective:
        """Returns what is minimised, for a model of this structure."""

    @abstractmethod
    def step_source(self, data: TrainingData, program: Program) -> StepSource:
        """Returns where the steps of a run come from. Called once, when there is a model."""
