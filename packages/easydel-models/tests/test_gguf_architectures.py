"""Files of every architecture, written as llama.cpp's converter writes them: config and weights come back."""

import gguf
import jax
import numpy as np
import pytest
from easydel_models.auto import AutoEasyDeLModelForCausalLM
from easydel_models.config import DecoderConfig
from easydel_models.errors import ConfigError
from easydel_models.files.gguf import read_gguf
from easydel_models.files.weights import export_tensors
from easydel_models.parameters import split_params

SIZES = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 100_000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
OTHER_HEADS = {"head_dim": 16}
TIED = {"tie_word_embeddings": True}
LONG = {"long_factor": [1.0, 2.5], "short_factor": [1.0, 1.25]}
YARN = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 16}

SAME = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMED = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
SANDWICH = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def add(writer, name, array):
    writer.add_tensor(name, np.ascontiguousarray(array, np.float32))


def plain(writer, name, tensor, names):
    stem, _, kind = name.rpartition(".")
    if stem.startswith("model.layers."):
        layer, _, stem = stem.removeprefix("model.layers.").partition(".")
        add(writer, f"blk.{layer}.{names[stem]}.{kind}", tensor)
    else:
        add(writer, f"{names[stem]}.{kind}", tensor)


def with_larger_norms(writer, name, tensor, names):
    plain(writer, name, tensor + 1 if "norm" in name else tensor, names)


def stacked_experts(tensors):
    """``mlp.experts.3.gate_proj.weight`` of a layer's experts in one tensor."""
    found = {}
    for name, tensor in tensors:
        layer, _, rest = name.removeprefix("model.layers.").partition(".mlp.experts.")
        if "." not in rest:  # none of an expert's own
            yield name, tensor
            continue
        part = rest.split(".")[1].removesuffix("_proj")
        found.setdefault((layer, part), []).append(tensor)
    for (layer, part), experts in found.items():
        yield f"blk.{layer}.ffn_{part}_exps.weight", np.stack(experts)


def of_qwen3_moe(writer, name, tensor, names):
    add(writer, name, tensor) if name.startswith("blk.") else plain(writer, name, tensor, names)


def of_gpt_oss(writer, name, tensor, names):
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    kind = "bias" if name.endswith("_bias") else "weight"
    if rest == "self_attn.sinks":
        add(writer, f"blk.{layer}.attn_sinks.weight", tensor)
    elif "gate_up_proj" in rest:
        outputs_first = tensor if kind == "bias" else tensor.transpose(0, 2, 1)
        add(writer, f"blk.{layer}.ffn_gate_exps.{kind}", outputs_first[:, ::2])
        add(writer, f"blk.{layer}.ffn_up_exps.{kind}", outputs_first[:, 1::2])
    elif "experts.down_proj" in rest:
        add(writer, f"blk.{layer}.ffn_down_exps.{kind}", tensor if kind == "bias" else tensor.transpose(0, 2, 1))
    else:
        plain(writer, name, tensor, names)


def of_windows(writer):
    writer.add_sliding_window(6)


def of_gemma2(writer):
    of_windows(writer)
    writer.add_attn_logit_softcapping(5.0)
    writer.add_final_logit_softcapping(3.0)


def of_long_rope(writer):
    writer.add_rope_dimension_count(4)
    writer.add_rope_scaling_orig_ctx_len(64)
    writer.add_rope_scaling_attn_factors(1.2)
    writer.add_sliding_window(0)
    for name, factors in LONG.items():
        add(writer, f"rope_factors_{name.partition('_')[0]}.weight", np.array(factors))


def of_experts(writer):
    writer.add_expert_count(8)
    writer.add_expert_used_count(3)
    writer.add_expert_feed_forward_length(24)


def of_yarn(writer):
    of_experts(writer)
    of_windows(writer)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(32.0)
    writer.add_rope_scaling_orig_ctx_len(16)


def linear_rope(writer):
    of_windows(writer)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)


