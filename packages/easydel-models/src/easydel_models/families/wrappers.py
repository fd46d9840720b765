"""Checkpoints that see or hear beside reading: where the text model is in them.

Text alone is trained. The text model is read under its prefix; all other tensors are carried over as they are when the
folder is saved.
"""

import dataclasses
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Spelling:
    """How a file's names begin."""

    model: str
    """In place of ``model.``."""
    head: str
    """In place of ``lm_head.``."""

    def of(self, name: str) -> str:
        """Returns what the file calls a tensor of the text model."""
        if name.startswith("model."):
            return self.model + name.removeprefix("model.")
        return self.head + name.removeprefix("lm_head.") if name.startswith("lm_head.") else name


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Wrapper:
    """One class of such checkpoints."""

    model_type: str
    """The ``model_type`` of the whole."""
    text_type: str
    """The ``model_type`` of the text model, where the file does not say it."""
    architecture: str
    """The class in transformers."""


SPELLINGS = (
    Spelling("model.language_model.", "lm_head."),
    Spelling("language_model.model.", "language_model.lm_head."),
    Spelling("model.", "lm_head."),
)
"""Ways of transformers 5 and 4; a checkpoint is written in the one it was read in, a fresh one in the first."""

_GENERATION = "ForConditionalGeneration"
WRAPPERS: Mapping[str, Wrapper] = MappingProxyType(
    {
        model_type: Wrapper(model_type=model_type, text_type=text_type, architecture=name + _GENERATION)
        for model_type, text_type, name in (
            ("gemma3", "gemma3_text", "Gemma3"),
            ("gemma4", "gemma4_text", "Gemma4"),
            ("mistral3", "mistral", "Mistral3"),
            ("qwen2_5_vl", "qwen2_5_vl_text", "Qwen2_5_VL"),
            ("qwen3_vl", "qwen3_vl_text", "Qwen3VL"),
            ("qwen3_5", "qwen3_5_text", "Qwen3_5"),
            ("qwen3_5_moe", "qwen3_5_moe_text", "Qwen3_5Moe"),
        )
    }
)

_OF_WHOLE = ("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings")
_NOT_OF_TEXT = frozenset(
    {
        "architectures",
        "audio_config",
        "image_token_id",
        "text_config",
        "video_token_id",
        "vision_config",
        "vision_end_token_id",
        "vision_start_token_id",
        "vision_token_id",
    }
)


def text_section(hf: Mapping[str, Any], wrapper: Wrapper) -> dict[str, Any]:
    """Returns the contents of a config.json of the text model alone.

    transformers 5 puts them under ``text_config``, as do most files of transformers 4; Qwen2.5-VL had them beside the
    vision model's. Special tokens and whether the head is tied may be said for the whole.
    """
    section = hf.get("text_config")
    if section is None:
        section = {name: value for name, value in hf.items() if name not in _NOT_OF_TEXT}
        section["model_type"] = wrapper.text_type
    outer = {name: hf[name] for name in _OF_WHOLE if hf.get(name) is not None}
    return {"model_type": wrapper.text_type} | outer | {k: v for k, v in section.items() if v is not None}


def spelling_of(names: Collection[str]) -> Spelling:
    """Returns the way in which a checkpoint's names begin."""
    found = (one for one in SPELLINGS if any(name.startswith(f"{one.model}embed_tokens.") for name in names))
    return next(found, SPELLINGS[0])
