"""A model and its tokenizer as one folder, which never holds one model's weights with another's tokenizer."""

from __future__ import annotations

from os import PathLike
from typing import Any

from easydel_models.files.folder import CONFIG, MODEL_FILES
from easydel_models.files.whole_folder import whole_folder
from easydel_models.mesh.sharding import one_writer

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.*",
    "additional_chat_templates",
)
"""Patterns of what belongs to one tokenizer."""


def save_with_tokenizer(path: str | PathLike[str], model: Any, tokenizer: Any) -> None:
    """Writes both as a Hugging Face folder, whole or not at all; adapters are merged into the kernels.

    With several processes all must call it; process 0 writes.

    Args:
        path: the folder; other files in it stay.
        model: the model.
        tokenizer: its tokenizer; `None` = none, and one that is there stays.
    """
    if tokenizer is None:
        model.save_pretrained(path)
        return
    with one_writer() as writes:
        if not writes:
            model.save_pretrained(path)  # which takes part in gathering, and writes nothing here
            return
        with whole_folder(path, key=CONFIG, replaces=(*MODEL_FILES, *TOKENIZER_FILES)) as fresh:
            model.save_pretrained(fresh)
            tokenizer.save_pretrained(fresh)