# Architecture: config.json, names, how a tensor is written, further settings.
CASES = {
    "qwen2": ({"model_type": "qwen2"}, SAME, plain, lambda writer: None),
    "qwen3": ({"model_type": "qwen3"} | OTHER_HEADS | TIED, SAME | NORMED, plain, lambda writer: None),
    "qwen3moe": (
        {
            "model_type": "qwen3_moe",
            "num_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 24,
            "norm_topk_prob": True,
        }
        | OTHER_HEADS,
        SAME | NORMED | {"mlp.gate": "ffn_gate_inp"},
        of_qwen3_moe,
        of_experts,
    ),
    "gemma2": (
        {
            "model_type": "gemma2",
            "hidden_activation": "gelu_pytorch_tanh",
            "sliding_window": 6,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 3.0,
            "query_pre_attn_scalar": 16,
        }
        | OTHER_HEADS
        | TIED,
        SAME | SANDWICH,
        with_larger_norms,
        of_gemma2,
    ),
    "gemma3": (
        {
            "model_type": "gemma3_text",
            "hidden_activation": "gelu_pytorch_tanh",
            "num_hidden_layers": 7,
            "sliding_window": 6,
            "query_pre_attn_scalar": 16,
            "rope_local_base_freq": 10_000.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        }
        | OTHER_HEADS
        | TIED,
        SAME | SANDWICH | NORMED,
        with_larger_norms,
        linear_rope,
    ),
    "phi3": (
        {
            "model_type": "phi3",
            "partial_rotary_factor": 0.5,
            "original_max_position_embeddings": 64,
            "rope_scaling": {"rope_type": "longrope", "attention_factor": 1.2, **LONG},
        },
        SAME | {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"},
        plain,
        of_long_rope,
    ),
    "gpt-oss": (
        {
            "model_type": "gpt_oss",
            "intermediate_size": 24,
            "num_local_experts": 8,
            "num_experts_per_tok": 3,
            "sliding_window": 6,
            "rope_scaling": YARN | {"truncate": False},
        }
        | OTHER_HEADS,
        SAME | {"post_attention_layernorm": "post_attention_norm", "mlp.router": "ffn_gate_inp"},
        of_gpt_oss,
        of_yarn,
    ),
}


def written(path, architecture, model, more=lambda writer: None):
    hf, names, write, settings = CASES[architecture]
    hf = SIZES | hf
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(hf["max_position_embeddings"])
    writer.add_embedding_length(hf["hidden_size"])
    writer.add_block_count(hf["num_hidden_layers"])
    writer.add_feed_forward_length(hf["intermediate_size"])
    writer.add_head_count(hf["num_attention_heads"])
    writer.add_head_count_kv(hf["num_key_value_heads"])
    writer.add_rope_freq_base(hf["rope_theta"])
    writer.add_layer_norm_rms_eps(hf["rms_norm_eps"])
    if "head_dim" in hf:
        writer.add_key_length(hf["head_dim"])
        writer.add_value_length(hf["head_dim"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    settings(writer)
    more(writer)
    for name, tensor in stacked_experts(export_tensors(split_params(model)[1], model.config)):
        write(writer, name, tensor, names)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("architecture", CASES)
def test_config_and_weights_come_back(architecture, random_model, tmp_path):
    config = DecoderConfig.from_hf(SIZES | CASES[architecture][0])
    model = random_model(config, 3)
    loaded = AutoEasyDeLModelForCausalLM.from_pretrained(written(tmp_path / "tiny.gguf", architecture, model))
    assert loaded.config == config
    ours, theirs = split_params(model)[1], split_params(loaded)[1]
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for path, array in jax.tree_util.tree_leaves_with_path(ours):
        found = theirs
        for key in path:
            found = found[key.key]
        # The converter adds 1 to norms in float32, and the reader takes it away again.
        np.testing.assert_allclose(found, array, rtol=0, atol=3e-7, err_msg=str(path))


def test_a_setting_that_only_another_architecture_has_is_refused(random_model, tmp_path):
    model = random_model(DecoderConfig.from_hf(SIZES | CASES["qwen3"][0]), 3)
    path = written(tmp_path / "tiny.gguf", "qwen3", model, lambda writer: writer.add_attn_logit_softcapping(5.0))
    with pytest.raises(ConfigError, match=r"qwen3\.attn_logit_softcapping to 5\.0, which this decoder does not"):
        read_gguf(path)


def test_in_the_largest_gemma_queries_are_scaled_by_another_width(random_model, tmp_path):
    hf = SIZES | CASES["gemma2"][0] | {"num_hidden_layers": 46, "query_pre_attn_scalar": 8}
    writer = gguf.GGUFWriter(tmp_path / "large.gguf", "gemma2")
    for add_setting, value in (
        (writer.add_context_length, 128),
        (writer.add_embedding_length, 32),
        (writer.add_block_count, 46),
        (writer.add_feed_forward_length, 64),
        (writer.add_head_count, 4),
        (writer.add_head_count_kv, 2),
        (writer.add_key_length, 16),
        (writer.add_rope_freq_base, 100_000.0),
        (writer.add_layer_norm_rms_eps, 1e-6),
    ):
        add_setting(value)
    of_gemma2(writer)
    add(writer, "token_embd.weight", np.zeros((48, 32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    # 32 dimensions by 4 heads, where a head of the smaller ones counts its own 16.
    assert DecoderConfig.from_hf(read_gguf(tmp_path / "large.gguf")[0]).layers == DecoderConfig.from_hf(hf).layers
