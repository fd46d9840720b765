import contextlib
import dataclasses

import gguf
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.auto import AutoEasyDeLModelForCausalLM
from easydel_models.config import DecoderConfig
from easydel_models.errors import ConfigError, ModelError, ModelNotFoundError, WeightsError
from easydel_models.files.gguf import halves_from_pairs, read_gguf
from easydel_models.files.weights import LazyTensor, export_tensors
from easydel_models.heads import CausalLM
from easydel_models.layers.norms import NormConfig
from easydel_models.layers.rope import RopeConfig, rope_frequencies
from easydel_models.parameters import nested, parameter_specs, split_params
from hypothesis import given, settings
from hypothesis import strategies as st

F32, F16 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16
Q8_0, Q4_1 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_1
MXFP4 = gguf.GGMLQuantizationType.MXFP4

CONFIG = DecoderConfig(
    vocab_size=48,
    dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    mlp_dim=64,
    max_positions=128,
    norm=NormConfig(eps=1e-5),
    rope=RopeConfig(theta=100_000.0),
    tie_embeddings=True,
    bos_token_id=1,
    eos_token_ids=(2,),
    pad_token_id=0,
)
GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def random_model(config, seed):
    """Drawn by NumPy: JAX would compile a program for every shape."""
    rng, flat = np.random.default_rng(seed), {}
    for path, spec in parameter_specs(config).items():
        values = rng.normal(scale=0.3, size=spec.full_shape) + (spec.kind == "norm")
        flat[path] = jnp.asarray(values, jnp.float32)
    return CausalLM(config, nested(flat))


def gguf_name(name):
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("model.layers."):
        return f"{GGUF_NAMES[stem]}.{kind}"
    layer, _, stem = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{GGUF_NAMES[stem]}.{kind}"


