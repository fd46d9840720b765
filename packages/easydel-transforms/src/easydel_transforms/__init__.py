"""The preprocessing of each trainer: rows of any known layout to tokens and masks, without JAX."""

from easydel_transforms.labels import IGNORED as IGNORED
from easydel_transforms.labels import TokenView as TokenView
from easydel_transforms.lengths import LengthBudgets as LengthBudgets
from easydel_transforms.pairs import CPOPreprocessTransform as CPOPreprocessTransform
from easydel_transforms.pairs import DPOPreprocessTransform as DPOPreprocessTransform
from easydel_transforms.pairs import ORPOPreprocessTransform as ORPOPreprocessTransform
from easydel_transforms.prompts import GRPOPreprocessTransform as GRPOPreprocessTransform
from easydel_transforms.reward import RewardPreprocessTransform as RewardPreprocessTransform
from easydel_transforms.supervised import SFTPreprocessTransform as SFTPreprocessTransform
from easydel_transforms.unpaired import BCOPreprocessTransform as BCOPreprocessTransform
from easydel_transforms.unpaired import KTOPreprocessTransform as KTOPreprocessTransform

__all__ = [
    "IGNORED",
    "BCOPreprocessTransform",
    "CPOPreprocessTransform",
    "DPOPreprocessTransform",
    "GRPOPreprocessTransform",
    "KTOPreprocessTransform",
    "LengthBudgets",
    "ORPOPreprocessTransform",
    "RewardPreprocessTransform",
    "SFTPreprocessTransform",
    "TokenView",
]
