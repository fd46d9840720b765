"""What the devices of a mesh exchange while a decoder runs, written for one device and its own slices.

`fsdp` gathers a layer's kernels right before they are used, and only they; `ep` sends every token to all experts that a
group of devices holds together, and what they add back; `tp` sums what each part of the heads and of the MLP adds to
the residual stream; `sp` gathers the keys and values of a layer, while every device keeps its own
queries. On one device each method gives back what it was given. Backward passes follow by transposition: a gather
becomes a scattered sum, so that gradients of kernels are never whole on a device either.

Axis letters: B batch, T tokens, N all tokens, D dim, G key/value heads, K head_dim.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh

from easydel_models.layers.layer import OWN_INPUT
from easydel_models.layers.linear import DROPOUT, LoraDropout
from easydel_models.mesh import EP, FSDP, SP, TOKEN_AXES, TP
from easydel_models.mesh.partitioning import partition_spec

GATHERED = "gathered"
"""Name of gathered kernels for rematerialisation policies: the backward pass gathers them anew."""


@dataclass(frozen=True)
class Parallel:
    """The exchange between devices.

    Attributes:
        mesh: in whose `jax.shard_map` the code runs; None = on one device.
    """

    mesh: AbstractMesh | None

    def gathered(self, layer: Mapping[str, Any], dtype: Any, *, stacked: bool = True) -> dict[str, Any]:
        """Returns parameters, those that `fsdp` cuts put together, in the compute dtype; ``stacked``: one layer's."""
        if self.mesh is None:
            return dict(layer)
        whole: dict[str, Any] = {
            name: array if name == OWN_INPUT else self._gathered(name, array, dtype, stacked=stacked)
            for name, array in layer.items()
            if name != DROPOUT
        }
        if DROPOUT in layer:
            # Every device leaves out inputs of its own; those of one `tp` group share a key, as they share inputs.
            dropout, number = layer[DROPOUT], jax.lax.axis_index(TOKEN_AXES)
            whole[DROPOUT] = LoraDropout(jax.random.fold_in(dropout.key, number), dropout.rate)
        return whole

    def embedded(self, table: jax.Array, vocab_size: int, input_ids: jax.Array, dtype: Any) -> jax.Array:
        """Returns rows of the embedding, [B, T, D]. Tokens travel to the table's parts and what they find travels back:
        the table is never gathered.
        """
        if self.mesh is None:
            return table[input_ids].astype(dtype)
        spread = self.mesh.shape[FSDP] > 1
        ids = jax.lax.all_gather(input_ids, FSDP, axis=0, tiled=True) if spread else input_ids
        found = self._looked_up(table, vocab_size, ids, dtype)
        return jax.lax.all_to_all(found, FSDP, split_axis=0, concat_axis=2, tiled=True) if spread else found

    def summed(self, part: jax.Array) -> jax.Array:
        """Returns the sum of what the parts of the heads, or of the MLP, add."""
        return part if self.mesh is None or self.mesh.shape[TP] == 1 else jax.lax.psum(part, TP)

    def once(self, addend: jax.Array) -> jax.Array:
        """Returns what the whole adds once: each part of the heads, or of the MLP, but one is given zeros, so that the
        sum of the parts holds it a single time.
        """
        if self.mesh is None or self.mesh.shape[TP] == 1:
            return addend
        return jnp.where(jax.lax.axis_index(TP) == 0, addend, jnp.zeros((), addend.dtype))

    def mean_of_heads(self, part: jax.Array) -> jax.Array:
        """Returns the mean, over all heads, of what each device has as the mean of its own."""
        return part if self.mesh is None or self.mesh.shape[TP] == 1 else jax.lax.pmean(part, TP)

    def own_heads(self, weights: jax.Array) -> jax.Array:
        """Of one weight for each number of all heads, [H K], those of this device's heads."""
        if self.mesh is None or self.mesh.shape[TP] == 1:
            return weights
        width = weights.shape[0] // self.mesh.shape[TP]
        return jax.lax.dynamic_slice_in_dim(weights, jax.lax.axis_index(TP) * width, width)

    def to_experts(self, tokens: jax.Array) -> jax.Array:
        """Returns what is said of each token, [N, ...], of all tokens of the devices that hold the experts together."""
        if self.mesh is None or self.mesh.shape[EP] == 1:
            return tokens
        return jax.lax.all_gather(tokens, EP, axis=0, tiled=True)

    def from_experts(self, part: jax.Array) -> jax.Array:
        """Of what this device's experts add to each of those tokens, the sum with all others', for its own tokens."""
        if self.mesh is None or self.mesh.shape[EP] == 1:
            return part
        return jax.lax.psum_scatter(part, EP, scatter_dimension=0, tiled=True)

    def first_expert(self, held: int) -> jax.Array:
        """Returns number, among all, of the first of the experts that this device holds."""
        if self.mesh is None or self.mesh.shape[EP] == 1:
            return jnp.int32(0)
        return jax.lax.axis_index(EP) * jnp.int32(held)

    def summed_over_tokens(self, sums: Any) -> Any:
        """Returns the sums, over the tokens of all devices, of which each has its own tokens' part."""
        return sums if self.mesh is None or not sums else jax.lax.psum(sums, TOKEN_AXES)

    def own_part(self, key: jax.Array) -> jax.Array:
        """Returns a random key of this part of the heads, or of the MLP."""
        return key if self.mesh is None else jax.random.fold_in(key, jax.lax.axis_index(TP))

    def of_whole_row(self, array: jax.Array) -> jax.Array:
        """Keys, values or segments, [B, T, ...], of all tokens of a row."""
        if self.mesh is None or self.mesh.shape[SP] == 1:
            return array
        return jax.lax.all_gather(array, SP, axis=1, tiled=True)

    def own_tokens(self, array: jax.Array) -> jax.Array:
        """Returns the tokens of a whole row, [B, T, ...], that are this device's."""
        if self.mesh is None or self.mesh.shape[SP] == 1:
            return array
        length = array.shape[1] // self.mesh.shape[SP]
        return jax.lax.dynamic_slice_in_dim(array, jax.lax.axis_index(SP) * length, length, axis=1)

    def mask_inputs(
        self, positions: jax.Array, segment_ids: jax.Array | None, prefix_ids: jax.Array | None
    ) -> dict[str, Any]:
        """Arguments for attention that say where this device's tokens, [B, T] of them, lie in their rows."""
        if prefix_ids is not None:
            assert segment_ids is not None  # `decode` refuses prefixes without
            # Those who share a prefix lie behind one another: only their positions tell how far they are from it.
            kv = {"kv_segment_ids": self.of_whole_row(segment_ids), "kv_positions": self.of_whole_row(positions)}
            return {"segment_ids": segment_ids, "prefix_ids": prefix_ids, "positions": positions, **kv}
        if self.mesh is None or self.mesh.shape[SP] == 1:
            return {"segment_ids": segment_ids}
        rows, length = positions.shape
        everywhere = jnp.broadcast_to(
            jnp.arange(length * self.mesh.shape[SP], dtype=jnp.int32)[None], (rows, length * self.mesh.shape[SP])
        )
        own = jax.lax.dynamic_slice_in_dim(everywhere, jax.lax.axis_index(SP) * length, length, axis=1)
        segments = {} if segment_ids is None else {"kv_segment_ids": self.of_whole_row(segment_ids)}
        return {"segment_ids": segment_ids, **segments, "positions": own, "kv_positions": everywhere}

    def _gathered(self, name: str, array: jax.Array, dtype: Any, *, stacked: bool) -> jax.Array:
        assert self.mesh is not None
        # The layers' axis is gone inside the scan.
        whole_shape = (1, *array.shape) if stacked else array.shape
        spec = partition_spec(name, whole_shape, self.mesh)[1 if stacked else 0 :]
        if FSDP not in spec or self.mesh.shape[FSDP] == 1:
            return array
        whole = jax.lax.all_gather(array.astype(dtype), FSDP, axis=spec.index(FSDP), tiled=True)
        return checkpoint_name(whole, GATHERED)

    def _looked_up(self, table: jax.Array, vocab_size: int, ids: jax.Array, dtype: Any) -> jax.Array:
        if table.shape[0] == vocab_size:
            return table[ids].astype(dtype)
        local = ids - jax.lax.axis_index(TP) * table.shape[0]
        held = (local >= 0) & (local < table.shape[0])
        rows = table[jnp.where(held, local, 0)].astype(dtype)
        return jax.lax.psum(jnp.where(held[..., None], rows, jnp.zeros((), dtype)), TP)


ONE_DEVICE = Parallel(None)
