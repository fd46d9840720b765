"""The decoder: from tokens to hidden states, one `jax.lax.scan` for each segment of its layers.

Pure functions of (config, params, arrays); the classes that hold parameters are in `easydel_models.heads`.

Axis letters: B batch, T tokens, D dim.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, PartitionSpec
from jaxtyping import Array, Float, Int

from easydel_models.attention import Implementation
from easydel_models.bfloat16_bits import as_bits, as_numbers, looked_up
from easydel_models.config import DecoderConfig
from easydel_models.embedding_noise import EmbeddingNoise, add_noise
from easydel_models.layers.feed_forward import Routing
from easydel_models.layers.layer import OWN_INPUT, layer_forward
from easydel_models.layers.linear import DROPOUT, linear
from easydel_models.layers.norms import normed
from easydel_models.layers.rope import RopeConfig, RopeTables, rope_tables
from easydel_models.layers.stacks import Segment, Stack, segments
from easydel_models.layers.tokens import Memory, Tokens
from easydel_models.mesh import ROW_AXES, SP, active_mesh, cuts
from easydel_models.mesh.parallel import GATHERED, ONE_DEVICE, Parallel
from easydel_models.mesh.partitioning import partition_spec, partition_specs
from easydel_models.parameters import Params, layer_stacks

Remat = Literal["none", "dots", "full"]

LOOKED_UP = ("embedding", "own_embedding", "position_embedding")
"""Parameters whose rows are looked up before the layers."""


class Decoded(NamedTuple):
    """What a pass through the decoder leaves."""

    hidden: Float[Array, "B T D"]
    """Hidden states: what the head is applied to."""
    routings: tuple[Routing, ...]
    """How each stack of layers with experts chose them, [layers, ...] each; sums over all tokens of the batch."""


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
) -> Decoded:
    """Returns the hidden states after the final norm, in ``dtype``, and how experts were chosen.

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
        ValueError: If prefixes lack segments or positions, come with noise, whose size is that of a whole document, or
            a layer cannot honour them.
    """
    _check_prefixes(config, prefix_ids, positions, segment_ids, noise)
    mesh = active_mesh()
    mesh = None if mesh is None or not _divides(mesh, input_ids) else mesh
    x = _scaled(config.embedding_scale, _looked_up(mesh, "embedding", params, input_ids, dtype))
    own = _looked_up(mesh, "own_embedding", params, input_ids, dtype) if config.own_inputs else None
    if noise is not None:
        x = add_noise(x, noise, _default_positions(input_ids, segment_ids), _tokens_behind(input_ids, segment_ids))
    if positions is None:
        positions = _default_positions(input_ids, segment_ids)
    if config.learned_positions:
        x = x + params["position_embedding"][positions].astype(dtype)
    lengths = _document_lengths(config, input_ids, positions, segment_ids)
    how = _Pass(
        config=config,
        dtype=dtype,
        remat=remat,
        implementation=implementation,
        longest_segment=longest_segment,
        parallel=ONE_DEVICE if mesh is None else Parallel(mesh),
    )
    if mesh is None:
        return _decode(how, params, x, own, positions, segment_ids, prefix_ids, lengths)
    return _on_mesh(mesh, how, params, x, own, positions, segment_ids, prefix_ids, lengths)


def read_prompts(
    config: DecoderConfig,
    params: Params,
    input_ids: Int[Array, "B T"],
    *,
    dtype: np.dtype,
    segment_ids: Int[Array, "B T"],
) -> tuple[Memory, ...]:
    """Returns what each layer keeps of prompts, for the tokens to come; on one device, or as XLA cuts it.

    Args:
        config: The decoder's switches.
        params: Its parameters.
        input_ids: One prompt a row, padded on the right.
        dtype: Compute dtype.
        segment_ids: 1 = token, 0 = padding.
    """
    positions = _default_positions(input_ids, segment_ids)
    x, own = embedded_tokens(config, params, input_ids, positions, dtype)
    how = _Pass(config=config, dtype=dtype, keep_memory=True)
    lengths = _document_lengths(config, input_ids, positions, segment_ids)
    return _through_layers(how, params["layers"], x, how.tokens(positions, segment_ids, None, lengths), own)[1]


def embedded_tokens(
    config: DecoderConfig, params: Mapping[str, Any], input_ids: Array, positions: Array, dtype: np.dtype
) -> tuple[Float[Array, "B T D"], Float[Array, "B T L P"] | None]:
    """Returns what the first layer is given, and what each layer alone is told.

    On one device, without noise, and no gradient passes.
    """
    x = _scaled(config.embedding_scale, looked_up(params["embedding"], input_ids).astype(dtype))
    own = looked_up(params["own_embedding"], input_ids).astype(dtype) if config.own_inputs else None
    if config.learned_positions:
        x = x + looked_up(params["position_embedding"], positions).astype(dtype)
    return x, _own_inputs(config, params, x, own)


def _own_inputs(
    config: DecoderConfig, params: Mapping[str, Any], x: Array, own: Array | None
) -> Float[Array, "B T L P"] | None:
    """Returns what each layer is told: the token's own embedding, and a projection of the common one."""
    if own is None:
        return None
    apart = (*x.shape[:2], config.num_layers, config.own_inputs)
    own = _scaled(config.own_inputs**0.5, own).reshape(apart)
    projected = _scaled(config.dim**-0.5, linear(params, "own_projection", x)).reshape(apart)
    return _scaled(2**-0.5, normed(params, "own_norm", projected, config.norm) + own)


