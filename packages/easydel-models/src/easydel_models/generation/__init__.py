"""Continuing prompts: in this process, or through another engine; README.md says which file holds what."""

from easydel_models.generation.batch import OnTokens
from easydel_models.generation.engine import GenerationEngine
from easydel_models.generation.http_engine import HttpEngine
from easydel_models.generation.http_post import Patience
from easydel_models.generation.model_engine import ModelEngine, generate
from easydel_models.generation.options import GenerateResult, GenerationOptions

__all__ = [
    "GenerateResult",
    "GenerationEngine",
    "GenerationOptions",
    "HttpEngine",
    "ModelEngine",
    "OnTokens",
    "Patience",
    "generate",
]
