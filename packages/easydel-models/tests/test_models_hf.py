import dataclasses
import json
import logging
import struct

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from easydel_models.auto import AutoEasyDeLModelForCausalLM, AutoEasyDeLModelForSequenceClassification
from easydel_models.config import DecoderConfig
from easydel_models.errors import ConfigError, ModelNotFoundError, WeightsError
from easydel_models.files.tensor_files import open_tensors, plan_shards
from easydel_models.parameters import split_params
from safetensors.numpy import load_file, save_file

CONFIG = DecoderConfig(
    vocab_size=40, dim=16, num_layers=2, num_heads=2, num_kv_heads=1, mlp_dim=24, eos_token_ids=(2, 3)
)


def write_folder(folder, *, dtype=np.float32, change=None, config=CONFIG):
    """A folder as transformers would write it, made by NumPy and the safetensors library alone."""
    rng = np.random.default_rng(0)
    q, kv, d, f = 16, 8, 16, 24
    shapes = {"model.embed_tokens.weight": (40, d), "model.norm.weight": (d,), "lm_head.weight": (40, d)}
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        shapes |= {
            prefix + "input_layernorm.weight": (d,),
            prefix + "post_attention_layernorm.weight": (d,),
            prefix + "self_attn.q_proj.weight": (q, d),
            prefix + "self_attn.k_proj.weight": (kv, d),
            prefix + "self_attn.v_proj.weight": (kv, d),
            prefix + "self_attn.o_proj.weight": (d, q),
            prefix + "mlp.gate_proj.weight": (f, d),
            prefix + "mlp.up_proj.weight": (f, d),
            prefix + "mlp.down_proj.weight": (d, f),
        }
    tensors = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    for name, tensor in (change or {}).items():
        tensors[name] = tensor
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config.to_hf()))
    return tensors


def read_back(folder):
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert found[name].tobytes() == tensor.tobytes(), name


@pytest.mark.parametrize("max_shard_size", [5_000_000_000, 3000])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_loading_and_saving_gives_the_same_bytes(tmp_path, dtype, max_shard_size):
    tensors = write_folder(tmp_path / "in", dtype=dtype)
    model = AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in", param_dtype=dtype)
    model.save_pretrained(tmp_path / "out", max_shard_size=max_shard_size)
    assert_same(read_back(tmp_path / "out"), tensors)
    assert (len(list((tmp_path / "out").glob("*.safetensors"))) > 1) == (max_shard_size < 1e6)
    again = AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "out", param_dtype=dtype)
    jax.tree.map(np.testing.assert_array_equal, split_params(again)[1], split_params(model)[1])
    assert again.config == model.config == CONFIG


def test_kernels_are_transposed_and_stacked(tmp_path):
    tensors = write_folder(tmp_path / "in")
    params = split_params(AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in"))[1]
    np.testing.assert_array_equal(params["layers"]["gate"][1], tensors["model.layers.1.mlp.gate_proj.weight"].T)
    np.testing.assert_array_equal(params["head"], tensors["lm_head.weight"])


def test_the_safetensors_library_reads_the_index(tmp_path):
    write_folder(tmp_path / "in")
    model = AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in")
    model.save_pretrained(tmp_path / "out", max_shard_size=3000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in read_back(tmp_path / "out").values())
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / "out" / file)


def test_shards_are_filled_in_order():
    sizes = {"a": 10, "b": 10, "c": 100, "d": 1}
    assert plan_shards(sizes, max_shard_size=20) == [["a", "b"], ["c"], ["d"]]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (
            {"model.layers.1.mlp.up_proj.weight": None},
            ["model.layers.1.mlp.up_proj.weight: missing, expected shape (24, 16)", "fetch the folder again"],
        ),
        (
            {"model.norm.weight": np.zeros(5, np.float32)},
            ["model.norm.weight: in model.safetensors of shape (5,), expected (16,)"],
        ),
        (
            {"model.layers.2.mlp.up_proj.weight": np.zeros((24, 16), np.float32)},
            ["model.layers.2.mlp.up_proj.weight: in model.safetensors, but this configuration has no such"],
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, parts):
    write_folder(tmp_path / "in", change=change)
    with pytest.raises(WeightsError) as caught:
        AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in")
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 12


def test_an_error_fits_a_screen_however_much_is_wrong(tmp_path):
    write_folder(tmp_path / "in", config=dataclasses.replace(CONFIG, num_layers=50))
    with pytest.raises(WeightsError, match="… and 424 more") as caught:
        AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in")
    assert len(str(caught.value).splitlines()) <= 12


def test_what_follows_from_the_config_may_be_stored_all_the_same(tmp_path):
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(4, np.float32)}
    write_folder(tmp_path / "in", change=extra, config=dataclasses.replace(CONFIG, tie_embeddings=True))
    assert "head" not in split_params(AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in"))[1]


def test_a_file_cut_short_is_refused(tmp_path):
    write_folder(tmp_path / "in")
    file = tmp_path / "in" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"model\.safetensors is no whole safetensors file"):
        AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in")


