"""The decoder: from tokens to hidden states, as one `jax.lax.scan` over stacked layers.

Pure functions of (config, params, arrays); the classes that hold parameters are in `easydel_models.heads`.

Axis letters: B batch, T tokens, D dim.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, PartitionSpec
from jaxtyping import Array, Float, Int

from easydel_models.attention import Implementation, attention
from easydel_models.cache import KVCache, next_positions, occupy, write_layer
from easydel_models.config import DecoderConfig
from easydel_models.embedding_noise import EmbeddingNoise, add_noise
from easydel_models.layers.linear import DROPOUT, gated_mlp, linear, project_heads, rms_norm
from easydel_models.layers.rope import apply_rope, rope_tables
from easydel_models.mesh import ROW_AXES, SP, active_mesh, cuts
from easydel_models.mesh.parallel import GATHERED, ONE_DEVICE, Parallel
from easydel_models.mesh.partitioning import partition_spec, partition_specs
from easydel_models.parameters import Params

Remat = Literal["none", "dots", "full"]


def decode(
    config: DecoderConfig,
    params: Params,
    input_ids: Int[Array, "B T"],
    *,
    dtype: np.dtype,
    positions: Int[Array, "B T"] | None = None,
    segment_ids: Int[Array, "B T"] | None = None,
    prefix_ids: Int[Array, "B T"] | None = None,
    longest_segment: int | None = None,
    remat: Remat = "none",
    implementation: Implementation = "auto",
    noise: EmbeddingNoise | None = None,
) -> Float[Array, "B T D"]:
    """Returns the hidden states after the final norm, in ``dtype``.

    Args:
        config: The decoder's switches.
        params: Its parameters, as `easydel_models.parameters.split_params` gives them.
        input_ids: Tokens; every id, the pad id too, is looked up and passes its gradient on.
        dtype: Compute dtype.
        positions: For rope; None = restart at 0 in every segment.
        segment_ids: 0 = padding, 1 and up = document; a token sees only its own document, which must be
            contiguous. None = one document per row.
        prefix_ids: Document before a token's own that it sees too, as if its own went on from there; 0 = none. Needs
            `positions`, which go on from there.
        longest_segment: Most tokens of any document, if known: rows of several documents then cost attention no more
            than one document would, however long the row. The caller answers for it.
        remat: What the backward pass recomputes instead of keeping: ``none`` nothing; ``dots`` all but the
            matrix products with weights and the attention; ``full`` everything inside a layer but the
            attention's result.
        implementation: Of attention.
        noise: What training adds to the embeddings.

    Raises:
        ValueError: If prefixes lack segments or positions, or come with noise, whose size is that of a whole document.
    """
    if prefix_ids is not None and (positions is None or segment_ids is None or noise is not None):
        raise ValueError("`prefix_ids` need `segment_ids` and `positions`, and no noise on embeddings.")
    mesh = active_mesh()
    mesh = None if mesh is None or not _divides(mesh, input_ids) else mesh
    x = _embedded(mesh, config, params, input_ids, dtype)
    if noise is not None:
        x = add_noise(x, noise, _default_positions(input_ids, segment_ids), _tokens_behind(input_ids, segment_ids))
    if positions is None:
        positions = _default_positions(input_ids, segment_ids)
    run = functools.partial(
        _decode,
        config=config,
        dtype=dtype,
        longest_segment=longest_segment,
        remat=remat,
        implementation=implementation,
    )
    if mesh is None:
        return run(params, x, positions, segment_ids, prefix_ids)
    return _on_mesh(mesh, run, params, x, positions, segment_ids, prefix_ids)


def _decode(
    params: Params,
    x: Array,
    positions: Array,
    segment_ids: Array | None,
    prefix_ids: Array | None,
    *,
    config: DecoderConfig,
    dtype: np.dtype,
    longest_segment: int | None,
    remat: Remat,
    implementation: Implementation,
    parallel: Parallel = ONE_DEVICE,
) -> Array:
    cos, sin = rope_tables(config.rope, config.head_dim, positions)
    places = parallel.places(positions, segment_ids, prefix_ids)
    # Behind a prefix that several share, a row's order says nothing of how far a document reaches.
    window = _window(config, None if prefix_ids is not None else longest_segment)

    def layer_step(x, layer):
        layer = parallel.gathered(layer, dtype)
        query, key, value = rotated_heads(config, layer, x, cos, sin)
        mixed = attention(
            query,
            parallel.of_whole_row(key),
            parallel.of_whole_row(value),
            window=window,
            implementation=implementation,
            **places,
        )
        return finish_layer(config, layer, x, mixed, parallel), None

    x, _ = jax.lax.scan(_rematerialised(layer_step, remat, parallel), x, params["layers"])
    return rms_norm(x, params["final_norm"], config.norm_eps)


def _divides(mesh: AbstractMesh, input_ids: Array) -> bool:
    # Trainers arrange whole batches so that it does. What does not (a single row, to look at) is left to XLA.
    return input_ids.shape[0] % cuts(mesh, ROW_AXES) == 0 and input_ids.shape[1] % mesh.shape[SP] == 0


def _embedded(
    mesh: AbstractMesh | None, config: DecoderConfig, params: Params, input_ids: Array, dtype: np.dtype
) -> Array:
    table = params["embedding"]
    if mesh is None:
        return ONE_DEVICE.embedded(table, config.vocab_size, input_ids, dtype)
    return jax.shard_map(
        lambda table, ids: Parallel(mesh).embedded(table, config.vocab_size, ids, dtype),
        mesh=mesh,
        in_specs=(partition_spec("embedding", table.shape, mesh), PartitionSpec(ROW_AXES, SP)),
        out_specs=PartitionSpec(ROW_AXES, SP),
        check_vma=False,
    )(table, input_ids)


def _on_mesh(mesh: AbstractMesh, run: Callable[..., Array], params: Params, *tokens: Array | None) -> Array:
    """Runs the layers on every device's own parameters and tokens."""
    used = {"layers": params["layers"], "final_norm": params["final_norm"]}
    layers = {name: array for name, array in used["layers"].items() if name != DROPOUT}
    specs: Params = partition_specs({**used, "layers": layers}, mesh)
    if DROPOUT in used["layers"]:
        specs["layers"][DROPOUT] = jax.tree.map(lambda _: PartitionSpec(), used["layers"][DROPOUT])
    of_tokens = PartitionSpec(ROW_AXES, SP)
    return jax.shard_map(
        functools.partial(run, parallel=Parallel(mesh)),
        mesh=mesh,
        in_specs=(specs, *(PartitionSpec() if array is None else of_tokens for array in tokens)),
        out_specs=of_tokens,
        check_vma=False,
    )(used, *tokens)