def pairs_from_halves(rows, heads):
    """What llama.cpp's converter does to query and key: per head (2, half) -> (half, 2)."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def header(writer, config):
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.dim)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.mlp_dim)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_rope_freq_base(config.rope.theta)
    writer.add_layer_norm_rms_eps(config.norm.eps)
    writer.add_token_list([f"word {i}" for i in range(config.vocab_size)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


def write_gguf(path, model, *, kind=F32, architecture="llama", more=lambda writer: None):
    writer = gguf.GGUFWriter(path, architecture)
    header(writer, model.config)
    more(writer)
    for name, tensor in export_tensors(split_params(model)[1], model.config):
        heads = {"q_proj": model.config.num_heads, "k_proj": model.config.num_kv_heads}.get(name.split(".")[-2])
        rows = pairs_from_halves(tensor, heads) if heads else tensor
        stored = kind if rows.ndim == 2 else F32
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(rows, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def model():
    return random_model(CONFIG, seed=3)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model)


def test_rows_of_a_head_go_from_pairs_to_halves():
    # two heads of four rows; the file has a0 b0 a1 b1, transformers a0 a1 b0 b1
    paired = np.array([10, 20, 11, 21, 30, 40, 31, 41])
    np.testing.assert_array_equal(halves_from_pairs(paired, 2), [10, 11, 20, 21, 30, 31, 40, 41])
    matrix = np.stack([paired, -paired], axis=1)
    np.testing.assert_array_equal(halves_from_pairs(matrix, 2)[:, 1], [-10, -11, -20, -21, -30, -31, -40, -41])


def test_config_is_the_one_the_model_had(file):
    hf, _ = read_gguf(file)
    config = DecoderConfig.from_hf(hf)
    assert config == CONFIG


def test_float32_file_gives_every_tensor_back_exactly(file, model):
    _, tensors = read_gguf(file)
    for name, tensor in export_tensors(split_params(model)[1], CONFIG):
        lazy = tensors.pop(name)
        assert isinstance(lazy, LazyTensor)
        assert lazy.shape == tensor.shape
        assert lazy.origin == "tiny.gguf"
        np.testing.assert_array_equal(lazy.load(), tensor)
    assert not tensors


@pytest.mark.parametrize(("kind", "error"), [(F16, 2e-3), (Q8_0, 2e-2), (Q4_1, 0.2), (MXFP4, 0.3)])
def test_quantized_files_come_close(model, tmp_path, kind, error):
    _, tensors = read_gguf(write_gguf(tmp_path / "tiny.gguf", model, kind=kind))
    for name, tensor in export_tensors(split_params(model)[1], CONFIG):
        loaded = tensors[name].load()
        assert loaded.dtype == np.float32
        np.testing.assert_allclose(loaded, tensor, atol=error * np.abs(tensor).max())
    assert tensors["model.embed_tokens.weight"].format == kind


def test_model_loaded_from_the_file_gives_the_same_logits(file, model):
    loaded = AutoEasyDeLModelForCausalLM.from_pretrained(file)
    ids = jnp.arange(10, dtype=jnp.int32)[None]
    np.testing.assert_array_equal(loaded(ids), model(ids))


def test_untied_head_and_several_stop_tokens(tmp_path):
    model = random_model(dataclasses.replace(CONFIG, tie_embeddings=False), seed=4)
    path = write_gguf(tmp_path / "untied.gguf", model, more=lambda w: w.add_eot_token_id(7))
    hf, tensors = read_gguf(path)
    assert (hf["tie_word_embeddings"], hf["eos_token_id"]) == (False, [2, 7])
    np.testing.assert_array_equal(tensors["lm_head.weight"].load(), model.head_weights())


def test_llama3_rope_is_recognised_from_its_factors(model, tmp_path):
    wanted = RopeConfig(theta=100_000.0, kind="llama3", factor=8.0)
    factors = rope_frequencies(CONFIG.rope, 8) / rope_frequencies(wanted, 8)

    def with_factors(values):
        return lambda writer: writer.add_tensor("rope_freqs.weight", values.astype(np.float32))

    hf, tensors = read_gguf(write_gguf(tmp_path / "a.gguf", model, more=with_factors(factors)))
    assert DecoderConfig.from_hf(hf).rope == wanted
    assert "rope_freqs.weight" not in tensors
    with pytest.raises(ConfigError, match=r"not those of Llama 3\.1"):
        read_gguf(write_gguf(tmp_path / "b.gguf", model, more=with_factors(factors + np.eye(4)[1])))


def test_other_architectures_are_refused_with_the_list(model, tmp_path):
    path = write_gguf(tmp_path / "other.gguf", model, architecture="falcon")
    with pytest.raises(ConfigError, match=r"other\.gguf has the architecture 'falcon'; read are: llama"):
        read_gguf(path)


def test_settings_that_are_not_computed_are_refused(model, tmp_path):
    for number, (more, message) in enumerate(
        [
            (lambda w: w.add_expert_count(8), "expert_count to 8"),
            (lambda w: w.add_rope_dimension_count(4), "rope.dimension_count to 4; expected head_dim, 8"),
            (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE), "scales rope by 'longrope'"),
            (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN), "lacks llama.rope.scaling.factor"),
            (lambda w: w.add_uint16("split.count", 3), "one of 3 parts"),
            (lambda w: w.add_head_count(0), "head_count to 0; expected a number above 0"),
            (lambda w: w.add_float32("llama.logit_scale", 2.0), "llama.logit_scale"),
        ]
    ):
        with pytest.raises(ConfigError, match=message):
            read_gguf(write_gguf(tmp_path / f"{number}.gguf", model, more=more))


def test_missing_setting_and_foreign_tensor_are_named(model, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "bare.gguf", "llama")
    writer.add_tensor("blk.0.attn_gate.weight", np.zeros((32, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ConfigError, match=r"bare\.gguf lacks llama\.attention\.head_count"):
        read_gguf(tmp_path / "bare.gguf")
    path = write_gguf(
        tmp_path / "extra.gguf",
        model,
        more=lambda w: w.add_tensor("blk.0.attn_gate.weight", np.zeros((32, 32), np.float32)),
    )
    with pytest.raises(WeightsError, match=r"holds a tensor blk\.0\.attn_gate\.weight"):
        read_gguf(path)


def test_a_file_cut_short_anywhere_is_refused(file, tmp_path):
    whole = file.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [0, 3, 10, 30, 200, 900, len(whole) // 2, len(whole) - 64]:
        cut.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"cut\.gguf is no whole GGUF file: at byte \d+, .+Fetch the file again"):
            read_gguf(cut)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(WeightsError, match="does not begin with 'GGUF'"):
        read_gguf(path)
    with pytest.raises(ModelNotFoundError, match=r"absent\.gguf"):
        read_gguf(tmp_path / "absent.gguf")


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 2500), byte=st.integers(0, 255))
def test_a_flipped_byte_is_refused_or_harmless_but_never_a_crash(file, tmp_path_factory, place, byte):
    whole = bytearray(file.read_bytes())
    whole[place] = byte
    path = tmp_path_factory.mktemp("flip") / "flipped.gguf"
    path.write_bytes(whole)
    with contextlib.suppress(ModelError):
        read_gguf(path)