def ropes_of(
    config: DecoderConfig, positions: Int[Array, "B T"], lengths: Int[Array, "B T"] | None = None
) -> dict[tuple[RopeConfig, int], RopeTables]:
    """Returns the tables of every rope that a layer looks up, each computed once."""
    keys = dict.fromkeys(key for layer in config.all_layers for key in layer.mixer.ropes())
    return {(rope, head_dim): rope_tables(rope, head_dim, positions, lengths) for rope, head_dim in keys}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pass:
    """How one pass runs, apart from its tokens."""

    config: DecoderConfig
    dtype: np.dtype
    remat: Remat = "none"
    implementation: Implementation = "auto"
    longest_segment: int | None = None
    parallel: Parallel = ONE_DEVICE
    keep_memory: bool = False

    def tokens(
        self, positions: Array, segment_ids: Array | None, prefix_ids: Array | None, lengths: Array | None
    ) -> Tokens:
        return Tokens(
            positions=positions,
            segment_ids=segment_ids,
            prefix_ids=prefix_ids,
            longest_segment=self.longest_segment,
            mask_inputs=self.parallel.mask_inputs(positions, segment_ids, prefix_ids),
            ropes=ropes_of(self.config, positions, lengths),
            norm=self.config.norm,
            exchange=self.parallel,
            implementation=self.implementation,
        )


_Kept = list[tuple[Memory | None, Routing | None]]
"""What each stack of a segment leaves."""


def _decode(how: _Pass, params: Params, x: Array, own: Array | None, *where: Any) -> Decoded:
    if own is not None:
        whole = how.parallel.gathered({"own_projection": params["own_projection"]}, how.dtype, stacked=False)
        own = _own_inputs(how.config, params | whole, x, own)
    x, _, routings = _through_layers(how, params["layers"], x, how.tokens(*where), own)
    return Decoded(finished(how.config, params, x), how.parallel.summed_over_tokens(routings))


def finished(config: DecoderConfig, params: Mapping[str, Any], x: Array) -> Array:
    """Returns what the head is applied to: the final norm of the residual stream, scaled as the logits are to be."""
    hidden = normed(params, "final_norm", x, config.norm)
    return _scaled(config.logit_scale, hidden)


