"""The preprocessing of each trainer: rows of any known layout to tokens and masks, without JAX."""

from easydel_transforms.labels import IGNORED as IGNORED
from easydel_transforms.labels import TokenView as TokenView
from easydel_transforms.supervised import SFTPreprocessTransform as SFTPreprocessTransform

__all__ = ["IGNORED", "SFTPreprocessTransform", "TokenView"]
