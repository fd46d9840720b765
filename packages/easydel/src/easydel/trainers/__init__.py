"""The trainers and their configs, loaded when first used; `easydel.trainers.transforms` needs no JAX."""

from typing import TYPE_CHECKING

from easydel._lazy import lazy_menu as _lazy_menu

if TYPE_CHECKING:
    from easydel_trainers import SFTConfig as SFTConfig
    from easydel_trainers import SFTTrainer as SFTTrainer

__all__ = ("SFTConfig", "SFTTrainer")

__getattr__, __dir__ = _lazy_menu(__name__, dict.fromkeys(__all__, "easydel_trainers"))
