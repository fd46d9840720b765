"""The device mesh: five axes, of which each cuts something else.

``dp`` repeats the parameters and cuts the rows; ``fsdp`` cuts the rows and the parameters; ``ep`` cuts the rows and, of
the parameters, the experts; ``tp`` cuts heads, the MLP and the vocabulary; ``sp`` cuts the tokens of a row. The code
here looks for the mesh in force where it is traced (`jax.set_mesh`) and otherwise computes on one device.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh

from easydel_models.errors import MeshError

DP, FSDP, EP, TP, SP = "dp", "fsdp", "ep", "tp", "sp"
MESH_AXES = (DP, FSDP, EP, TP, SP)

ROW_AXES = (DP, FSDP, EP)
"""Axes that cut the rows of a batch."""
TOKEN_AXES = (DP, FSDP, EP, SP)
"""Axes that cut the tokens of a batch."""


def make_mesh(
    *, dp: int = 1, fsdp: int = -1, ep: int = 1, tp: int = 1, sp: int = 1, devices: Sequence[Any] | None = None
) -> Mesh:
    """Arranges devices in a mesh.

    Args:
        dp: Copies of the parameters; -1 = as many as the other axes leave.
        fsdp: Parts that parameters and rows are cut into; -1 = as above.
        ep: Parts that rows and experts are cut into; -1 = as above.
        tp: Parts that heads, MLP and vocabulary are cut into; -1 = as above.
        sp: Parts that the tokens of a row are cut into; -1 = as above.
        devices: None = all there are, of all processes.

    Raises:
        MeshError: If the sizes and the number of devices do not go together.
    """
    devices = jax.devices() if devices is None else list(devices)
    shape = mesh_shape(dp=dp, fsdp=fsdp, ep=ep, tp=tp, sp=sp, devices=len(devices))
    return jax.make_mesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES), devices=devices)


def mesh_shape(*, dp: int, fsdp: int, ep: int, tp: int, sp: int, devices: int) -> tuple[int, ...]:
    """Returns the sizes of all five axes, -1 replaced by what is left; see `make_mesh`."""
    sizes = dict(zip(MESH_AXES, (dp, fsdp, ep, tp, sp), strict=True))
    shown = ", ".join(f"{name}={size}" for name, size in sizes.items())
    if any(size != -1 and size < 1 for size in sizes.values()):
        raise MeshError(f"The mesh {shown} has an axis that is neither a whole number from 1 on nor -1 (the rest).")
    open_axes = [name for name, size in sizes.items() if size == -1]
    if len(open_axes) > 1:
        raise MeshError(f"The mesh {shown} leaves two axes open; at most one can be -1, the devices that are left.")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if fixed > devices or devices % fixed or (not open_axes and fixed != devices):
        raise MeshError(
            f"The mesh {shown} asks for {'a multiple of ' if open_axes else ''}{fixed} devices; found {devices}. "
            "Choose axes whose product is the number of devices, or leave one at -1 to take what is left."
        )
    return tuple(devices // fixed if size == -1 else size for size in sizes.values())


def active_mesh() -> AbstractMesh | None:
    """Returns the mesh in force, if it has these axes and code is not already running on one device of it."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or set(mesh.axis_names) != set(MESH_AXES) or AxisType.Manual in mesh.axis_types:
        return None
    return mesh


def cuts(mesh: Mesh | AbstractMesh, axes: Sequence[str]) -> int:
    """Returns the number of parts that some axes cut into together."""
    return math.prod(mesh.shape[axis] for axis in axes)
