"""Post-training of language models in JAX: configs, losses and trainers.

Each algorithm is a pair `<Name>Config`, `<Name>Trainer`; all share `TrainerConfig` and `Trainer`. Names are fetched
when they are first used, so that reading a config, as a command line does, need not wait for JAX.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easydel_trainers.algorithms.sft.config import SFTConfig as SFTConfig
    from easydel_trainers.algorithms.sft.loss import sft_loss as sft_loss
    from easydel_trainers.algorithms.sft.trainer import SFTTrainer as SFTTrainer
    from easydel_trainers.callbacks import Callback as Callback
    from easydel_trainers.callbacks import EarlyStopping as EarlyStopping
    from easydel_trainers.config import TrainerConfig as TrainerConfig
    from easydel_trainers.errors import CheckpointError as CheckpointError
    from easydel_trainers.errors import ConfigError as ConfigError
    from easydel_trainers.errors import DivergedError as DivergedError
    from easydel_trainers.errors import TrainerError as TrainerError
    from easydel_trainers.output import TrainOutput as TrainOutput
    from easydel_trainers.signals import Interrupted as Interrupted
    from easydel_trainers.trainer import Trainer as Trainer
    from easydel_trainers.training_run import TrainingRun as TrainingRun

__all__ = [
    "Callback",
    "CheckpointError",
    "ConfigError",
    "DivergedError",
    "EarlyStopping",
    "Interrupted",
    "SFTConfig",
    "SFTTrainer",
    "TrainOutput",
    "Trainer",
    "TrainerConfig",
    "TrainerError",
    "TrainingRun",
    "sft_loss",
]

_HOMES = {
    "Callback": "callbacks",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "DivergedError": "errors",
    "EarlyStopping": "callbacks",
    "Interrupted": "signals",
    "SFTConfig": "algorithms.sft.config",
    "SFTTrainer": "algorithms.sft.trainer",
    "TrainOutput": "output",
    "Trainer": "trainer",
    "TrainerConfig": "config",
    "TrainerError": "errors",
    "TrainingRun": "training_run",
    "sft_loss": "algorithms.sft.loss",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(_import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
