"""The parts of a training, wired: what a run is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from easydel_trainers.config import TrainerConfig
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.step.program import Program
from easydel_trainers.step_source import StepSource


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """All that a run needs.

    Attributes:
        name: of the trainer, for checkpoints and reports.
        model_name: folder, Hub id or file that the model came from; `None` = it was given as an object.
        data: the rows.
        program: the model and its steps.
        source: makes steps of the rows.
        callbacks: those that the user gave.
        weights_before: fingerprints of the weights that a checkpoint must have begun with; none where there is no
            folder.
    """

    name: str
    model_name: str | None
    data: TrainingData
    program: Program
    source: StepSource
    callbacks: Sequence[Callback] = ()
    weights_before: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> TrainerConfig:
        """Of the algorithm."""
        return self.data.config
