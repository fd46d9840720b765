"""Adapters in the files of the `peft` library: adapter_config.json beside adapter_model.safetensors.

There A is [rank, in] and B [out, rank], one pair for each linear layer, under its name in transformers:
``base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight``.
"""

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from easydel_models.adapters.config import LoraConfig
from easydel_models.adapters.fused import block_diagonal, split_adapter
from easydel_models.adapters.lora import with_adapters
from easydel_models.adapters.peft_values import read_peft_config
from easydel_models.adapters.targets import adapted_kernels, linear_modules, linear_paths
from easydel_models.config import DecoderConfig
from easydel_models.errors import LoraError, ModelNotFoundError
from easydel_models.families.wrappers import SPELLINGS
from easydel_models.files.tensor_files import open_file, write_file
from easydel_models.files.weights import outputs_of_module, stored_together
from easydel_models.files.whole_folder import whole_folder
from easydel_models.heads import DecoderModel, SequenceClassifier
from easydel_models.layers.linear import LORA_A, LORA_B
from easydel_models.mesh.sharding import one_writer, to_host
from easydel_models.parameters import Params, flattened, parameter_specs, split_params, update_params
from easydel_models.safe_text import quoted

CONFIG = "adapter_config.json"
MODEL_CONFIG = "config.json"
WEIGHTS = "adapter_model.safetensors"

Model = TypeVar("Model", bound=DecoderModel)

_PREFIX = "base_model.model."
_SCORE = f"{_PREFIX}score.weight"
_READ = frozenset(
    {
        "alpha_pattern",
        "init_lora_weights",
        "lora_alpha",
        "lora_dropout",
        "modules_to_save",
        "peft_type",
        "r",
        "rank_pattern",
        "target_modules",
        "use_rslora",
    }
)
# What says how adapters were made or are to be served, not what they compute.
_WITHOUT_EFFECT = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "ensure_weight_tying",
        "fan_in_fan_out",  # how the base stores its kernels; the adapters are stored alike
        "exclude_modules",
        "inference_mode",
        "lora_ga_config",
        "loftq_config",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "task_type",
        "megatron_core",
    }
)
_FINE = {"bias": "none"}
_INITIAL_PARTS = ("pissa", "olora")
_OTHER_INITS = (None, True, False, "gaussian", "orthogonal", "eva")


def save_adapter(path: str | os.PathLike[str], model: DecoderModel, *, base_model: str | None = None) -> None:
    """Writes the adapters as a folder that `peft.PeftModel.from_pretrained` loads, in their own dtype.

    Args:
        path: The folder; adapters in it are replaced, other files stay.
        model: The adapted model. A classifier's score goes along, as a module that was trained whole.
        base_model: Folder or Hub id of the base model, for whoever loads the adapters; None = not said.

    Raises:
        LoraError: If the model has no adapters, or the folder holds a whole model.
    """
    lora = model.lora
    if lora is None:
        raise LoraError("the model has no adapters to write; `save_pretrained` writes a whole model.")
    tensors = dict(_tensors(split_params(model)[1], model.config, lora))
    with one_writer() as writes:
        if writes:
            _write_adapter(Path(path), tensors, _adapter_config(model, lora, base_model))


def load_adapter(path: str | os.PathLike[str], model: Model) -> Model:
    """Returns ``model`` with the adapters of a PEFT folder; the base's arrays are shared.

    Adapters initialised by PiSSA or OLoRA were trained beside kernels from which their initial part had been taken
    out. They come back at twice the rank, the initial part subtracted, so that the base model stays what it is.

    Args:
        path: A folder with adapter_config.json and adapter_model.safetensors.
        model: The base model the adapters were made for.

    Raises:
        ModelNotFoundError: If one of the two files is not there.
        LoraError: If the adapters compute something that is not computed here, or do not fit the model.
    """
    folder = Path(path)
    config = _read_config(folder)
    if not (folder / WEIGHTS).is_file():
        raise ModelNotFoundError(f"{folder / WEIGHTS} is not there; pickled adapters (.bin) are never read.")
    tensors = {
        _named_as_today(name, model.config): tensor.load() for name, tensor in open_file(folder / WEIGHTS).items()
    }
    score = tensors.pop(_SCORE, None)
    lora = _lora_config(config, tensors, model.config, folder)
    adapters = _stacked(tensors, model.config, lora, folder)
    if config.get("init_lora_weights") in _INITIAL_PARTS:
        lora, adapters = _without_initial_part(config["init_lora_weights"], lora, adapters, model)
    adapted = with_adapters(model, lora, adapters)
    if score is not None:
        _take_score(adapted, score, folder)
    return adapted


_F32 = np.dtype(np.float32)


def _named_as_today(name: str, config: DecoderConfig) -> str:
    """The tensor's name with the text model's beginning as transformers 5 has it, where that is a part of the model."""
    for spelling in SPELLINGS if config.wrapped_in else ():
        layers = f"{_PREFIX}{spelling.model}layers."
        if name.startswith(layers):
            return f"{_PREFIX}{SPELLINGS[0].model}layers.{name.removeprefix(layers)}"
    return name