def _through_layers(
    how: _Pass, layers: Params, x: Array, tokens: Tokens, own_inputs: Array | None
) -> tuple[Array, tuple[Memory, ...], tuple[Routing, ...]]:
    """Runs all layers; returns the stream, each layer's memory if it is kept, and each stack's routing."""
    branches = iter(layer_stacks(how.config, layers))
    memories: dict[int, Memory] = {}
    routings: list[Routing] = []
    shared: dict[str, Memory] = {}
    for segment in segments(how.config.all_layers):
        own = tuple(_with_own_input(next(branches), stack, own_inputs) for stack in segment.stacks)
        x, kept = _through_segment(how, segment, own, x, dataclasses.replace(tokens, shared=dict(shared)))
        for stack, (memory, routing) in zip(segment.stacks, kept, strict=True):
            routings += [] if routing is None else [routing]
            if memory is None:
                continue
            of_layers = [jax.tree.map(lambda array, i=i: array[i], memory) for i in range(len(stack.numbers))]
            memories |= dict(zip(stack.numbers, of_layers, strict=True))
            if stack.config.mixer.publishes is not None:
                shared[stack.config.mixer.publishes] = of_layers[-1]
    return x, tuple(memories[number] for number in sorted(memories)), tuple(routings)


def _with_own_input(branch: Params, stack: Stack, own_inputs: Array | None) -> Params:
    if own_inputs is None:
        return branch
    return branch | {OWN_INPUT: jnp.moveaxis(own_inputs[:, :, np.asarray(stack.numbers)], 2, 0)}


def _through_segment(
    how: _Pass, segment: Segment, own: tuple[Params, ...], x: Array, tokens: Tokens
) -> tuple[Array, _Kept]:
    scanned = segment.repeats > 1

    def period(x: Array, layers: tuple[Params, ...]) -> tuple[Array, _Kept]:
        layers = as_numbers(layers) if how.keep_memory else layers
        kept, shared = [], dict(tokens.shared)
        for stack, layer in zip(segment.stacks, layers, strict=True):
            run = _layer_run(how, stack, dataclasses.replace(tokens, shared=dict(shared)))
            x, memory, routing = _rematerialised(run, how, scanned=scanned)(x, layer)
            kept.append((memory, routing))
            if stack.config.mixer.publishes is not None:
                shared[stack.config.mixer.publishes] = memory
        return x, kept

    # Prefilling slices the bits of bfloat16 layers, which a loop over numbers would widen whole: it may have been given
    # them as bits, and no gradient passes.
    own = as_bits(own) if how.keep_memory else own
    if scanned:
        return jax.lax.scan(period, x, own)
    x, kept = period(x, jax.tree.map(lambda array: array[0], own))
    return x, jax.tree.map(lambda array: array[None], kept)


def _layer_run(how: _Pass, stack: Stack, tokens: Tokens) -> Callable[[Array, Params], tuple[Any, ...]]:
    kept = how.keep_memory or stack.config.mixer.publishes is not None

    def run(x: Array, layer: Params) -> tuple[Any, ...]:
        # Who sees whom is tied to the layer's input: what depends on nothing in the scan is computed once before it,
        # and the masks of all blocks, which are length² for every row, would be kept.
        x, mask_inputs = jax.lax.optimization_barrier((x, dict(tokens.mask_inputs)))
        of_layer = dataclasses.replace(tokens, mask_inputs=mask_inputs)
        x, memory, routing = layer_forward(stack.config, how.parallel.gathered(layer, how.dtype), x, of_layer)
        return x, memory if kept else None, routing

    return run


def _check_prefixes(
    config: DecoderConfig,
    prefix_ids: Array | None,
    positions: Array | None,
    segment_ids: Array | None,
    noise: EmbeddingNoise | None,
) -> None:
    if prefix_ids is None:
        return
    if positions is None or segment_ids is None or noise is not None:
        raise ValueError("`prefix_ids` need `segment_ids` and `positions`, and no noise on embeddings.")
    refusing = sorted({type(x.mixer).__name__ for x in config.all_layers if not x.mixer.honours_prefixes()})
    if refusing:
        raise ValueError(
            f"`prefix_ids` with layers of {', '.join(refusing)}, whose state knows one document at a time."
        )


def _divides(mesh: AbstractMesh, input_ids: Array) -> bool:
    # Trainers arrange whole batches so that it does. What does not (a single row, to look at) is left to XLA.
    return input_ids.shape[0] % cuts(mesh, ROW_AXES) == 0 and input_ids.shape[1] % mesh.shape[SP] == 0