def decode_with_cache(
    config: DecoderConfig,
    params: Params,
    input_ids: Int[Array, "B T"],
    cache: KVCache,
    *,
    dtype: np.dtype,
    positions: Int[Array, "B T"] | None = None,
    segment_ids: Int[Array, "B T"] | None = None,
    implementation: Implementation = "auto",
) -> tuple[Float[Array, "B T D"], KVCache]:
    """Like `decode`, for tokens that follow those in ``cache``; see `easydel_models.cache` for the contract.

    Returns:
        The hidden states of the new tokens, and the cache with them entered.
    """
    segment_ids = jnp.ones_like(input_ids) if segment_ids is None else segment_ids
    positions = next_positions(cache, segment_ids) if positions is None else positions
    cos, sin = rope_tables(config.rope, config.head_dim, positions)
    index, table = cache.next_slot, occupy(cache, segment_ids, positions)

    def layer_step(carry, numbered_layer):
        x, keys, values = carry
        number, layer = numbered_layer
        query, key, value = rotated_heads(config, layer, x, cos, sin)
        keys, key = write_layer(keys, key, number, index)
        values, value = write_layer(values, value, number, index)
        mixed = attention(
            query,
            key.astype(dtype),
            value.astype(dtype),
            segment_ids=segment_ids,
            kv_segment_ids=table.segment_ids,
            positions=positions,
            kv_positions=table.positions,
            window=config.sliding_window,
            implementation=implementation,
        )
        return (finish_layer(config, layer, x, mixed), keys, values), None

    numbers = jnp.arange(config.num_layers, dtype=jnp.int32)
    x = ONE_DEVICE.embedded(params["embedding"], config.vocab_size, input_ids, dtype)
    carry = (x, cache.key, cache.value)
    (x, keys, values), _ = jax.lax.scan(layer_step, carry, (numbers, params["layers"]))
    return rms_norm(x, params["final_norm"], config.norm_eps), table._replace(key=keys, value=values)


