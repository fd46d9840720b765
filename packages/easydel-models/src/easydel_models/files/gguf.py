"""A GGUF file seen as a Hugging Face folder: a config and tensors by their names there.

Names go through the tables of the `gguf` package. What the converter of llama.cpp changed is undone on loading: in the
llama architecture the rows of query and key are permuted, because llama.cpp turns neighbouring dimensions by the same
rope angle and transformers those half a head apart; Gemma's norms hold their weight plus 1; experts' gates and ups lie
apart. Of a tied head nothing is stored. The file's tokenizer is the business of `easydata_tokenize`.

    hf_config, tensors = read_gguf("SmolLM2-135M-Instruct.Q4_1.gguf")
    tensors["model.norm.weight"].load()
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from easydel_models.config import DecoderConfig
from easydel_models.config_values import is_whole
from easydel_models.errors import ConfigError, WeightsError
from easydel_models.files.gguf_architectures import ARCHITECTURES, NOT_WEIGHTS, Architecture, hf_config
from easydel_models.files.gguf_file import GGUFFile, GGUFTensor, open_gguf, require_gguf
from easydel_models.files.gguf_settings import Settings
from easydel_models.files.weights import export_shapes
from easydel_models.safe_text import quoted

_ENDINGS = (".weight", ".bias")
_OF_EXPERTS = ".experts."


def read_gguf(path: str | os.PathLike[str]) -> "tuple[dict[str, Any], dict[str, GGUFTensor | Converted]]":
    """Reads the configuration and finds the tensors; of the weights nothing is read yet.

    Args:
        path: A .gguf file of one of `easydel_models.files.gguf_architectures.ARCHITECTURES`, in any format the `gguf`
            package dequantizes.

    Returns:
        The contents a config.json of the same model would have, and the tensors by their Hugging Face names,
        in the protocol of `easydel_models.files.weights.LazyTensor`; they load as float32.

    Raises:
        ImportError: If the extra ``gguf`` is not installed.
        ModelNotFoundError: If there is no such file.
        WeightsError: If the file is cut short or corrupt, or holds tensors of unknown names.
        ConfigError: If its architecture or one of its settings is not computed here, or a setting is missing.
    """
    file = open_gguf(path)
    name, architecture = _architecture_of(file)
    settings = Settings(file, name)
    hf = hf_config(settings, architecture)
    settings.finish()
    hf = {key: value for key, value in hf.items() if value is not None or key == "rope_scaling"}
    config = DecoderConfig.from_hf(hf)
    plain = _plain_tensors(file, name, config, hf)
    experts = {} if architecture.experts is None else dict(_expert_tensors(file, architecture.experts, config))
    used = {tensor.name for one in (*plain.values(), *experts.values()) for tensor in _stored(one)}
    if unknown := [name for name in file.tensors if name not in used and name not in NOT_WEIGHTS]:
        raise WeightsError(f"{file.path} holds a tensor {unknown[0]}, which no model of the {name} architecture has.")
    return hf, plain | experts


@dataclasses.dataclass(frozen=True, slots=True)
class Converted:
    """What a folder has in one tensor, made of one or several of the file when it is loaded."""

    tensors: tuple[GGUFTensor, ...]
    shape: tuple[int, ...]
    """As transformers has it."""
    convert: Callable[..., np.ndarray]

    @property
    def origin(self) -> str:
        """The file's name."""
        return self.tensors[0].origin

    def load(self) -> np.ndarray:
        """Reads it as float32."""
        return self.convert(*(tensor.load() for tensor in self.tensors))


def halves_from_pairs(rows: np.ndarray, heads: int) -> np.ndarray:
    """Reorders each head's rows from (a0 b0 a1 b1 …) to (a0 a1 … b0 b1 …), a and b being turned together by rope."""
    paired = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return paired.swapaxes(1, 2).reshape(rows.shape)


def _architecture_of(file: GGUFFile) -> tuple[str, Architecture]:
    name = file.metadata.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ConfigError(
            f"{file.path} has the architecture {quoted(name)}; read are: {', '.join(ARCHITECTURES)}. "
            "Take the model's safetensors folder if its family is known there."
        )
    parts = file.metadata.get("split.count", 1)
    if not is_whole(parts) or parts > 1:
        raise ConfigError(f"{file.path} is one of {quoted(parts)} parts; merge them first (llama-gguf-split --merge).")
    return name, ARCHITECTURES[name]


