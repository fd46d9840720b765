"""The front door: a model from a folder, a Hub id or a .gguf file, or with fresh weights from a configuration."""

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from jax.typing import DTypeLike

from easydel_models.config import DecoderConfig
from easydel_models.dtypes import resolve_dtype
from easydel_models.errors import ConfigError
from easydel_models.families.wrappers import spelling_of
from easydel_models.files.folder import read_config
from easydel_models.files.hub import locate
from easydel_models.files.mxfp4 import dequantized
from easydel_models.files.tensor_files import StoredTensor, open_tensors
from easydel_models.files.weights import TensorSource, expected_names, load_params, tensor_names
from easydel_models.heads import CausalLM, SequenceClassifier

logger = logging.getLogger(__name__)


class AutoEasyDeLModelForCausalLM:
    """Makes a `CausalLM`; itself never instantiated."""

    @staticmethod
    def from_pretrained(
        name: str | os.PathLike[str],
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = "float32",
        mesh: Mesh | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> CausalLM:
        """Loads a language model.

        Args:
            name: A Hugging Face folder, a ``.gguf`` file, ``"package://PACKAGE/FILE"``, or a Hub id
                ``"organisation/model"``.
            dtype: Compute dtype; None = float32 on CPU, bfloat16 on accelerators.
            param_dtype: What the parameters are kept in.
            mesh: Devices to lay the parameters over (`easydel_models.mesh.make_mesh`); None = one device.
            revision: Branch, tag or commit on the Hub.
            token: For private repositories on the Hub.

        Raises:
            ModelNotFoundError: If nothing is there under this name.
            ConfigError: If its configuration asks for something the decoder does not compute.
            MeshError: If the mesh cannot cut this model.
            WeightsError: If its weights do not fit its configuration.
        """
        config, tensors = _open(locate(name, revision=revision, token=token))
        config = dataclasses.replace(config, num_labels=None)
        tensors = _without(tensors, _names_of(config, "score"), why="a language model has no such head")
        params = load_params(tensors, config, dtype=resolve_dtype(param_dtype), mesh=mesh)
        return CausalLM(config, params, dtype=dtype)

    @staticmethod
    def from_config(
        config: DecoderConfig | Mapping[str, Any],
        *,
        seed: int = 0,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = "float32",
        mesh: Mesh | None = None,
    ) -> CausalLM:
        """Builds a language model with fresh random weights.

        Args:
            config: A `DecoderConfig`, or the contents of a Hugging Face config.json.
            seed: Of the weights.
            dtype: Compute dtype; None = float32 on CPU, bfloat16 on accelerators.
            param_dtype: What the parameters are kept in.
            mesh: See `from_pretrained`.
        """
        config = dataclasses.replace(_as_config(config), num_labels=None)
        return CausalLM.from_config(config, seed=seed, dtype=dtype, param_dtype=param_dtype, mesh=mesh)


class AutoEasyDeLModelForSequenceClassification:
    """Makes a `SequenceClassifier`, a reward model for instance; itself never instantiated."""

    @staticmethod
    def from_pretrained(
        name: str | os.PathLike[str],
        *,
        num_labels: int | None = None,
        fresh_head: bool = True,
        seed: int = 0,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = "float32",
        mesh: Mesh | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> SequenceClassifier:
        """Loads a classifier, or puts a fresh classification head on a language model, which is then logged.

        Args:
            name: A Hugging Face folder, a ``.gguf`` file, ``"package://PACKAGE/FILE"``, or a Hub id
                ``"organisation/model"``.
            num_labels: Outputs; None = as stored, 1 for a language model.
            fresh_head: Whether a language model is taken too; its head knows nothing before it is trained.
            seed: Of a fresh head.
            dtype: Compute dtype; None = float32 on CPU, bfloat16 on accelerators.
            param_dtype: What the parameters are kept in.
            mesh: Devices to lay the parameters over (`easydel_models.mesh.make_mesh`); None = one device.
            revision: Branch, tag or commit on the Hub.
            token: For private repositories on the Hub.

        Raises:
            ModelNotFoundError: If nothing is there under this name.
            ConfigError: If its configuration asks for something the decoder does not compute, or stores
                another number of labels, or is that of a language model and ``fresh_head`` is False.
            WeightsError: If its weights do not fit its configuration.
        """
        stored, tensors = _open(locate(name, revision=revision, token=token))
        if None not in {num_labels, stored.num_labels} and num_labels != stored.num_labels:
            raise ConfigError(
                f"`num_labels` is {num_labels}, but {name} stores a head of {stored.num_labels}; "
                "leave it out, or start from the language model."
            )
        if stored.num_labels is None and not fresh_head:
            raise ConfigError(
                f"{name} is a language model, and a classifier is asked for: it has no head that scores anything. "
                "Train one from it (RewardTrainer does), or name a folder that holds a classifier."
            )
        config = dataclasses.replace(stored, num_labels=num_labels or stored.num_labels or 1)
        fresh = {}
        if stored.num_labels is None:
            fresh["score"] = seed
            logger.warning("%s is a language model: its classification head is drawn at random.", name)
            tensors = _without(tensors, _names_of(config, "head"), why="a classifier has no such head")
        params = load_params(tensors, config, dtype=resolve_dtype(param_dtype), fresh=fresh, mesh=mesh)
        return SequenceClassifier(config, params, dtype=dtype)

    @staticmethod
    def from_config(
        config: DecoderConfig | Mapping[str, Any],
        *,
        num_labels: int | None = None,
        seed: int = 0,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = "float32",
        mesh: Mesh | None = None,
    ) -> SequenceClassifier:
        """Builds a classifier with fresh random weights.

        Args:
            config: A `DecoderConfig`, or the contents of a Hugging Face config.json.
            num_labels: Outputs; None = as the configuration has it, else 1.
            seed: Of the weights.
            dtype: Compute dtype; None = float32 on CPU, bfloat16 on accelerators.
            param_dtype: What the parameters are kept in.
            mesh: See `from_pretrained`.
        """
        config = _as_config(config)
        config = dataclasses.replace(config, num_labels=num_labels or config.num_labels or 1)
        return SequenceClassifier.from_config(config, seed=seed, dtype=dtype, param_dtype=param_dtype, mesh=mesh)


def _open(path: Path) -> tuple[DecoderConfig, TensorSource]:
    if path.suffix == ".gguf":
        from easydel_models.files.gguf import read_gguf

        hf, tensors = read_gguf(path)
        return DecoderConfig.from_hf(hf), tensors
    config, tensors = read_config(path), open_tensors(path)
    return (config, dequantized(tensors)) if not config.wrapped_in else _text_model(config, tensors)


def _text_model(config: DecoderConfig, tensors: Mapping[str, StoredTensor]) -> tuple[DecoderConfig, TensorSource]:
    """Returns the decoder of a checkpoint that sees too: its tensors, and a configuration that remembers the others."""
    config = dataclasses.replace(config, spelling=spelling_of(tensors))
    own = expected_names(config) | set(tensor_names(config, "head"))
    carried = tuple(tensor for name, tensor in tensors.items() if name not in own)
    parts = ", ".join(dict.fromkeys(".".join(tensor.name.split(".")[:2]) for tensor in carried))
    logger.warning("text alone is trained: %d other tensors are carried over as they are (%s).", len(carried), parts)
    text = {name: tensor for name, tensor in tensors.items() if name in own}
    return dataclasses.replace(config, carried=carried), text


def _as_config(config: DecoderConfig | Mapping[str, Any]) -> DecoderConfig:
    return config if isinstance(config, DecoderConfig) else DecoderConfig.from_hf(config)


def _names_of(config: DecoderConfig, path: str) -> set[str]:
    return set(tensor_names(config, path))


def _without(tensors: TensorSource, names: set[str], *, why: str) -> TensorSource:
    left_out = sorted(names & tensors.keys())
    if left_out:
        logger.warning("not loading %s: %s.", ", ".join(left_out), why)
    return {name: tensor for name, tensor in tensors.items() if name not in names}
