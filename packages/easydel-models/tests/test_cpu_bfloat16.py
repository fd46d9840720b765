"""When bfloat16 is computed in float32: where the CPU has no instructions for it, or settings leave them unused."""

import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models import cpu_bfloat16
from easydel_models.cpu_bfloat16 import bfloat16_speed, compute_dtype, cpu_flags, switched_off, why_not
from easydel_models.errors import ConfigError

HALF, WHOLE = jnp.dtype("bfloat16"), np.dtype("float32")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2", "avx512f"}, WHOLE),
        ({"avx512_bf16"}, HALF),
        ({"amx_tile", "amx_bf16"}, HALF),
        ({"bf16", "sve"}, HALF),
        (set(), WHOLE),
    ],
)
def test_what_the_cpu_can_do_decides(monkeypatch, flags, expected):
    monkeypatch.setattr(cpu_bfloat16, "cpu_flags", lambda: frozenset(flags))
    for name in ("XLA_FLAGS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EASYDEL_CPU_BFLOAT16", "auto")
    assert compute_dtype(HALF) == expected
    assert (why_not() is None) == (expected == HALF)


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, None),
        ({"XLA_FLAGS": "--xla_cpu_max_isa=AVX512_BF16 --xla_cpu_use_fusion_emitters=false"}, None),
        ({"XLA_FLAGS": "--xla_dump_to=x --xla_cpu_max_isa=AVX2"}, "XLA_FLAGS=--xla_cpu_max_isa=AVX2"),
        ({"ONEDNN_MAX_CPU_ISA": "avx512_core"}, "ONEDNN_MAX_CPU_ISA=avx512_core"),
        ({"DNNL_MAX_CPU_ISA": "AVX2"}, "AVX2"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, None),
    ],
)
def test_settings_that_leave_the_instructions_unused(environment, names):
    found = switched_off(environment)
    assert found is None if names is None else names in found


def test_the_setting_outweighs_the_cpu(monkeypatch):
    monkeypatch.setattr(cpu_bfloat16, "cpu_flags", frozenset)
    monkeypatch.setenv("EASYDEL_CPU_BFLOAT16", "native")
    assert compute_dtype(HALF) == HALF
    monkeypatch.setattr(cpu_bfloat16, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    monkeypatch.setenv("EASYDEL_CPU_BFLOAT16", "float32")
    assert compute_dtype(HALF) == WHOLE
    monkeypatch.setenv("EASYDEL_CPU_BFLOAT16", "never")
    with pytest.raises(ConfigError, match=r"'never'; expected one of auto, native, float32"):
        compute_dtype(HALF)


def test_other_types_are_computed_as_they_are(monkeypatch):
    monkeypatch.setenv("EASYDEL_CPU_BFLOAT16", "float32")
    assert [compute_dtype(np.dtype(name)) for name in ("float32", "float16")] == [WHOLE, np.dtype("float16")]


def test_a_model_says_both_what_was_asked_and_what_it_computes_in(random_model, monkeypatch):
    from easydel_models.config import DecoderConfig

    config = DecoderConfig(vocab_size=16, dim=8, num_layers=1, num_heads=2, num_kv_heads=1, mlp_dim=8)
    monkeypatch.setenv("EASYDEL_CPU_BFLOAT16", "float32")
    model = random_model(config, seed=0, dtype="bfloat16")
    assert (model.dtype, model.compute_dtype) == (HALF, WHOLE)
    same = random_model(config, seed=0, dtype="float32")
    ids = jnp.asarray([[1, 2, 3]])
    np.testing.assert_array_equal(model(ids), same(ids))
    monkeypatch.setenv("EASYDEL_CPU_BFLOAT16", "native")
    model.cast(dtype="bfloat16")
    assert model.compute_dtype == HALF
    assert model.hidden(ids).dtype == HALF


def test_this_cpu_names_its_flags_and_its_speed():
    assert cpu_flags()
    assert 0.01 < bfloat16_speed() < 100