def _plain_tensors(
    file: GGUFFile, name: str, config: DecoderConfig, hf: Mapping[str, Any]
) -> "dict[str, GGUFTensor | Converted]":
    """Returns all but experts, by their Hugging Face names; those that the file lacks are left out."""
    names = (one for one in export_shapes(config) if _OF_EXPERTS not in one)
    pairs = _gguf_names(file.path, name, config.num_layers, [*names, "lm_head.weight"])
    return {
        theirs: _as_in_folder(file.tensors[ours], ARCHITECTURES[name], hf)
        for theirs, ours in pairs.items()
        if ours in file.tensors
    }


def _gguf_names(path: Path, architecture: str, layers: int, names: Collection[str]) -> dict[str, str]:
    gguf = require_gguf(path)
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    table = gguf.get_tensor_name_map(numbers[architecture], layers)
    found = {name: table.get_name(name, try_suffixes=_ENDINGS) for name in names}
    # What is no module's weight in a folder is called one here all the same: gpt-oss's sinks.
    return {name: one if one.endswith(_ENDINGS) else f"{one}.weight" for name, one in found.items() if one is not None}


def _as_in_folder(tensor: GGUFTensor, architecture: Architecture, hf: Mapping[str, Any]) -> "GGUFTensor | Converted":
    part = tensor.name.rpartition(".")[0].rpartition(".")[2]
    if architecture.norm_offset and part.endswith("norm"):
        return Converted((tensor,), tensor.shape, lambda weight: weight - np.float32(architecture.norm_offset))
    if architecture.head_rows and part in ("attn_q", "attn_k"):
        heads = hf["num_attention_heads" if part == "attn_q" else "num_key_value_heads"]
        if tensor.shape[0] % (2 * heads):
            raise WeightsError(
                f"{tensor.path}: tensor {tensor.name} has {tensor.shape[0]} rows, expected a multiple of 2 x {heads} "
                "heads."
            )
        return Converted((tensor,), tensor.shape, functools.partial(halves_from_pairs, heads=heads))
    return tensor


def _expert_tensors(file: GGUFFile, held: str, config: DecoderConfig) -> Iterator[tuple[str, Converted]]:
    """Yields the experts of all layers as a folder of transformers 5 holds them; those that the file lacks are left
    out.
    """
    for layer in range(config.num_layers):
        ours, theirs = f"blk.{layer}.ffn_", f"model.layers.{layer}.mlp.experts."
        for ending, suffix in (("weight", ""), ("bias", "_bias")):
            pair = [file.tensors.get(f"{ours}{part}_exps.{ending}") for part in ("gate", "up")]
            gate, up = pair
            if gate is not None and up is not None:
                join = _JOINED[held]
                shape = join(*(np.empty(0, np.float32).reshape(0, *one.shape[1:]) for one in (gate, up))).shape
                yield f"{theirs}gate_up_proj{suffix}", Converted((gate, up), (gate.shape[0], *shape[1:]), join)
            down = file.tensors.get(f"{ours}down_exps.{ending}")
            if down is not None:
                turned = held == "interleaved" and ending == "weight"
                shape = (down.shape[0], *down.shape[:0:-1]) if turned else down.shape
                yield f"{theirs}down_proj{suffix}", Converted((down,), shape, _turned if turned else _as_it_is)


def _concatenated(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    return np.concatenate((gate, up), axis=1)


def _interleaved(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Returns outputs of gate and up in turn, and last: [E, F, D] to [E, D, 2F]; biases [E, F] to [E, 2F]."""
    both = np.stack((gate, up), axis=2).reshape(gate.shape[0], 2 * gate.shape[1], *gate.shape[2:])
    return _turned(both) if both.ndim == 3 else both


def _turned(tensor: np.ndarray) -> np.ndarray:
    return tensor.swapaxes(1, 2)


def _as_it_is(tensor: np.ndarray) -> np.ndarray:
    return tensor


_JOINED: Mapping[str, Callable[..., np.ndarray]] = {"concatenated": _concatenated, "interleaved": _interleaved}


def _stored(tensor: "GGUFTensor | Converted") -> tuple[GGUFTensor, ...]:
    return tensor.tensors if isinstance(tensor, Converted) else (tensor,)
