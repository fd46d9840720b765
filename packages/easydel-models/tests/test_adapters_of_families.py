"""Adapters of families whose files hold several linear layers in one module, or call two modules alike."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models import (
    AutoEasyDeLModelForCausalLM,
    LoraConfig,
    load_adapter,
    merge_lora,
    save_adapter,
    split_params,
    with_lora,
    without_lora,
)
from easydel_models.errors import LoraError
from easydel_models.parameters import flattened, nested, update_params
from safetensors.numpy import load_file, save_file

COMMON = {"vocab_size": 31, "num_attention_heads": 2, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 12}
PHI3 = {**COMMON, "model_type": "phi3", "num_key_value_heads": 1}
GPT2 = {"model_type": "gpt2", "vocab_size": 31, "n_embd": 8, "n_head": 2, "n_layer": 2, "n_positions": 16}


DEEPSEEK = {
    **COMMON,
    "model_type": "deepseek_v3",
    "q_lora_rank": None,
    "kv_lora_rank": 6,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 2,
    "v_head_dim": 3,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 4,
    "n_group": 1,
    "topk_group": 1,
}
QWEN3_NEXT = {
    **COMMON,
    "model_type": "qwen3_next",
    "num_hidden_layers": 4,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 4,
    "shared_expert_intermediate_size": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 3,
    "linear_value_head_dim": 2,
}


def adapted(config, **lora):
    model = with_lora(AutoEasyDeLModelForCausalLM.from_config(config), LoraConfig(rank=2, alpha=4.0, **lora), seed=1)
    rng = np.random.default_rng(0)
    flat = flattened(split_params(model)[1])
    drawn = {path: rng.normal(size=one.shape).astype("f4") for path, one in flat.items() if path.endswith("_lora_b")}
    update_params(model, nested({path: jnp.asarray(values) for path, values in drawn.items()}))
    return model


@pytest.mark.parametrize(
    ("config", "targets", "module", "shapes"),
    [
        (PHI3, ["qkv_proj", "down_proj"], "self_attn.qkv_proj", [(6, 8), (16, 6)]),
        (GPT2, ["c_attn", "mlp.c_proj"], "attn.c_attn", [(6, 8), (24, 6)]),
    ],
)
def test_several_linear_layers_in_one_module_come_back_as_they_were(tmp_path, config, targets, module, shapes):
    model = adapted(config, targets=targets)
    save_adapter(tmp_path, model)
    said = json.loads((tmp_path / "adapter_config.json").read_text())
    word = module.rpartition(".")[2]
    assert (said["rank_pattern"], said["alpha_pattern"]) == ({word: 6}, {word: 12.0})
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    found = [array.shape for name, array in sorted(tensors.items()) if f"0.{module}" in name]
    assert found == shapes
    base = AutoEasyDeLModelForCausalLM.from_config(config)
    again = load_adapter(tmp_path, base)
    for path, array in flattened(split_params(model)[1]).items():
        if "_lora_" in path:
            np.testing.assert_array_equal(flattened(split_params(again)[1])[path], array, err_msg=path)


@pytest.mark.parametrize("config", [PHI3, GPT2, DEEPSEEK, QWEN3_NEXT], ids=lambda config: config["model_type"])
def test_an_adapter_in_a_file_adds_to_its_module_what_it_adds_here(config, tmp_path):
    targets = [r"attn\."]
    model = adapted(config, targets=targets)
    save_adapter(tmp_path / "adapter", model)
    model.save_pretrained(tmp_path / "merged")
    without_lora(model).save_pretrained(tmp_path / "base")
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    merged, base = (load_file(tmp_path / folder / "model.safetensors") for folder in ("merged", "base"))
    names = [name for name in adapter if name.endswith("lora_A.weight")]
    assert names
    for name in names:
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        added = 2.0 * adapter[name.replace("lora_A", "lora_B")] @ adapter[name]  # alpha 4, rank 2
        added = added.T if config is GPT2 else added
        np.testing.assert_allclose(
            merged[f"{module}.weight"] - base[f"{module}.weight"], added, atol=1e-5, err_msg=module
        )


EXPERTS = {
    **COMMON,
    "model_type": "qwen3_moe",
    "num_key_value_heads": 1,
    "head_dim": 8,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 6,
}
MIXTRAL = {**COMMON, "model_type": "mixtral", "num_key_value_heads": 1, "num_local_experts": 4}
GPT_OSS = {**COMMON, "model_type": "gpt_oss", "num_key_value_heads": 1, "head_dim": 8, "num_local_experts": 4}
GPT_OSS |= {"num_experts_per_tok": 2}
IN_EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
IDS = jnp.asarray(np.random.default_rng(0).integers(3, 31, size=(2, 9)), jnp.int32)


@pytest.mark.parametrize(
    "config",
    [
        EXPERTS,
        pytest.param(MIXTRAL, marks=pytest.mark.thorough),  # other names for what EXPERTS has
        pytest.param(GPT_OSS, marks=pytest.mark.thorough),  # seen below
        {**DEEPSEEK, "first_k_dense_replace": 1},
    ],
    ids=lambda config: config["model_type"],
)
def test_experts_are_adapted_where_asked_and_come_back_as_they_were(config, tmp_path):
    base = AutoEasyDeLModelForCausalLM.from_config(config)
    unasked = [path for path in flattened(split_params(adapted(config))[1]) if "_lora_" in path]
    assert unasked
    assert not any("expert_" in path or "router" in path for path in unasked)
    model = adapted(config, targets=["q_proj"], target_parameters=IN_EXPERTS)
    np.testing.assert_allclose(model(IDS), merge_lora(model)(IDS), atol=1e-5)
    assert np.abs(model(IDS) - without_lora(model)(IDS)).max() > 1e-3
    save_adapter(tmp_path, model)
    again = flattened(split_params(load_adapter(tmp_path, base))[1])
    ours = {path: array for path, array in flattened(split_params(model)[1]).items() if "_lora_" in path}
    assert {path.rpartition(".")[2].partition("_lora")[0] for path in ours} >= {
        "expert_gate",
        "expert_up",
        "expert_down",
    }
    for path, array in ours.items():
        np.testing.assert_array_equal(again[path], array, err_msg=path)


@pytest.mark.parametrize("config", [EXPERTS, GPT_OSS], ids=lambda config: config["model_type"])
def test_an_adapter_of_experts_adds_to_each_what_it_adds_here(config, tmp_path):
    model = adapted(config, targets=[], target_parameters=IN_EXPERTS)
    save_adapter(tmp_path / "adapter", model)
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    merged, base = (flattened(split_params(one)[1]) for one in (merge_lora(model), without_lora(model)))
    # One after the other, the parameters of a module wrap each other; both kinds of outputs share one inside.
    for wrapped, names, rank in ((".base_layer", ["gate", "up"], 4), ("", ["down"], 2)):
        a, b = (
            tensors[f"base_model.model.model.layers.0.mlp.experts{wrapped}.lora_{half}.weight"] for half in ("A", "B")
        )
        added = np.einsum("bre,era->eab", b.reshape(-1, rank, 4), a.reshape(4, rank, -1)) * 2.0  # alpha 4, rank 2
        paths = [next(path for path in base if path.endswith(f"expert_{name}")) for name in names]  # of the first stack
        ours = [np.asarray(merged[path] - base[path])[0] for path in paths]
        in_order = np.stack(ours, axis=-1) if config is GPT_OSS else np.stack(ours, axis=-2)
        np.testing.assert_allclose(in_order.reshape(added.shape), added, atol=1e-5)


def test_a_router_is_adapted_by_its_parameters_name(tmp_path):
    model = adapted(EXPERTS, targets=[], target_parameters=["mlp.gate.weight"])
    assert model.lora is not None
    save_adapter(tmp_path, model)
    assert set(load_file(tmp_path / "adapter_model.safetensors")) == {
        f"base_model.model.model.layers.{layer}.mlp.gate.lora_{half}.weight" for layer in (0, 1) for half in ("A", "B")
    }


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ({"target_parameters": ["mlp.experts.up_proj"]}, r"no parameter of this model.*mlp\.experts\.gate_up_proj"),
        ({"target_parameters": "mlp.experts"}, "expected a list of names"),
        ({"target_parameters": IN_EXPERTS, "dropout": 0.1}, "whose adapters have none"),
        ({"targets": []}, "expected a list of patterns"),
        ({"targets": ["experts"]}, r"no linear layer.*for target_parameters .*experts\.gate_up_proj"),
    ],
)
def test_targets_that_no_experts_fit_are_refused(lora, words):
    with pytest.raises(LoraError, match=words):
        adapted(EXPERTS, **lora)


def test_one_of_two_modules_of_the_same_name_is_told_apart(tmp_path):
    save_adapter(tmp_path, adapted(GPT2, targets=["mlp.c_proj"]))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"] == ["mlp.c_proj"]


def test_an_adapter_that_peft_made_of_the_whole_module_shares_its_a(tmp_path):
    save_adapter(tmp_path, adapted(PHI3, targets=["qkv_proj"]))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    whole = {name: array[:2] if "lora_A" in name else array[:, :2].copy() for name, array in tensors.items()}
    save_file(whole, tmp_path / "adapter_model.safetensors")
    said = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**said, "rank_pattern": {}, "alpha_pattern": {}}))
    found = flattened(split_params(load_adapter(tmp_path, AutoEasyDeLModelForCausalLM.from_config(PHI3)))[1])
    np.testing.assert_array_equal(found["layers.query_lora_a"], found["layers.value_lora_a"])


def test_an_adapter_that_mixes_them_at_that_rank_is_refused(tmp_path):
    save_adapter(tmp_path, adapted(PHI3, targets=["qkv_proj"]))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    mixed = {name: array + (1 if "lora_B" in name else 0) for name, array in tensors.items()}
    save_file(mixed, tmp_path / "adapter_model.safetensors")
    with pytest.raises(LoraError, match="mixes its linear layers"):
        load_adapter(tmp_path, AutoEasyDeLModelForCausalLM.from_config(PHI3))
