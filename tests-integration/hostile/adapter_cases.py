"""PEFT folders: adapter_config.json of wrong types and unknown kinds, adapter weights that fit nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from cases import ODD_VALUES, Case, mutations, short
from easydel_models import AutoEasyDeLModelForCausalLM
from easydel_models.adapters.peft_files import load_adapter
from model_cases import TEXTS
from model_cases import _folder as model_folder
from model_cases import _write as write
from safetensors.numpy import save

MODULES = {"self_attn.q_proj": (16, 16), "self_attn.v_proj": (8, 16)}
ADAPTER: Mapping[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "organisation/model",
    "r": 2,
    "lora_alpha": 4,
    "lora_dropout": 0.0,
    "use_rslora": False,
    "target_modules": ["q_proj", "v_proj"],
    "modules_to_save": None,
    "bias": "none",
    "fan_in_fan_out": False,
    "init_lora_weights": True,
    "inference_mode": True,
    "layers_to_transform": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "use_dora": False,
}


def cases() -> Iterator[Case]:
    yield Case("as it should be", _folder(), _load, accepted=True)
    for key in ADAPTER:
        for number, value in enumerate(ODD_VALUES):
            made = _folder(config={**ADAPTER, key: value})
            yield Case(f"adapter_config.json: {key} = {number} {short(value)}", made, _load)
    for value, read in (("pissa", True), ("olora", True), ("corda", False), ("my_method", False)):
        made = _folder(config={**ADAPTER, "init_lora_weights": value})
        yield Case(f"init_lora_weights = {value}", made, _load, accepted=read)
    yield Case("use_rslora = false", _folder(config={**ADAPTER, "use_rslora": "false"}), _load, accepted=False)
    for number, text in enumerate(mutations(json.dumps(ADAPTER).encode(), 60, seed=3)):
        yield Case(f"adapter_config.json: damaged {number}", _folder(config=text), _load)
    for name, text in TEXTS.items():
        yield Case(f"adapter_config.json: {name}", _folder(config=text), _load, accepted=False)
    whole = save(_tensors())
    for number, content in enumerate(mutations(whole[:700], 60, seed=4)):
        yield Case(f"adapter_model.safetensors: damaged {number}", _folder(weights=content + whole[700:]), _load)
    for kind in ("int8", "bool", "int64", "float64", "float16"):
        tensors = {name: tensor.astype(kind) for name, tensor in _tensors().items()}
        made = _folder(weights=save(tensors))
        yield Case(f"adapter_model.safetensors: {kind}", made, _load, accepted=kind.startswith("float"))
    for number, shape in enumerate(((), (0,), (2,), (2, 15), (3, 16), (2, 16, 1))):
        first = next(iter(_tensors()))
        made = _folder(weights=save(_tensors() | {first: np.zeros(shape, np.float32)}))
        yield Case(f"adapter_model.safetensors: shape {number}", made, _load, accepted=False)
    extra = {f"\x1b[2Jlayer{number}" + "n" * 300: np.zeros(1, np.float32) for number in range(200)}
    yield Case("unknown tensors", _folder(weights=save(_tensors() | extra)), _load, accepted=False)
    yield Case("no tensors", _folder(weights=save({})), _load, accepted=False)
    made = _folder()
    yield Case("weights missing", lambda folder: (made(folder), (folder / "adapter_model.safetensors").unlink()), _load)


def _folder(*, config: Any = ADAPTER, weights: bytes | None = None) -> Callable[[Path], object]:
    base = model_folder()

    def make(folder: Path) -> None:
        (folder / "base").mkdir()
        base(folder / "base")  # read, as drawing a model at random would be compiled in each process
        write(folder / "adapter_config.json", config)
        (folder / "adapter_model.safetensors").write_bytes(save(_tensors()) if weights is None else weights)

    return make


def _tensors() -> dict[str, np.ndarray]:
    tensors = {}
    for layer in range(2):
        for name, (out, into) in MODULES.items():
            stem = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{stem}.lora_A.weight"] = np.zeros((2, into), np.float32)
            tensors[f"{stem}.lora_B.weight"] = np.zeros((out, 2), np.float32)
    return tensors


def _load(folder: Path) -> object:
    return load_adapter(folder, AutoEasyDeLModelForCausalLM.from_pretrained(folder / "base"))
