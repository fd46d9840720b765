"""A GGUF file of the llama architecture, seen as a Hugging Face folder: a config and tensors by their names
there.

Two things differ from the folder beyond names and quantization. The rows of query and key are permuted,
because llama.cpp turns neighbouring dimensions by the same rope angle and transformers those half a head
apart; that is undone on loading. And of a tied head nothing is stored. The file's tokenizer is the business
of `easydata_tokenize`.

    hf_config, tensors = read_gguf("SmolLM2-135M-Instruct.Q4_1.gguf")
    tensors["model.norm.weight"].load()
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from easydel_models.config_values import is_number, is_whole
from easydel_models.errors import ConfigError, WeightsError
from easydel_models.files.gguf_file import GGUFFile, GGUFTensor, open_gguf
from easydel_models.layers.rope import RopeConfig, rope_frequencies
from easydel_models.shown import quoted

ARCHITECTURES = ("llama",)
"""Values of ``general.architecture`` that are read. Mistral's files call themselves llama too."""

_ROPE_FACTORS = "rope_freqs.weight"
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER_TENSOR = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_STOP_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
# Keys of "llama." that are read below or say nothing the tensors do not.
_KNOWN_KEYS = frozenset(
    {
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_rms_epsilon",
        "attention.value_length",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scaling.factor",
        "rope.scaling.type",
        "tensor_data_layout",
        "vocab_size",
    }
)


def read_gguf(path: str | os.PathLike[str]) -> "tuple[dict[str, Any], dict[str, GGUFTensor | HeadRows]]":
    """Reads the configuration and finds the tensors; no tensor is read yet.

    Args:
        path: A .gguf file of one of `ARCHITECTURES`, in any format the `gguf` package dequantizes.

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
    _check_kind(file)
    config = _hf_config(file)
    tensors = {}
    for name, tensor in file.tensors.items():
        if name == _ROPE_FACTORS:
            continue
        tensors[_hf_name(file.path, name)] = _with_hf_rows(tensor, config)
    return config, tensors


@dataclasses.dataclass(frozen=True, slots=True)
class HeadRows:
    """A query or key tensor whose rows are put back into the order of transformers on loading."""

    tensor: GGUFTensor
    heads: int

    @property
    def shape(self) -> tuple[int, ...]:
        """[heads * head_dim, in]; for a bias [heads * head_dim]."""
        return self.tensor.shape

    @property
    def origin(self) -> str:
        """The file's name."""
        return self.tensor.origin

    def load(self) -> np.ndarray:
        """Reads it as float32."""
        return halves_from_pairs(self.tensor.load(), self.heads)


def halves_from_pairs(rows: np.ndarray, heads: int) -> np.ndarray:
    """Reorders each head's rows from (a0 b0 a1 b1 …) to (a0 a1 … b0 b1 …), a and b being turned together by rope."""
    paired = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return paired.swapaxes(1, 2).reshape(rows.shape)


def _check_kind(file: GGUFFile) -> None:
    architecture = file.metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise ConfigError(
            f"{file.path} has the architecture {quoted(architecture)}; read are: {', '.join(ARCHITECTURES)}. "
            "Take the model's safetensors folder if its family is known there."
        )
    parts = file.metadata.get("split.count", 1)
    if not is_whole(parts) or parts > 1:
        raise ConfigError(f"{file.path} is one of {quoted(parts)} parts; merge them first (llama-gguf-split --merge).")
    for key, value in file.metadata.items():
        name = key.removeprefix("llama.")
        if name == key or name in _KNOWN_KEYS or (name.startswith("expert") and is_number(value) and value == 0):
            continue
        raise ConfigError(
            f"{file.path} sets {key} to {quoted(value)}, which this decoder does not compute: the model would load and "
            "give wrong numbers."
        )


