"""The preprocessing that each trainer applies to its rows, usable on its own and without JAX."""

from easydel_transforms import BCOPreprocessTransform as BCOPreprocessTransform
from easydel_transforms import CPOPreprocessTransform as CPOPreprocessTransform
from easydel_transforms import DPOPreprocessTransform as DPOPreprocessTransform
from easydel_transforms import GRPOPreprocessTransform as GRPOPreprocessTransform
from easydel_transforms import KTOPreprocessTransform as KTOPreprocessTransform
from easydel_transforms import ORPOPreprocessTransform as ORPOPreprocessTransform
from easydel_transforms import RewardPreprocessTransform as RewardPreprocessTransform
from easydel_transforms import SFTPreprocessTransform as SFTPreprocessTransform

__all__ = [
    "BCOPreprocessTransform",
    "CPOPreprocessTransform",
    "DPOPreprocessTransform",
    "GRPOPreprocessTransform",
    "KTOPreprocessTransform",
    "ORPOPreprocessTransform",
    "RewardPreprocessTransform",
    "SFTPreprocessTransform",
]
