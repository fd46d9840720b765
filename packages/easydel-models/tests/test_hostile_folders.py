"""Model folders of wrong types and sizes are refused in our words, before anything is allocated."""

import contextlib
import json

import numpy as np
import pytest
from easydel_models import DecoderConfig
from easydel_models.errors import ConfigError, ModelError, WeightsError
from easydel_models.families.table import FAMILIES
from easydel_models.files.folder import read_config
from easydel_models.files.tensor_files import open_tensors
from safetensors.numpy import save_file

CONFIG = DecoderConfig(vocab_size=32, dim=16, num_layers=2, num_heads=2, num_kv_heads=1, mlp_dim=24).to_hf()


def refused(tmp_path, config, expected):
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(ConfigError, match=expected) as caught:
        read_config(tmp_path)
    return str(caught.value)


@pytest.mark.parametrize("layers", [2**62, 10**400, 5000])
def test_a_config_of_a_few_bytes_does_not_stop_the_machine(tmp_path, layers):
    refused(tmp_path, {**CONFIG, "num_hidden_layers": layers}, "'num_hidden_layers' to .*; expected a whole number")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("vocab_size", "32", "a whole number"),
        ("vocab_size", True, "a whole number"),
        ("hidden_size", 16.0, "a whole number"),
        ("rms_norm_eps", float("nan"), "a number"),
        ("rope_theta", 10**400, "a number"),
        ("tie_word_embeddings", "false", "true or false"),
        ("architectures", [None], "a list of names"),
        ("eos_token_id", 0.5, "a token id or a list"),
        ("rope_scaling", [1], "an object"),
        ("rope_scaling", {"rope_type": "linear", "factor": "8"}, "a number"),
        ("model_type", ["llama"], "text"),
        ("id2label", 3, "an object"),
    ],
)
def test_each_key_is_of_its_type(tmp_path, key, value, expected):
    assert key in refused(tmp_path, {**CONFIG, key: value}, expected)


def test_a_null_counts_as_left_out(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "rope_scaling": {"rope_theta": None}}))
    assert read_config(tmp_path).rope.theta == CONFIG["rope_theta"]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", "\ufeff{}", "[]", ""])
def test_what_is_no_json_object_is_refused(tmp_path, text):
    refused(tmp_path, text, "config.json")


def test_an_error_is_no_longer_than_a_screen_and_moves_no_cursor(tmp_path):
    shown = refused(tmp_path, {**CONFIG, "model_type": "\x1b[2J" + "x" * 100_000}, "families known")
    assert "\x1b" not in shown
    assert len(shown) < 1000  # the families known are listed
    long = str(ModelError("first\n" + "line \u202e\n" * 1000 + "w" * 10_000))
    assert len(long) < 4000
    assert len(long.splitlines()) < 40
    assert "\u202e" not in long


@pytest.mark.parametrize("kind", ["int8", "bool", "uint16", "int64"])
def test_whole_numbers_are_no_weights(tmp_path, kind):
    save_file({"model.norm.weight": np.zeros(16, kind)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="quantiz"):
        open_tensors(tmp_path)


@pytest.mark.parametrize(
    "index", ["[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "' + "x" * 400 + '"}}']
)
def test_an_index_of_shards_is_of_its_type(tmp_path, index):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=r"index\.json"):
        open_tensors(tmp_path)


ODD = (None, True, -1, 0, 2**31, 2**62, 10**400, 0.5, float("nan"), "", "1", "x" * 10_000, [], [None], {}, {"a": 1})


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_key_of_every_family_is_read_or_refused_whatever_it_holds(family):
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64}
    base = {"model_type": family, **sizes, **heads, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
    keys = [*base, "layer_types", "sliding_window", "rope_scaling", "attention_bias", "tie_word_embeddings", "n_layer"]
    for key in keys:
        for value in ODD:
            changes = [{key: value}]
            if key == "rope_scaling":
                changes = [{key: {"rope_type": "yarn", "factor": 4.0, name: value}} for name in ("factor", "beta_fast")]
            for change in changes:
                with contextlib.suppress(ConfigError):
                    DecoderConfig.from_hf({**base, **change})
