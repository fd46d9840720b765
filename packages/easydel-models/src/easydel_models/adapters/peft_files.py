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
from easydel_models.adapters.lora import with_adapters
from easydel_models.adapters.peft_tensors import PREFIX, lora_tensors, module_beginning, read_adapters
from easydel_models.adapters.peft_values import read_peft_config
from easydel_models.adapters.targets import adaptable, adapted
from easydel_models.config import DecoderConfig
from easydel_models.errors import LoraError, ModelNotFoundError
from easydel_models.families.wrappers import SPELLINGS
from easydel_models.files.tensor_files import open_file, write_file
from easydel_models.files.weights import HeldKernel
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

_SCORE = f"{PREFIX}score.weight"
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
        "target_parameters",
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
    adapters = read_adapters(
        adapted(model.config, lora), tensors, parameter_specs(model.config), rank=lora.rank, file=folder / WEIGHTS
    )
    if config.get("init_lora_weights") in _INITIAL_PARTS:
        lora, adapters = _without_initial_part(config["init_lora_weights"], lora, adapters, model)
    with_them = with_adapters(model, lora, adapters)
    if score is not None:
        _take_score(with_them, score, folder)
    return with_them


_F32 = np.dtype(np.float32)


def _named_as_today(name: str, config: DecoderConfig) -> str:
    """Returns the tensor's name with the text model's beginning as transformers 5 has it, where that is a part of the
    model.
    """
    for spelling in SPELLINGS if config.wrapped_in else ():
        layers = f"{PREFIX}{spelling.model}layers."
        if name.startswith(layers):
            return f"{PREFIX}{SPELLINGS[0].model}layers.{name.removeprefix(layers)}"
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
    yield from lora_tensors(adapted(config, lora), flattened(params))
    if "score" in params:
        yield _SCORE, to_host(params["score"])


def _adapter_config(model: DecoderModel, lora: LoraConfig, base_model: str | None) -> dict[str, Any]:
    classifier = isinstance(model, SequenceClassifier)
    kernels, all_kernels = adapted(model.config, lora), adaptable(model.config)
    words = {kernel.paths: _word(kernel, all_kernels) for kernel in kernels}
    targets: Any = sorted({words[kernel.paths] for kernel in kernels if kernel.in_linear_layer})
    if model.config.wrapped_in and targets:  # the other parts of the checkpoint have modules of the same names
        targets = rf".*language_model\..*\.({'|'.join(map(re.escape, targets))})"
    parameters = [words[kernel.paths] for kernel in kernels if not kernel.in_linear_layer]
    times = {words[kernel.paths]: len(kernel.paths) for kernel in kernels if len(kernel.paths) > 1}
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if classifier else "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rslora,
        "target_modules": targets,
        "target_parameters": sorted(set(parameters)) or None,
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
    """Returns the targets are those that the file holds, whatever words the config chose them with."""
    kernels, parameters = adaptable(model), config.get("target_parameters") or []
    held = [
        kernel
        for kernel in kernels
        if kernel.in_linear_layer and any(f"{module_beginning(name)}.lora_A.weight" in tensors for name in kernel.names)
    ]
    if not held and not parameters:
        raise LoraError(f"{folder / WEIGHTS} holds no adapter of a linear layer that this model has.")
    lora = LoraConfig(
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        dropout=float(config.get("lora_dropout") or 0.0),
        rslora=bool(config.get("use_rslora")),
        targets=[rf"\.{re.escape(word)}$" for word in dict.fromkeys(_word(kernel, kernels) for kernel in held)],
        target_parameters=parameters,
    )
    for kernel in adapted(model, lora):
        _check_patterns(config, lora, kernel, folder)
    return lora


def _word(kernel: HeldKernel, others: Sequence[HeldKernel]) -> str:
    """Returns the end of a name that means it and no other: a parameter's name in its layer; a module's last word, or
    two where another module has the same.
    """
    own = kernel.names[0]
    if not kernel.in_linear_layer:
        return re.sub(r"^.*?\.\d+\.", "", own)
    word = own.rpartition(".")[2]
    modules = {other.names[0] for other in others if other.in_linear_layer}
    alike = {re.sub(r"\d+", "", one) for one in modules if one.endswith(f".{word}")}
    return word if len(alike) == 1 else ".".join(own.split(".")[-2:])


def _alpha(lora: LoraConfig, times: int) -> float:
    """Returns what keeps the scale of an adapter of so many times the rank."""
    return lora.alpha * (math.sqrt(times) if lora.rslora else times)


def _check_patterns(config: Mapping[str, Any], lora: LoraConfig, kernel: HeldKernel, folder: Path) -> None:
    count = len(kernel.paths)
    for name in kernel.names:
        rank = _of_pattern(config.get("rank_pattern"), name, float(lora.rank))
        alpha = _of_pattern(config.get("alpha_pattern"), name, float(lora.alpha))
        times = rank / lora.rank
        if times not in (1, count) or not math.isclose(alpha, _alpha(lora, int(times)), rel_tol=1e-6):
            raise LoraError(
                f"{folder / CONFIG} gives {name} a rank or alpha of its own, {rank} and {alpha} (rank_pattern, "
                "alpha_pattern), which is not computed here; merge such adapters with peft and load the result."
            )


def _of_pattern(patterns: Mapping[str, Any] | None, name: str, otherwise: float) -> float:
    """Returns what the first pattern says that means the whole name or its end, as PEFT reads them."""
    for pattern, value in (patterns or {}).items():
        try:
            if re.fullmatch(rf"(.*\.)?({pattern})", name):
                return float(value)
        except re.error:
            raise LoraError(
                f"rank_pattern or alpha_pattern has {quoted(pattern)}, which is no regular expression."
            ) from None
    return otherwise


def _without_initial_part(
    init: str, lora: LoraConfig, adapters: dict[str, Array], model: DecoderModel
) -> tuple[LoraConfig, dict[str, Array]]:
    """``W - s A0 B0 + s A B`` as adapters of W: A beside A0, B above -B0.

    References: Meng et al., PiSSA, 2024, https://arxiv.org/abs/2404.02948, section 3; Büyükakyüz, OLoRA, 2024,
        https://arxiv.org/abs/2406.01775, algorithm 1.
    """
    flat, wider = flattened(split_params(model)[1]), {}
    for kernel in adapted(model.config, lora):
        if len(kernel.paths) > 1 or not kernel.in_linear_layer:
            raise LoraError(
                f"adapters initialised by {init} of {' and '.join(kernel.paths)}, which transformers holds as one "
                "kernel, are not computed here; merge them with peft and load the result."
            )
        path = next(iter(kernel.paths))
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
