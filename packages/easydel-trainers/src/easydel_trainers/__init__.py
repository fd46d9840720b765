"""Post-training of language models in JAX: configs, losses and trainers.

Each algorithm is a pair `<Name>Config`, `<Name>Trainer`; all share `TrainerConfig` and `Trainer`. Names are fetched
when they are first used, so that reading a config, as a command line does, need not wait for JAX.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easydel_trainers.algorithm import Algorithm as Algorithm
    from easydel_trainers.algorithms.bco.config import BCOConfig as BCOConfig
    from easydel_trainers.algorithms.bco.loss import bco_losses as bco_losses
    from easydel_trainers.algorithms.bco.trainer import BCOTrainer as BCOTrainer
    from easydel_trainers.algorithms.cpo.config import CPOConfig as CPOConfig
    from easydel_trainers.algorithms.cpo.loss import cpo_losses as cpo_losses
    from easydel_trainers.algorithms.cpo.trainer import CPOTrainer as CPOTrainer
    from easydel_trainers.algorithms.dpo.config import DPOConfig as DPOConfig
    from easydel_trainers.algorithms.dpo.loss import dpo_losses as dpo_losses
    from easydel_trainers.algorithms.dpo.trainer import DPOTrainer as DPOTrainer
    from easydel_trainers.algorithms.grpo.config import GRPOConfig as GRPOConfig
    from easydel_trainers.algorithms.grpo.loss import grpo_loss as grpo_loss
    from easydel_trainers.algorithms.grpo.trainer import GRPOTrainer as GRPOTrainer
    from easydel_trainers.algorithms.kto.config import KTOConfig as KTOConfig
    from easydel_trainers.algorithms.kto.loss import kto_losses as kto_losses
    from easydel_trainers.algorithms.kto.trainer import KTOTrainer as KTOTrainer
    from easydel_trainers.algorithms.orpo.config import ORPOConfig as ORPOConfig
    from easydel_trainers.algorithms.orpo.loss import orpo_losses as orpo_losses
    from easydel_trainers.algorithms.orpo.trainer import ORPOTrainer as ORPOTrainer
    from easydel_trainers.algorithms.reward.config import RewardConfig as RewardConfig
    from easydel_trainers.algorithms.reward.loss import reward_losses as reward_losses
    from easydel_trainers.algorithms.reward.trainer import RewardTrainer as RewardTrainer
    from easydel_trainers.algorithms.sft.config import SFTConfig as SFTConfig
    from easydel_trainers.algorithms.sft.loss import sft_loss as sft_loss
    from easydel_trainers.algorithms.sft.trainer import SFTTrainer as SFTTrainer
    from easydel_trainers.config import TrainerConfig as TrainerConfig
    from easydel_trainers.errors import CheckpointError as CheckpointError
    from easydel_trainers.errors import ConfigError as ConfigError
    from easydel_trainers.errors import DivergedError as DivergedError
    from easydel_trainers.errors import ProcessLostError as ProcessLostError
    from easydel_trainers.errors import RewardError as RewardError
    from easydel_trainers.errors import TrainerError as TrainerError
    from easydel_trainers.processes import join_processes as join_processes
    from easydel_trainers.run.callbacks import Callback as Callback
    from easydel_trainers.run.callbacks import EarlyStopping as EarlyStopping
    from easydel_trainers.run.interruption import Interrupted as Interrupted
    from easydel_trainers.run.output import TrainOutput as TrainOutput
    from easydel_trainers.run.view import RunView as RunView
    from easydel_trainers.trainer import Trainer as Trainer

__all__ = [
    "Algorithm",
    "BCOConfig",
    "BCOTrainer",
    "CPOConfig",
    "CPOTrainer",
    "Callback",
    "CheckpointError",
    "ConfigError",
    "DPOConfig",
    "DPOTrainer",
    "DivergedError",
    "EarlyStopping",
    "GRPOConfig",
    "GRPOTrainer",
    "Interrupted",
    "KTOConfig",
    "KTOTrainer",
    "ORPOConfig",
    "ORPOTrainer",
    "ProcessLostError",
    "RewardConfig",
    "RewardError",
    "RewardTrainer",
    "RunView",
    "SFTConfig",
    "SFTTrainer",
    "TrainOutput",
    "Trainer",
    "TrainerConfig",
    "TrainerError",
    "bco_losses",
    "cpo_losses",
    "dpo_losses",
    "grpo_loss",
    "join_processes",
    "kto_losses",
    "orpo_losses",
    "reward_losses",
    "sft_loss",
]

_HOMES = {
    "Algorithm": "algorithm",
    "BCOConfig": "algorithms.bco.config",
    "BCOTrainer": "algorithms.bco.trainer",
    "CPOConfig": "algorithms.cpo.config",
    "CPOTrainer": "algorithms.cpo.trainer",
    "Callback": "run.callbacks",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "DPOConfig": "algorithms.dpo.config",
    "DPOTrainer": "algorithms.dpo.trainer",
    "DivergedError": "errors",
    "EarlyStopping": "run.callbacks",
    "Interrupted": "run.interruption",
    "GRPOConfig": "algorithms.grpo.config",
    "GRPOTrainer": "algorithms.grpo.trainer",
    "KTOConfig": "algorithms.kto.config",
    "KTOTrainer": "algorithms.kto.trainer",
    "ORPOConfig": "algorithms.orpo.config",
    "ORPOTrainer": "algorithms.orpo.trainer",
    "ProcessLostError": "errors",
    "RewardConfig": "algorithms.reward.config",
    "RewardError": "errors",
    "RewardTrainer": "algorithms.reward.trainer",
    "SFTConfig": "algorithms.sft.config",
    "SFTTrainer": "algorithms.sft.trainer",
    "TrainOutput": "run.output",
    "Trainer": "trainer",
    "TrainerConfig": "config",
    "TrainerError": "errors",
    "RunView": "run.view",
    "bco_losses": "algorithms.bco.loss",
    "cpo_losses": "algorithms.cpo.loss",
    "dpo_losses": "algorithms.dpo.loss",
    "grpo_loss": "algorithms.grpo.loss",
    "join_processes": "processes",
    "kto_losses": "algorithms.kto.loss",
    "orpo_losses": "algorithms.orpo.loss",
    "reward_losses": "algorithms.reward.loss",
    "sft_loss": "algorithms.sft.loss",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(_import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