def _hf_config(file: GGUFFile) -> dict[str, Any]:
    heads = _setting(file, "attention.head_count")
    dim = _setting(file, "embedding_length")
    head_dim = _setting(file, "attention.key_length", dim // heads or None)
    for key in ("attention.value_length", "rope.dimension_count"):
        found = file.metadata.get(f"llama.{key}", head_dim)
        if not is_whole(found) or found != head_dim:
            raise ConfigError(
                f"{file.path} sets llama.{key} to {quoted(found)}; expected head_dim, {head_dim}: "
                "heads of other widths are not computed."
            )
    ids = {key: file.metadata.get(f"tokenizer.ggml.{key}") for key in (*_STOP_KEYS, "bos_token_id")}
    stops = list(dict.fromkeys(ids[key] for key in _STOP_KEYS if ids[key] is not None))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": _shape(file, "token_embd.weight")[0],
        "hidden_size": dim,
        "intermediate_size": _setting(file, "feed_forward_length"),
        "num_hidden_layers": _setting(file, "block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _setting(file, "attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": _setting(file, "context_length"),
        "hidden_act": "silu",
        "rms_norm_eps": _decimal(_setting(file, "attention.layer_norm_rms_epsilon")),
        **_rope(file, head_dim),
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_gate.bias" in file.tensors,
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "bos_token_id": ids["bos_token_id"],
        "eos_token_id": stops[0] if len(stops) == 1 else stops or None,
        "pad_token_id": file.metadata.get("tokenizer.ggml.padding_token_id"),
    }


def _setting(file: GGUFFile, name: str, default: Any = None) -> Any:
    value = file.metadata.get(f"llama.{name}", default)
    if value is None:
        raise ConfigError(f"{file.path} lacks llama.{name}, without which the model cannot be built.")
    if isinstance(value, np.ndarray):
        if len(set(value.tolist())) != 1:
            raise ConfigError(
                f"{file.path} gives llama.{name} per layer, {quoted(value.tolist())}; expected one for all."
            )
        value = value[0].item()
    if not is_number(value) or value <= 0:
        raise ConfigError(f"{file.path} sets llama.{name} to {quoted(value)}; expected a number above 0.")
    return value


def _shape(file: GGUFFile, name: str) -> tuple[int, ...]:
    if name not in file.tensors:
        raise WeightsError(f"{file.path} holds no tensor {name}; a language model cannot be without.")
    return file.tensors[name].shape


def _decimal(value: float) -> float:
    """The shortest decimal of a float32: 1e-5, where the file's 4 bytes read as a double are 9.99999974e-06."""
    return float(str(np.float32(value)))


def _rope(file: GGUFFile, head_dim: int) -> dict[str, Any]:
    theta = _decimal(_setting(file, "rope.freq_base", 10_000.0))
    kind = file.metadata.get("llama.rope.scaling.type", "none")
    if not isinstance(kind, str):
        raise ConfigError(f"{file.path} sets llama.rope.scaling.type to {quoted(kind)}; expected its name.")
    if _ROPE_FACTORS in file.tensors:
        scaling = _llama3_scaling(file, theta, head_dim)
    elif kind == "none":
        scaling = None
    elif kind == "linear":
        scaling = {"rope_type": "linear", "factor": _decimal(_setting(file, "rope.scaling.factor"))}
    else:
        raise ConfigError(f"{file.path} scales rope by {quoted(kind)}; computed are none, linear and Llama 3's.")
    return {"rope_theta": theta, "rope_scaling": scaling}


def _llama3_scaling(file: GGUFFile, theta: float, head_dim: int) -> dict[str, Any]:
    """Llama 3.1 to 3.3 store what each frequency is divided by; only those models' settings are recognised."""
    stored = file.tensors[_ROPE_FACTORS].load()
    rope = RopeConfig(theta=theta, kind="llama3", factor=float(stored.max()))
    factors = rope_frequencies(RopeConfig(theta=theta), head_dim) / rope_frequencies(rope, head_dim)
    if stored.shape != factors.shape or not np.allclose(stored, factors, rtol=1e-3):
        raise ConfigError(f"{file.path}: the rope factors in {_ROPE_FACTORS} are not those of Llama 3.1 to 3.3.")
    return {
        "rope_type": "llama3",
        "factor": rope.factor,
        "low_freq_factor": rope.low_freq_factor,
        "high_freq_factor": rope.high_freq_factor,
        "original_max_position_embeddings": rope.original_max_positions,
    }


def _hf_name(path: Path, name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in _NAMES and kind == "weight":
        return f"{_NAMES[stem]}.{kind}"
    match = _LAYER_TENSOR.fullmatch(name)
    if match is None or match[2] not in _LAYER_NAMES:
        raise WeightsError(f"{path} holds a tensor {name}, which no model of the llama architecture has.")
    return f"model.layers.{match[1]}.{_LAYER_NAMES[match[2]]}.{match[3]}"


def _with_hf_rows(tensor: GGUFTensor, config: Mapping[str, Any]) -> GGUFTensor | HeadRows:
    match = _LAYER_TENSOR.fullmatch(tensor.name)
    if match is None or match[2] not in {"attn_q", "attn_k"}:
        return tensor
    heads = config["num_attention_heads" if match[2] == "attn_q" else "num_key_value_heads"]
    if tensor.shape[0] % (2 * heads):
        raise WeightsError(
            f"{tensor.path}: tensor {tensor.name} has {tensor.shape[0]} rows, expected a multiple of 2 x {heads} heads."
        )
    return HeadRows(tensor, heads)
