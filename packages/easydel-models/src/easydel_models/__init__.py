"""One config-driven decoder in Flax NNX.

It loads and saves Hugging Face folders and GGUF files, gives hidden states, logits and scores, and generates.
"""

from easydel_models.auto import AutoEasyDeLModelForCausalLM as AutoEasyDeLModelForCausalLM
from easydel_models.auto import (
    AutoEasyDeLModelForSequenceClassification as AutoEasyDeLModelForSequenceClassification,
)
from easydel_models.config import DecoderConfig as DecoderConfig
from easydel_models.heads import CausalLM as CausalLM
from easydel_models.heads import SequenceClassifier as SequenceClassifier
from easydel_models.parameters import join_params as join_params
from easydel_models.parameters import split_params as split_params

__all__ = [
    "AutoEasyDeLModelForCausalLM",
    "AutoEasyDeLModelForSequenceClassification",
    "CausalLM",
    "DecoderConfig",
    "SequenceClassifier",
    "join_params",
    "split_params",
]
