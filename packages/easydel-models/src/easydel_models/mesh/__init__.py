"""Meshes of devices: their axes, which axis cuts which parameter, and what devices exchange while they compute."""

from easydel_models.mesh.axes import DP as DP
from easydel_models.mesh.axes import EP as EP
from easydel_models.mesh.axes import FSDP as FSDP
from easydel_models.mesh.axes import MESH_AXES as MESH_AXES
from easydel_models.mesh.axes import ROW_AXES as ROW_AXES
from easydel_models.mesh.axes import SP as SP
from easydel_models.mesh.axes import TOKEN_AXES as TOKEN_AXES
from easydel_models.mesh.axes import TP as TP
from easydel_models.mesh.axes import active_mesh as active_mesh
from easydel_models.mesh.axes import cuts as cuts
from easydel_models.mesh.axes import make_mesh as make_mesh
from easydel_models.mesh.axes import mesh_shape as mesh_shape
