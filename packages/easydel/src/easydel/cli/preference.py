"""`easydel dpo | orpo | cpo | kto | bco | reward`: what these commands are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from easydel_trainers.algorithms.bco.config import BCOConfig
from easydel_trainers.algorithms.cpo.config import CPOConfig
from easydel_trainers.algorithms.dpo.config import DPOConfig
from easydel_trainers.algorithms.kto.config import KTOConfig
from easydel_trainers.algorithms.orpo.config import ORPOConfig
from easydel_trainers.algorithms.reward.config import RewardConfig
from tyro.conf import Suppress

from easydel.cli.locations import model_location
from easydel.cli.run_config import RunConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferencedRun(RunConfig):
    """What the commands that compare with a reference model are told. Abstract."""

    reference_model: str | None = None
    """Model to compare with, named as `model` is. `None` = the model as it is before training."""

    def trainer_options(self) -> dict[str, Any]:
        """What the trainer is given beside model, rows and options."""
        named = self.reference_model
        return {} if named is None else {"reference_model": model_location(named)}


@dataclass(frozen=True, kw_only=True, slots=True)
class DPORun(ReferencedRun):
    """Train on pairs of a chosen and a rejected answer, against a reference model (DPO and its relatives)."""

    trainer: Annotated[Literal["dpo"], Suppress] = "dpo"
    """The command that a file is for; others refuse it."""
    training: DPOConfig = field(default_factory=DPOConfig)
    """Options of the trainer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ORPORun(RunConfig):
    """Train on pairs of a chosen and a rejected answer without a reference model, by odds ratios (ORPO)."""

    trainer: Annotated[Literal["orpo"], Suppress] = "orpo"
    """The command that a file is for; others refuse it."""
    training: ORPOConfig = field(default_factory=ORPOConfig)
    """Options of the trainer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CPORun(RunConfig):
    """Train on pairs of a chosen and a rejected answer without a reference model (CPO, SimPO, AlphaPO)."""

    trainer: Annotated[Literal["cpo"], Suppress] = "cpo"
    """The command that a file is for; others refuse it."""
    training: CPOConfig = field(default_factory=CPOConfig)
    """Options of the trainer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KTORun(ReferencedRun):
    """Train on single answers labelled good or bad, or on pairs of them (KTO)."""

    trainer: Annotated[Literal["kto"], Suppress] = "kto"
    """The command that a file is for; others refuse it."""
    training: KTOConfig = field(default_factory=KTOConfig)
    """Options of the trainer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BCORun(ReferencedRun):
    """Train on single answers labelled good or bad, or on pairs of them, as a classifier (BCO)."""

    trainer: Annotated[Literal["bco"], Suppress] = "bco"
    """The command that a file is for; others refuse it."""
    training: BCOConfig = field(default_factory=BCOConfig)
    """Options of the trainer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardRun(RunConfig):
    """Train a model that scores answers, on pairs of a chosen and a rejected one."""

    trainer: Annotated[Literal["reward"], Suppress] = "reward"
    """The command that a file is for; others refuse it."""
    training: RewardConfig = field(default_factory=RewardConfig)
    """Options of the trainer."""
