"""Hugging Face folders: config.json, generation_config.json and safetensors, read and written.

Saving is all or nothing (`whole_folder`): a folder without config.json is refused by every reader.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from easydel_models.config import DecoderConfig
from easydel_models.config_values import check_values
from easydel_models.families.config_file import one_or_list, token_ids
from easydel_models.files.json_file import read_json_object
from easydel_models.files.tensor_files import INDEX, write_tensors
from easydel_models.files.weights import export_shapes, export_tensors
from easydel_models.files.whole_folder import whole_folder
from easydel_models.parameters import Params

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
MODEL_FILES = ("model*.safetensors", INDEX, GENERATION_CONFIG, *ADAPTER_FILES)
"""Patterns of what belongs to one model beside config.json; adapters there would be put on it by its readers."""


def read_config(folder: Path) -> DecoderConfig:
    """Reads config.json, and from generation_config.json, where there is one, the tokens that end a generation and
    everything that is only kept.

    Raises:
        ModelNotFoundError: If config.json is not there.
        ConfigError: If it is no JSON object, or describes something this decoder does not compute.
    """
    config = DecoderConfig.from_hf(read_json_object(folder / CONFIG))
    if (folder / GENERATION_CONFIG).is_file():
        # Chat models end a turn with tokens that only this file names.
        generation = read_json_object(folder / GENERATION_CONFIG)
        check_values(generation, file=str(folder / GENERATION_CONFIG))
        ends = token_ids(generation.get("eos_token_id"))
        kept = {key: value for key, value in generation.items() if key not in _NOT_KEPT}
        config = dataclasses.replace(config, eos_token_ids=ends or config.eos_token_ids, generation_defaults=kept)
    return config


_NOT_KEPT = frozenset({"bos_token_id", "eos_token_id", "pad_token_id", "_from_model_config", "transformers_version"})
"""Of generation_config.json: what the configuration says anyway, and who wrote the file."""


def save_folder(
    path: str | os.PathLike[str], config: DecoderConfig, params: Params, *, max_shard_size: int = 5_000_000_000
) -> None:
    """Writes a folder that `transformers` loads, with the parameters in the dtype they are in.

    Args:
        path: The folder; other files in it, such as a tokenizer, stay. A model in it is replaced.
        config: The model's configuration.
        params: Its parameters.
        max_shard_size: Most bytes of numbers in one file; more files and an index are written as needed.

    Raises:
        ValueError: If `max_shard_size` is not positive.
    """
    if max_shard_size < 1:
        raise ValueError(f"`max_shard_size` is {max_shard_size}; expected a number of bytes, at least 1.")
    dtype = np.dtype(params["embedding"].dtype)
    with whole_folder(path, key=CONFIG, replaces=MODEL_FILES) as fresh:
        shapes = export_shapes(config)
        write_tensors(
            fresh,
            export_tensors(params, config),
            shapes,
            dtype=dtype,
            max_shard_size=max_shard_size,
            carried=config.carried,
        )
        _write_json(fresh / GENERATION_CONFIG, _generation_config(config))
        _write_json(fresh / CONFIG, config.to_hf(dtype=dtype.name))


def _generation_config(config: DecoderConfig) -> dict[str, Any]:
    return {
        **config.generation_defaults,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": one_or_list(config.eos_token_ids),
        "pad_token_id": config.pad_token_id,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
