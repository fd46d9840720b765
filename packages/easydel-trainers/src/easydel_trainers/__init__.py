"""Post-training of language models in JAX: configs, losses and trainers.

Each algorithm is a pair `<Name>Config`, `<Name>Trainer`; all share `TrainerConfig` and `Trainer`.
"""

from easydel_trainers.algorithms.sft.config import SFTConfig as SFTConfig
from easydel_trainers.algorithms.sft.loss import sft_loss as sft_loss
from easydel_trainers.algorithms.sft.trainer import SFTTrainer as SFTTrainer
from easydel_trainers.callbacks import Callback as Callback
from easydel_trainers.config import TrainerConfig as TrainerConfig
from easydel_trainers.errors import CheckpointError as CheckpointError
from easydel_trainers.errors import ConfigError as ConfigError
from easydel_trainers.errors import DivergedError as DivergedError
from easydel_trainers.errors import TrainerError as TrainerError
from easydel_trainers.output import TrainOutput as TrainOutput
from easydel_trainers.trainer import Trainer as Trainer

__all__ = [
    "Callback",
    "CheckpointError",
    "ConfigError",
    "DivergedError",
    "SFTConfig",
    "SFTTrainer",
    "TrainOutput",
    "Trainer",
    "TrainerConfig",
    "TrainerError",
    "sft_loss",
]
