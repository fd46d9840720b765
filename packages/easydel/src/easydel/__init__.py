"""EasyData and the EasyDeL trainers in one install: the table of contents of the packages below.

`import easydel as ed` is cheap: models and trainers, and JAX with them, are loaded when one of their names is
first used. Reading and preparing data is in `easydel.data`, the trainers' preprocessing in
`easydel.trainers.transforms`; neither loads JAX.
"""

from importlib.metadata import version as _version
from typing import TYPE_CHECKING

from easydel._lazy import lazy_menu as _lazy_menu

if TYPE_CHECKING:
    from easydel_models import AutoEasyDeLModelForCausalLM as AutoEasyDeLModelForCausalLM
    from easydel_models import (
        AutoEasyDeLModelForSequenceClassification as AutoEasyDeLModelForSequenceClassification,
    )
    from easydel_models import LoraConfig as LoraConfig
    from easydel_trainers import BCOConfig as BCOConfig
    from easydel_trainers import BCOTrainer as BCOTrainer
    from easydel_trainers import CPOConfig as CPOConfig
    from easydel_trainers import CPOTrainer as CPOTrainer
    from easydel_trainers import DPOConfig as DPOConfig
    from easydel_trainers import DPOTrainer as DPOTrainer
    from easydel_trainers import GRPOConfig as GRPOConfig
    from easydel_trainers import GRPOTrainer as GRPOTrainer
    from easydel_trainers import KTOConfig as KTOConfig
    from easydel_trainers import KTOTrainer as KTOTrainer
    from easydel_trainers import ORPOConfig as ORPOConfig
    from easydel_trainers import ORPOTrainer as ORPOTrainer
    from easydel_trainers import RewardConfig as RewardConfig
    from easydel_trainers import RewardTrainer as RewardTrainer
    from easydel_trainers import SFTConfig as SFTConfig
    from easydel_trainers import SFTTrainer as SFTTrainer

__version__ = _version("easydel")
__all__ = (  # static, so that editors and type checkers can read it
    "AutoEasyDeLModelForCausalLM",
    "AutoEasyDeLModelForSequenceClassification",
    "BCOConfig",
    "BCOTrainer",
    "CPOConfig",
    "CPOTrainer",
    "DPOConfig",
    "DPOTrainer",
    "GRPOConfig",
    "GRPOTrainer",
    "KTOConfig",
    "KTOTrainer",
    "LoraConfig",
    "ORPOConfig",
    "ORPOTrainer",
    "RewardConfig",
    "RewardTrainer",
    "SFTConfig",
    "SFTTrainer",
)

__getattr__, __dir__ = _lazy_menu(
    __name__,
    {name: "easydel_models" if name.startswith(("Auto", "Lora")) else "easydel_trainers" for name in __all__},
)