def _looked_up(
    mesh: AbstractMesh | None, name: str, params: Mapping[str, Any], input_ids: Array, dtype: np.dtype
) -> Array:
    """Returns rows of an embedding."""
    table = params[name]
    if mesh is None:
        return ONE_DEVICE.embedded(table, table.shape[0], input_ids, dtype)
    return jax.shard_map(
        lambda part, ids: Parallel(mesh).embedded(part, table.shape[0], ids, dtype),
        mesh=mesh,
        in_specs=(partition_spec(name, table.shape, mesh), PartitionSpec(ROW_AXES, SP)),
        out_specs=PartitionSpec(ROW_AXES, SP),
        check_vma=False,
    )(table, input_ids)


def _scaled(factor: float, array: Array) -> Array:
    return array if factor == 1.0 else array * jnp.asarray(factor, array.dtype)


def _on_mesh(mesh: AbstractMesh, how: _Pass, params: Params, x: Array, *others: Array | None) -> Decoded:
    """Runs the layers on every device's own parameters and tokens."""
    used = {name: params[name] for name in params if name not in LOOKED_UP}
    of_tokens = PartitionSpec(ROW_AXES, SP)
    return jax.shard_map(
        functools.partial(_decode, how),
        mesh=mesh,
        in_specs=(
            _specs_of(used, mesh),
            of_tokens,
            *(PartitionSpec() if array is None else of_tokens for array in others),
        ),
        out_specs=Decoded(of_tokens, PartitionSpec()),  # pyright: ignore[reportArgumentType]
        check_vma=False,
    )(used, x, *others)


def _specs_of(params: Params, mesh: AbstractMesh) -> Params:
    """Returns how parameters are cut; what adapters leave out is the same on every device."""
    specs: Params = {}
    for name, value in params.items():
        if name == DROPOUT:
            specs[name] = jax.tree.map(lambda _: PartitionSpec(), value)
        elif isinstance(value, dict):
            specs[name] = _specs_of(value, mesh)
        else:
            specs |= partition_specs({name: value}, mesh)
    return specs


def restarting_positions(segment_ids: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """Returns the position of every token inside its own run of equal segment ids, from 0."""
    indices = jnp.broadcast_to(jnp.arange(segment_ids.shape[1], dtype=jnp.int32)[None], segment_ids.shape)
    changed = jnp.diff(segment_ids, axis=1, prepend=segment_ids[:, :1]) != 0
    starts = jax.lax.cummax(jnp.where(changed, indices, jnp.int32(0)), axis=1)
    return indices - starts


def _default_positions(input_ids: Array, segment_ids: Array | None) -> Array:
    return restarting_positions(jnp.ones_like(input_ids) if segment_ids is None else segment_ids)


def _document_lengths(
    config: DecoderConfig, input_ids: Array, positions: Array, segment_ids: Array | None
) -> Array | None:
    """Returns tokens of each token's document, where a rope depends on them."""
    if not any(rope.kind == "longrope" for layer in config.all_layers for rope, _ in layer.mixer.ropes()):
        return None
    return positions + _tokens_behind(input_ids, segment_ids) + 1


def _tokens_behind(input_ids: Array, segment_ids: Array | None) -> Array:
    reverse = None if segment_ids is None else segment_ids[:, ::-1]
    return _default_positions(input_ids, reverse)[:, ::-1]


def _rematerialised(run: Callable[..., Any], how: _Pass, *, scanned: bool) -> Callable[..., Any]:
    policies = jax.checkpoint_policies
    keep_attention = policies.save_only_these_names("attention")
    # Inside a scan nothing can be merged across iterations, so the barrier against it would only cost.
    checkpoint = functools.partial(jax.checkpoint, prevent_cse=not scanned)
    if how.remat == "none":
        if how.parallel.mesh is None:
            return run
        # All but whole kernels, which every device would else keep of all layers.
        return checkpoint(run, policy=policies.save_anything_except_these_names(GATHERED))
    if how.remat == "dots":
        keep_dots = policies.dots_with_no_batch_dims_saveable
        return checkpoint(run, policy=policies.save_from_both_policies(keep_dots, keep_attention))
    if how.remat == "full":
        return checkpoint(run, policy=keep_attention)
    raise ValueError(f"`remat` is {how.remat!r}; expected none, dots or full.")
