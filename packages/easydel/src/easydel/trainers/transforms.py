"""The preprocessing that each trainer applies to its rows, usable on its own and without JAX."""

from easydel_transforms import SFTPreprocessTransform as SFTPreprocessTransform

__all__ = ["SFTPreprocessTransform"]