def _write_adapter(target: Path, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> None:
    if (target / MODEL_CONFIG).is_file():
        raise LoraError(
            f"{target} holds a whole model: whoever reads the folder would take one for the other. Write the adapters "
            "to another folder."
        )
    shapes = {name: array.shape for name, array in tensors.items()}
    with whole_folder(target, key=CONFIG, replaces=(WEIGHTS,)) as fresh:
        write_file(fresh / WEIGHTS, iter(tensors.items()), shapes, dict.fromkeys(tensors, _F32))
        (fresh / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _tensors(params: Params, config: DecoderConfig, lora: LoraConfig) -> Iterator[tuple[str, np.ndarray]]:
    flat = flattened(params)
    for paths in _modules(config, lora):
        pairs = [(to_host(flat[path + LORA_A]), to_host(flat[path + LORA_B])) for path in paths]
        order = outputs_of_module(config, paths[0])
        for layer, module in enumerate(linear_modules(config, paths[0])):
            # Side by side in one module, adapters of several linear layers are one of as many times the rank.
            a = np.concatenate([a[layer].T for a, _ in pairs])
            b = block_diagonal([b[layer].T for _, b in pairs])[order]
            yield f"{_PREFIX}{module}.lora_A.weight", np.ascontiguousarray(a)
            yield f"{_PREFIX}{module}.lora_B.weight", np.ascontiguousarray(b)
    if "score" in params:
        yield _SCORE, to_host(params["score"])


def _modules(config: DecoderConfig, lora: LoraConfig) -> list[tuple[str, ...]]:
    """The adapted kernels, those together that files hold in one tensor."""
    return list(dict.fromkeys(stored_together(config, path) for path in adapted_kernels(config, lora)))


def _adapter_config(model: DecoderModel, lora: LoraConfig, base_model: str | None) -> dict[str, Any]:
    classifier = isinstance(model, SequenceClassifier)
    modules = _modules(model.config, lora)
    words = [_word(model.config, paths[0]) for paths in modules]
    targets: Any = sorted(set(words))
    if model.config.wrapped_in:  # the other parts of the checkpoint have modules of the same names
        targets = rf".*language_model\..*\.({'|'.join(map(re.escape, targets))})"
    times = {word: len(paths) for word, paths in zip(words, modules, strict=True) if len(paths) > 1}
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if classifier else "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rslora,
        "target_modules": targets,
        "rank_pattern": {word: lora.rank * count for word, count in times.items()},
        "alpha_pattern": {word: _alpha(lora, count) for word, count in times.items()},
        "modules_to_save": ["score"] if classifier else None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    config = read_peft_config(path)
    ours = _READ | _WITHOUT_EFFECT
    odd = {key: value for key, value in config.items() if key not in ours and value and value != _FINE.get(key)}
    if odd:
        raise LoraError(
            f"{path} asks for {quoted(odd)}, which is not computed here; merge such adapters with peft and load the "
            "result."
        )
    init = config.get("init_lora_weights")
    if init not in (*_INITIAL_PARTS, *_OTHER_INITS):
        raise LoraError(
            f"{path} says `init_lora_weights` {init!r}; expected one of "
            f"{', '.join(map(repr, (*_INITIAL_PARTS, *_OTHER_INITS)))}. Some initialisations change the base model in "
            "a way that this file does not hold: save such adapters with peft's "
            "path_initial_model_for_weight_conversion, or merge them with peft and load the result."
        )
    return config


def _lora_config(
    config: Mapping[str, Any], tensors: Mapping[str, Any], model: DecoderConfig, folder: Path
) -> LoraConfig:
    """The targets are those that the file holds, whatever words the config chose them with."""
    held = [
        name
        for name in linear_paths(model)
        if any(f"{_PREFIX}{module}.lora_A.weight" in tensors for module in linear_modules(model, name))
    ]
    if not held:
        raise LoraError(f"{folder / WEIGHTS} holds no adapter of a linear layer that this model has.")
    words = dict.fromkeys(_word(model, path) for path in held)
    lora = LoraConfig(
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        dropout=float(config.get("lora_dropout") or 0.0),
        rslora=bool(config.get("use_rslora")),
        targets=[rf"\.{re.escape(word)}$" for word in words],
    )
    _check_patterns(config, lora, {_word(model, path): len(stored_together(model, path)) for path in held}, folder)
    return lora


def _word(config: DecoderConfig, path: str) -> str:
    """The end of a module's name that means it and no other: one word, or two where another module has the same."""
    (own, *_), others = linear_modules(config, path), {linear_modules(config, one)[0] for one in linear_paths(config)}
    word = own.rpartition(".")[2]
    alike = {re.sub(r"\d+", "", one) for one in others if one.endswith(f".{word}")}
    return word if len(alike) == 1 else ".".join(own.split(".")[-2:])


def _alpha(lora: LoraConfig, times: int) -> float:
    """What keeps the scale of an adapter of so many times the rank."""
    return lora.alpha * (math.sqrt(times) if lora.rslora else times)


def _check_patterns(config: Mapping[str, Any], lora: LoraConfig, times: Mapping[str, int], folder: Path) -> None:
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    for word in ranks.keys() | alphas.keys():
        count = times.get(word, 0)
        scaled = math.isclose(alphas.get(word, lora.alpha), _alpha(lora, count), rel_tol=1e-6) if count else False
        if ranks.get(word, lora.rank) != lora.rank * count or not scaled:
            raise LoraError(
                f"{folder / CONFIG} gives {quoted(word)} a rank or alpha of its own (rank_pattern, alpha_pattern), "
                "which is not computed here; merge such adapters with peft and load the result."
            )


def _stacked(
    tensors: Mapping[str, np.ndarray], config: DecoderConfig, lora: LoraConfig, folder: Path
) -> dict[str, Array]:
    specs, adapters, used = parameter_specs(config), {}, set()
    for paths in _modules(config, lora):
        rows, columns = specs[paths[0]].shape[0], [specs[path].shape[1] for path in paths]
        halves: list[list[tuple[np.ndarray, np.ndarray]]] = []
        back = np.argsort(outputs_of_module(config, paths[0]))
        for module in linear_modules(config, paths[0]):
            keys = [f"{_PREFIX}{module}.lora_{part}.weight" for part in ("A", "B")]
            ranks = (lora.rank, lora.rank * len(paths))
            _check_shapes(tensors, keys, [[(rank, rows), (sum(columns), rank)] for rank in ranks], folder)
            a, b = (tensors[key].astype(_F32) for key in keys)
            halves.append(split_adapter(a, b[back], columns, lora.rank, f"{folder / WEIGHTS}: {module}"))
            used.update(keys)
        for number, path in enumerate(paths):
            adapters[path + LORA_A] = jnp.asarray(np.stack([half[number][0].T for half in halves]))
            adapters[path + LORA_B] = jnp.asarray(np.stack([half[number][1].T for half in halves]))
    if left := sorted(tensors.keys() - used):
        raise LoraError(
            f"{folder / WEIGHTS} holds {len(left)} tensors that fit nothing in this model, first {left[0]}."
        )
    return adapters


def _check_shapes(
    tensors: Mapping[str, np.ndarray],
    keys: Sequence[str],
    possible: Sequence[Sequence[tuple[int, int]]],
    folder: Path,
) -> None:
    found = [tensors[key].shape if key in tensors else "missing" for key in keys]
    if found in [list(shapes) for shapes in possible]:
        return
    key, one, shape = next(three for three in zip(keys, found, possible[0], strict=True) if three[1] != three[2])
    raise LoraError(
        f"{folder / WEIGHTS}: {key} is {one}, expected {shape}; the adapters belong to another base model, or adapt it "
        "in some layers only."
    )


def _without_initial_part(
    init: str, lora: LoraConfig, adapters: dict[str, Array], model: DecoderModel
) -> tuple[LoraConfig, dict[str, Array]]:
    """``W - s A0 B0 + s A B`` as adapters of W: A beside A0, B above -B0.

    References: Meng et al., PiSSA, 2024, https://arxiv.org/abs/2404.02948, section 3; Büyükakyüz, OLoRA, 2024,
        https://arxiv.org/abs/2406.01775, algorithm 1.
    """
    flat, wider = flattened(split_params(model)[1]), {}
    for paths in _modules(model.config, lora):
        if len(paths) > 1:
            raise LoraError(
                f"adapters initialised by {init} of {' and '.join(paths)}, which the files of this family hold as one "
                "kernel, are not computed here; merge them with peft and load the result."
            )
        path = next(iter(paths))
        first = [_initial_part(init, kernel, lora) for kernel in to_host(flat[path]).astype(_F32)]
        a0, b0 = (jnp.asarray(np.stack(parts)) for parts in zip(*first, strict=True))
        wider[path + LORA_A] = jnp.concatenate([adapters[path + LORA_A], a0], axis=2)
        wider[path + LORA_B] = jnp.concatenate([adapters[path + LORA_B], -b0], axis=1)
    return dataclasses.replace(lora, rank=2 * lora.rank, alpha=_alpha(lora, 2)), wider


def _initial_part(init: str, kernel: np.ndarray, lora: LoraConfig) -> tuple[np.ndarray, np.ndarray]:
    """A0 [in, rank] and B0 [rank, out] of a kernel [in, out], as PEFT computes them of its transpose."""
    rank = lora.rank
    if init == "olora":
        q, r = np.linalg.qr(kernel.T)
        return r[:rank].T, q[:, :rank].T
    left, values, right = np.linalg.svd(kernel, full_matrices=False)
    root = np.sqrt(values[:rank] / _F32.type(lora.scale))
    return left[:, :rank] * root, root[:, None] * right[:rank]


def _take_score(model: DecoderModel, score: np.ndarray, folder: Path) -> None:
    held = split_params(model)[1].get("score")
    if held is None or held.shape != score.shape:
        raise LoraError(
            f"{folder / WEIGHTS} holds a score of {score.shape}, the model {'none' if held is None else held.shape}; "
            "load the base model as a classifier of that many labels."
        )
    update_params(model, {"score": jnp.asarray(score, held.dtype)})