def test_an_index_cannot_point_outside_its_folder(tmp_path):
    write_folder(tmp_path)
    index = {"weight_map": {"a": "../model.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelNotFoundError, match=r"lists the shard '\.\./model\.safetensors'"):
        open_tensors(tmp_path)


def test_saving_again_replaces_the_model_and_keeps_other_files(tmp_path):
    write_folder(tmp_path / "in")
    model = AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in")
    model.save_pretrained(tmp_path / "out", max_shard_size=3000)
    (tmp_path / "out" / "tokenizer.json").write_text("{}")
    model.save_pretrained(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_failed_save_leaves_nothing(tmp_path):
    write_folder(tmp_path / "in")
    model = AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in")
    with pytest.raises(ValueError, match="`max_shard_size` is 0"):
        model.save_pretrained(tmp_path / "out", max_shard_size=0)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_stop_tokens_come_from_the_generation_config(tmp_path):
    write_folder(tmp_path / "in")
    (tmp_path / "in" / "generation_config.json").write_text('{"eos_token_id": [5, 6]}')
    assert AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in").config.eos_token_ids == (5, 6)


def test_a_language_model_gets_a_fresh_score_and_says_so(tmp_path, caplog):
    write_folder(tmp_path / "in")
    with caplog.at_level(logging.WARNING):
        model = AutoEasyDeLModelForSequenceClassification.from_pretrained(tmp_path / "in")
    assert "classification head is drawn at random" in caplog.text
    assert "not loading lm_head.weight" in caplog.text
    assert model.score[...].shape == (1, 16)
    model.save_pretrained(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == [
        "LlamaForSequenceClassification"
    ]
    again = AutoEasyDeLModelForSequenceClassification.from_pretrained(tmp_path / "out")
    np.testing.assert_array_equal(again.score[...], model.score[...])
    with pytest.raises(ConfigError, match=r"`num_labels` is 3, but .* stores a head of 1"):
        AutoEasyDeLModelForSequenceClassification.from_pretrained(tmp_path / "out", num_labels=3)


def test_from_config_takes_a_config_or_a_json_object():
    one = AutoEasyDeLModelForCausalLM.from_config(CONFIG, seed=3)
    other = AutoEasyDeLModelForCausalLM.from_config(CONFIG.to_hf(), seed=3)
    np.testing.assert_array_equal(one.head_weights(), other.head_weights())
    reward = AutoEasyDeLModelForSequenceClassification.from_config(CONFIG)
    assert reward(jnp.asarray([[1, 2]], jnp.int32)).shape == (1, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("modle", "no folder or file 'modle'"),
        ("./org/modle", "no folder or file"),
        ("org/model.gguf", "no folder or file 'org/model.gguf'"),
        ("in/modle", "no folder or file 'in/modle'"),  # the folder "in" exists: a slip, not a repository
        ("in/config.json", "is a file; expected a model folder"),
        ("empty", r"config\.json is not there"),
    ],
)
def test_a_mistyped_name_never_goes_to_the_network(tmp_path, monkeypatch, name, message):
    write_folder(tmp_path / "in")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match=message):
        AutoEasyDeLModelForCausalLM.from_pretrained(name)


def test_a_config_that_is_no_json_is_named(tmp_path):
    write_folder(tmp_path / "in")
    (tmp_path / "in" / "config.json").write_text('{"model_type": ')
    with pytest.raises(ConfigError, match=r"config\.json is not valid JSON"):
        AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in")


def test_pickled_weights_are_never_read(tmp_path):
    write_folder(tmp_path / "in")
    (tmp_path / "in" / "model.safetensors").rename(tmp_path / "in" / "pytorch_model.bin")
    with pytest.raises(ModelNotFoundError, match=r"pytorch_model\.bin is pickled, which is never read"):
        AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in")


def test_the_header_is_aligned_as_the_format_asks(tmp_path):
    write_folder(tmp_path / "in")
    AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in").save_pretrained(tmp_path / "out")
    content = (tmp_path / "out" / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert (8 + length) % 8 == 0
    assert json.loads(content[8 : 8 + length])["__metadata__"] == {"format": "pt"}


def test_sampling_defaults_of_a_generation_config_are_written_back(tmp_path):
    """A chat model answers the same way after it was loaded and saved."""
    write_folder(tmp_path / "in")
    said = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "stop_strings": ["END"]}
    ours = {"eos_token_id": [2, 3], "transformers_version": "4.0.0"}
    (tmp_path / "in" / "generation_config.json").write_text(json.dumps(said | ours))
    AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in").save_pretrained(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert {key: written[key] for key in said} == said
    assert written["eos_token_id"] == [2, 3]
    assert "transformers_version" not in written


def test_a_whole_model_takes_the_place_of_adapters(tmp_path):
    write_folder(tmp_path / "in")
    out = tmp_path / "out"
    out.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "tokenizer.json"):
        (out / name).write_text("{}")
    AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "in").save_pretrained(out)
    names = {path.name for path in out.iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}


def test_a_language_model_is_refused_where_a_head_must_be_there(tmp_path):
    write_folder(tmp_path / "in")
    with pytest.raises(ConfigError, match="is a language model"):
        AutoEasyDeLModelForSequenceClassification.from_pretrained(tmp_path / "in", fresh_head=False)