def restarting_positions(segment_ids: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """Returns the place of every token inside its own run of equal segment ids, from 0."""
    places = jnp.broadcast_to(jnp.arange(segment_ids.shape[1], dtype=jnp.int32)[None], segment_ids.shape)
    changed = jnp.diff(segment_ids, axis=1, prepend=segment_ids[:, :1]) != 0
    starts = jax.lax.cummax(jnp.where(changed, places, jnp.int32(0)), axis=1)
    return places - starts


def _default_positions(input_ids: Array, segment_ids: Array | None) -> Array:
    return restarting_positions(jnp.ones_like(input_ids) if segment_ids is None else segment_ids)


def _tokens_behind(input_ids: Array, segment_ids: Array | None) -> Array:
    reverse = None if segment_ids is None else segment_ids[:, ::-1]
    return _default_positions(input_ids, reverse)[:, ::-1]


def _window(config: DecoderConfig, longest_segment: int | None) -> int | None:
    # Nobody sees past the start of his own document, so a window of a document's length hides nothing; but it lets
    # attention leave out the keys before it.
    limits = [limit for limit in (config.sliding_window, longest_segment) if limit is not None]
    return min(limits, default=None)


def rotated_heads(config: DecoderConfig, layer: Params, x: Array, cos: Array, sin: Array) -> tuple[Array, ...]:
    query, key, value = project_heads(layer, config, rms_norm(x, layer["attention_norm"], config.norm_eps))
    return apply_rope(query, cos, sin), apply_rope(key, cos, sin), value


def finish_layer(
    config: DecoderConfig, layer: Params, x: Array, mixed: Array, parallel: Parallel = ONE_DEVICE
) -> Array:
    x = x + linear(layer, "output", mixed.reshape(*mixed.shape[:2], -1), parallel)
    return x + gated_mlp(layer, config.activation, rms_norm(x, layer["mlp_norm"], config.norm_eps), parallel)


def _rematerialised(layer_step: Callable[..., Any], remat: Remat, parallel: Parallel) -> Callable[..., Any]:
    policies = jax.checkpoint_policies
    keep_attention = policies.save_only_these_names("attention")
    # Inside a scan nothing can be merged across iterations, so the barrier against it would only cost.
    checkpoint = functools.partial(jax.checkpoint, prevent_cse=False)
    if remat == "none":
        if parallel.mesh is None:
            return layer_step
        # All but whole kernels, which every device would else keep of all layers.
        return checkpoint(layer_step, policy=policies.save_anything_except_these_names(GATHERED))
    if remat == "dots":
        keep_dots = policies.dots_with_no_batch_dims_saveable
        return checkpoint(layer_step, policy=policies.save_from_both_policies(keep_dots, keep_attention))
    if remat == "full":
        return checkpoint(layer_step, policy=keep_attention)
    raise ValueError(f"`remat` is {remat!r}; expected none, dots or full.")
