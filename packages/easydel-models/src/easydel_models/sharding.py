"""Logical axes of every parameter: what a mesh may cut, without naming any mesh.

The trainer maps logical axes to mesh axes, for example ``embed`` to ``fsdp`` and ``heads``, ``mlp``,
``vocab`` to ``tp``. The table is data beside the model, so building a model needs no mesh.
"""

import jax

from easydel_models.layers import LORA_A, LORA_B
from easydel_models.parameters import Params

LOGICAL_AXES: dict[str, tuple[str, ...]] = {
    "embedding": ("vocab", "embed"),
    "attention_norm": ("layers", "embed"),
    "query": ("layers", "embed", "heads"),
    "query_bias": ("layers", "heads"),
    "key": ("layers", "embed", "kv_heads"),
    "key_bias": ("layers", "kv_heads"),
    "value": ("layers", "embed", "kv_heads"),
    "value_bias": ("layers", "kv_heads"),
    "output": ("layers", "heads", "embed"),
    "output_bias": ("layers", "embed"),
    "mlp_norm": ("layers", "embed"),
    "gate": ("layers", "embed", "mlp"),
    "gate_bias": ("layers", "mlp"),
    "up": ("layers", "embed", "mlp"),
    "up_bias": ("layers", "mlp"),
    "down": ("layers", "mlp", "embed"),
    "down_bias": ("layers", "embed"),
    "final_norm": ("embed",),
    "head": ("vocab", "embed"),
    "score": ("labels", "embed"),
}


def logical_axes(params: Params) -> Params:
    """Returns a tree like ``params`` whose leaves are tuples of logical axis names, one per dimension."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _axes_of(path[-1].key), params)


def _axes_of(name: str) -> tuple[str, ...]:
    if name.endswith(LORA_A):
        return (*LOGICAL_AXES[name.removesuffix(LORA_A)][:2], "rank")
    if name.endswith(LORA_B):
        layers, _, out = LOGICAL_AXES[name.removesuffix(LORA_B)]
        return layers, "rank", out
    return LOGICAL_AXES[name]
