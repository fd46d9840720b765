"""The parameters of a decoder as plain data: which there are, their shapes, and how to take a model apart.

A model is `split_params` into a structure (static, hashable) and a nested dict of arrays, on which
optimizers, JAX transformations and checkpoints work, and put together again with `join_params`, also inside
``jax.jit``:

    structure, params = split_params(model)
    loss = lambda params: join_params(structure, params).hidden(ids).sum()
    grads = jax.grad(loss)(params)

Kernels are [in, out]; embedding, head and score are [rows, dim]; everything under ``params["layers"]`` is
stacked over layers, [layers, ...]. Where all layers are alike there is one stack, ``params["layers"]["query"]``;
otherwise one for each `easydel_models.layers.stacks.Stack`, by its number: ``params["layers"]["0"]["query"]``.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Sharding
from jaxtyping import Array

from easydel_models.config import DecoderConfig
from easydel_models.layers.parameter import ParameterSpec
from easydel_models.layers.stacks import stacks
from easydel_models.random_keys import key_of_seed

Params = dict[str, Any]
"""Nested dict of arrays."""


def parameter_specs(config: DecoderConfig) -> dict[str, ParameterSpec]:
    """Returns every parameter of the model ``config`` describes, by dotted path (``layers.query``)."""
    table = ParameterSpec(shape=(config.vocab_size, config.dim), kind="table")
    specs = {"embedding": table}
    if config.learned_positions:
        specs["position_embedding"] = ParameterSpec(shape=(config.max_positions, config.dim), kind="table")
    if config.own_inputs:
        width = config.num_layers * config.own_inputs
        specs["own_embedding"] = ParameterSpec(shape=(config.own_vocab_size, width), kind="table")
        specs["own_projection"] = ParameterSpec(shape=(config.dim, width), kind="kernel")
        specs["own_norm"] = ParameterSpec(shape=(config.own_inputs,), kind="norm", init="ones")
    for path, stack in zip(stack_paths(config), stacks(config.all_layers), strict=True):
        own = stack.config.parameters(config.dim, config.norm)
        specs |= {f"{path}.{name}": dataclasses.replace(spec, layers=len(stack.numbers)) for name, spec in own.items()}
    specs |= config.norm.parameters("final_norm", config.dim)
    if config.num_labels is not None:
        specs["score"] = ParameterSpec(shape=(config.num_labels, config.dim), kind="table")
    elif not config.tie_embeddings:
        specs["head"] = table
    return specs


def stack_paths(config: DecoderConfig) -> tuple[str, ...]:
    """Returns where the parameters of each stack of layers are, as dotted paths."""
    count = len(stacks(config.all_layers))
    return ("layers",) if count == 1 else tuple(f"layers.{number}" for number in range(count))


def layer_stacks(config: DecoderConfig, layers: Params) -> tuple[Params, ...]:
    """Returns the branches of ``params["layers"]``: one for each stack of layers."""
    count = len(stacks(config.all_layers))
    return (layers,) if count == 1 else tuple(layers[str(number)] for number in range(count))


def joined_stacks(branches: Sequence[Params]) -> Params:
    """Returns the reverse of `layer_stacks`."""
    return branches[0] if len(branches) == 1 else {str(number): branch for number, branch in enumerate(branches)}


def init_params(
    config: DecoderConfig, *, seed: int, dtype: np.dtype, shardings: Mapping[str, Sharding] | None = None
) -> Params:
    """Draws fresh parameters: norms 1, biases 0, all else normal with `DecoderConfig.initializer_range`.

    Each parameter has its own stream, folded from ``seed`` and its path, so that adding one leaves the others
    alone. With ``shardings``, by path, each device draws its own part of the same values.
    """
    root, where = key_of_seed(seed), shardings or {}
    return nested(
        {
            path: init_parameter(path, spec, config, root, dtype, sharding=where.get(path))
            for path, spec in parameter_specs(config).items()
        }
    )


def init_parameter(
    path: str,
    spec: ParameterSpec,
    config: DecoderConfig,
    root: Array,
    dtype: np.dtype,
    *,
    sharding: Sharding | None = None,
) -> Array:
    """Draws one fresh parameter; see `init_params`."""
    shape, key = spec.full_shape, parameter_key(root, path)

    def draw() -> Array:
        if spec.init != "normal":
            return (jnp.ones if spec.init == "ones" else jnp.zeros)(shape, dtype)
        return (jax.random.normal(key, shape, jnp.float32) * jnp.float32(config.initializer_range)).astype(dtype)

    return draw() if sharding is None else jax.jit(draw, out_shardings=sharding)()


def parameter_key(root: Array, path: str) -> Array:
    """Returns the random key of one parameter: a function of ``root`` and its path alone."""
    return jax.random.fold_in(root, int.from_bytes(path.encode(), "little") % (2**31 - 1))


def split_params(model: nnx.Module) -> tuple[nnx.GraphDef, Params]:
    """Takes a model apart into its structure and its parameters.

    Returns:
        A hashable structure for `join_params`, and a nested dict of the model's own arrays (not copies).
    """
    structure, state = nnx.split(model)
    return structure, nnx.to_pure_dict(state)


def join_params(structure: nnx.GraphDef, params: Params) -> Any:
    """Puts a model together again; the reverse of `split_params`.

    Args:
        structure: What `split_params` returned.
        params: Parameters of the same paths; they may be traced, or cast to another dtype.
    """
    return nnx.merge(structure, params)


def update_params(model: nnx.Module, params: Params) -> None:
    """Gives a model other values for its parameters, in place; paths left out keep theirs, shapes must be the same."""
    state = nnx.state(model)
    nnx.replace_by_pure_dict(state, params)
    nnx.update(model, state)


def count_parameters(params: Params) -> int:
    """Returns the number of scalars in ``params``."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def nested(flat: Mapping[str, Any]) -> Params:
    """Turns ``{"layers.query": x}`` into ``{"layers": {"query": x}}``."""
    tree: Params = {}
    for path, leaf in flat.items():
        *parents, name = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = leaf
    return tree


def flattened(params: Params, prefix: str = "") -> dict[str, Any]:
    """Returns the reverse of `nested`."""
    flat = {}
    for name, value in params.items():
        path = prefix + name
        flat |= flattened(value, path + ".") if isinstance(value, dict) else {path: value}
    return flat
