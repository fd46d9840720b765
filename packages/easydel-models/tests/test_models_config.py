import dataclasses

import pytest
from easydel_models.config import DecoderConfig
from easydel_models.errors import ConfigError
from easydel_models.layers.norms import NormConfig
from easydel_models.layers.rope import RopeConfig

LLAMA_3_1_8B = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.42.3",
    "use_cache": True,
    "vocab_size": 128256,
}
TINY = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def test_every_key_of_llama_3_is_taken_over():
    config = DecoderConfig.from_hf(LLAMA_3_1_8B)
    assert config == DecoderConfig(
        vocab_size=128256,
        dim=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        mlp_dim=14336,
        max_positions=131072,
        norm=NormConfig(eps=1e-5),
        rope=RopeConfig(theta=500000.0, kind="llama3", factor=8.0, original_max_positions=8192),
        bos_token_id=128000,
        eos_token_ids=(128001, 128008, 128009),
    )


def test_rope_may_sit_in_rope_parameters_as_transformers_5_writes_it():
    old = DecoderConfig.from_hf(LLAMA_3_1_8B)
    parameters = {**LLAMA_3_1_8B["rope_scaling"], "rope_theta": 500000.0}
    new = {key: value for key, value in LLAMA_3_1_8B.items() if key not in {"rope_scaling", "rope_theta"}}
    assert DecoderConfig.from_hf({**new, "rope_parameters": parameters}) == old


def test_rope_scaling_in_its_oldest_spelling():
    config = DecoderConfig.from_hf({**TINY, "rope_scaling": {"type": "linear", "factor": 2.0}})
    assert config.rope == RopeConfig(kind="linear", factor=2.0)


def test_defaults_are_those_of_transformers():
    llama = DecoderConfig.from_hf(TINY)
    assert (llama.num_kv_heads, llama.norm.eps, llama.rope.theta) == (4, 1e-6, 10_000.0)
    assert llama.sliding_window is None
    mistral = DecoderConfig.from_hf({**TINY, "model_type": "mistral", "num_attention_heads": 8})
    assert (mistral.num_kv_heads, mistral.sliding_window) == (8, 4096)
    assert (
        DecoderConfig.from_hf(
            {**TINY, "model_type": "mistral", "num_attention_heads": 8, "sliding_window": None}
        ).sliding_window
        is None
    )


def test_what_a_file_says_beside_its_rope_is_taken_over_too():
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
    both = TINY | {"rope_parameters": yarn, "original_max_position_embeddings": 64, "max_position_embeddings": 256}
    assert DecoderConfig.from_hf(both).rope.original_max_positions == 64
    half = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    phi3 = TINY | {"model_type": "phi3", "rope_parameters": half, "partial_rotary_factor": 1.0}
    assert DecoderConfig.from_hf(phi3).all_layers[0].mixer.rope.fraction == 0.5


def test_a_window_that_is_switched_off_may_have_a_size():
    smollm3 = TINY | {"model_type": "smollm3", "sliding_window": 16, "use_sliding_window": False}
    assert DecoderConfig.from_hf(smollm3).all_layers[0].mixer.window is None


def test_head_dim_may_differ_from_dim_over_heads():
    assert DecoderConfig.from_hf({**TINY, "head_dim": 16}).head_dim == 16
    assert DecoderConfig.from_hf(TINY).head_dim == 8


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"sliding_window": 7, "model_type": "mistral"},
        {"attention_bias": True, "mlp_bias": True},
        {"rope": RopeConfig(kind="linear", factor=2.0)},
        {"rope": RopeConfig(kind="llama3", factor=4.0, original_max_positions=64)},
        {"num_labels": 3, "pad_token_id": 0},
        {"activation": "gelu_tanh", "eos_token_ids": (2, 3), "tie_embeddings": True},
    ],
)
def test_writing_and_reading_gives_the_same_config(change):
    config = dataclasses.replace(DecoderConfig.from_hf(TINY), **change)
    assert DecoderConfig.from_hf(config.to_hf()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_qk_norm": True}, "sets 'use_qk_norm' to True, which this decoder does not compute"),
        ({"attention_dropout": 0.1}, "sets 'attention_dropout' to 0.1"),
        ({"quantization_config": {"bits": 4}}, "'quantization_config'"),
        ({"sliding_window": 4096}, "'sliding_window'"),  # llama has none: transformers would ignore it
        ({"rope_scaling": {"rope_type": "xpos", "factor": 4.0}}, "rope of kind 'xpos' is not computed"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}, "lacks low_freq_factor, high_freq_factor"),
        ({"hidden_act": "relu"}, "`hidden_act` is 'relu'; expected one of gelu"),
        (
            {"model_type": "llama4"},
            "`model_type` is 'llama4'; nearest by name: llama, ",
        ),
        ({"hidden_size": None}, "config.json lacks hidden_size"),
        ({"num_key_value_heads": 3}, "`num_kv_heads` is 3; expected a divisor of num_heads=4"),
        ({"head_dim": 7}, "`head_dim` is 7; expected even"),
        ({"num_hidden_layers": 0}, "`num_layers` is 0; expected a whole number from 1 to 4,096"),
    ],
)
def test_what_would_change_the_numbers_is_refused(change, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        DecoderConfig.from_hf({**TINY, **change})


def test_switches_that_are_off_are_harmless():
    assert DecoderConfig.from_hf({**TINY, "use_qk_norm": False, "rope_scaling": None}) == DecoderConfig.from_hf(TINY)


def test_classifiers_count_their_labels():
    classifier = {**TINY, "architectures": ["LlamaForSequenceClassification"]}
    assert DecoderConfig.from_hf({**classifier, "id2label": {"0": "a", "1": "b", "2": "c"}}).num_labels == 3
    assert DecoderConfig.from_hf({**classifier, "num_labels": 1}).num_labels == 1
    assert DecoderConfig.from_hf({**TINY, "id2label": {"0": "a"}}).num_labels is None
