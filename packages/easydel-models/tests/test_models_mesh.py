"""Meshes that cannot be are refused before anything is allocated; every parameter has its place on the others."""

import jax
import pytest
from easydel_models import DecoderConfig
from easydel_models.errors import MeshError
from easydel_models.experts.routing import RouterConfig
from easydel_models.layers.attention import Attention
from easydel_models.layers.experts import Experts
from easydel_models.layers.gated import Gated
from easydel_models.layers.layer import LayerConfig
from easydel_models.mesh import MESH_AXES, active_mesh, cuts, make_mesh, mesh_shape
from easydel_models.mesh.partitioning import LOGICAL_AXES, partition_spec
from easydel_models.mesh.sharding import check_fits, place, to_host
from easydel_models.parameters import parameter_specs
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

CONFIG = DecoderConfig(vocab_size=99, dim=48, num_layers=2, num_heads=6, num_kv_heads=3, head_dim=8, mlp_dim=64)


def mesh_of(dp: int, fsdp: int, tp: int, sp: int, ep: int = 1) -> AbstractMesh:
    return AbstractMesh((dp, fsdp, ep, tp, sp), MESH_AXES, axis_types=(AxisType.Auto,) * 5)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ((1, -1, 1, 1, 1), (1, 8, 1, 1, 1)),
        ((-1, 2, 1, 2, 1), (2, 2, 1, 2, 1)),
        ((1, 1, 1, -1, 4), (1, 1, 1, 2, 4)),
        ((2, 2, 1, 1, 2), (2, 2, 1, 1, 2)),
        ((1, 2, -1, 1, 1), (1, 2, 4, 1, 1)),
    ],
)
def test_an_open_axis_takes_the_devices_that_are_left(axes, shape):
    assert mesh_shape(**dict(zip(MESH_AXES, axes, strict=True)), devices=8) == shape


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ((1, 16, 1, 1, 1), "asks for 16 devices; found 8"),
        ((1, -1, 3, 1, 1), "a multiple of 3 devices; found 8"),
        ((1, 1, 1, 1, 1), "asks for 1 devices; found 8"),
        ((-1, -1, 1, 1, 1), "two axes open"),
        ((0, -1, 1, 1, 1), "whole number from 1"),
    ],
)
def test_what_the_devices_do_not_allow_is_refused(axes, message):
    with pytest.raises(MeshError, match=message):
        mesh_shape(**dict(zip(MESH_AXES, axes, strict=True)), devices=8)


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (
            mesh_of(1, 1, 4, 1),
            r"tp=4 does not divide the model's attention heads \(6\). Choose tp among \[1, 2, 3, 6\]",
        ),
        (mesh_of(1, 1, 2, 1), r"tp=2 does not divide the model's key/value heads \(3\)"),
        (mesh_of(1, 5, 1, 1), r"fsdp=5 does not divide the model's dim \(48\)"),
    ],
)
def test_what_the_model_does_not_allow_is_refused(mesh, message):
    with pytest.raises(MeshError, match=message):
        check_fits(CONFIG, mesh)


def test_experts_are_dealt_out_evenly_or_it_is_refused():
    router = RouterConfig(num_experts=6, experts_per_token=2)
    layer = LayerConfig(
        mixer=Attention(num_heads=6, num_kv_heads=3, head_dim=8), feed_forward=Experts(router=router, width=16)
    )
    config = DecoderConfig(vocab_size=99, dim=48, layers=(layer,) * 2)
    with pytest.raises(
        MeshError, match=r"ep=4 does not divide the model's experts \(6\). Choose ep among \[1, 2, 3, 6\]"
    ):
        check_fits(config, mesh_of(1, 1, 1, 1, ep=4))
    check_fits(config, mesh_of(1, 1, 1, 1, ep=3))
    assert partition_spec("expert_down", (2, 6, 16, 48), mesh_of(1, 2, 2, 1, ep=2)) == PartitionSpec(
        None, "ep", "tp", "fsdp"
    )
    with pytest.raises(MeshError, match="ep=2 cuts experts, and this model has none"):
        check_fits(CONFIG, mesh_of(1, 1, 1, 1, ep=2))


def test_what_layers_alone_are_told_is_cut_by_fsdp_too():
    layer = LayerConfig(
        mixer=Attention(num_heads=6, num_kv_heads=3, head_dim=8), feed_forward=Gated(width=16), own_input=5
    )
    config = DecoderConfig(vocab_size=99, dim=48, layers=(layer,) * 2, own_inputs=5, own_vocab_size=99)
    with pytest.raises(MeshError, match=r"fsdp=4 does not divide .* told, all together \(10\)"):
        check_fits(config, mesh_of(1, 4, 1, 1))
    check_fits(config, mesh_of(1, 2, 1, 1))


def test_every_kernel_is_cut_over_fsdp_and_tp():
    mesh = mesh_of(1, 4, 3, 1)
    for path, spec in parameter_specs(CONFIG).items():
        name = path.rpartition(".")[2]
        shape = (CONFIG.num_layers, *spec.shape) if spec.stacked else spec.shape
        cut = partition_spec(name, shape, mesh)
        assert len(cut) == len(LOGICAL_AXES[name]) == len(shape)
        assert {"fsdp", "tp"} <= set(cut) or spec.kind in ("norm", "bias"), path


def test_a_vocabulary_that_tp_does_not_divide_stays_whole():
    assert partition_spec("head", (99, 48), mesh_of(1, 4, 2, 1)) == PartitionSpec(None, "fsdp")
    assert partition_spec("head", (98, 48), mesh_of(1, 4, 2, 1)) == PartitionSpec("tp", "fsdp")


def test_a_mesh_is_seen_only_while_it_is_in_force():
    mesh = make_mesh(devices=jax.devices()[:1])
    assert active_mesh() is None
    with jax.set_mesh(mesh):
        found = active_mesh()
    assert found is not None
    assert cuts(found, MESH_AXES) == 1
    assert active_mesh() is None


def test_arrays_come_back_whole():
    mesh = make_mesh(devices=jax.devices()[:1])
    array = jax.numpy.arange(6.0).reshape(2, 3)
    placed = place(array, NamedSharding(mesh, PartitionSpec("fsdp")))
    assert (to_host(placed) == to_host(array)).all()
