"""Experts in MXFP4: values worked by hand, and a whole gpt-oss folder of them."""

import json

import jax
import numpy as np
import pytest
from easydel_models.auto import AutoEasyDeLModelForCausalLM
from easydel_models.config import DecoderConfig
from easydel_models.errors import ConfigError, WeightsError
from easydel_models.files.mxfp4 import Dequantized, dequantized
from easydel_models.files.weights import export_tensors
from easydel_models.parameters import split_params
from safetensors.numpy import load_file, save_file

HF = {
    "model_type": "gpt_oss",
    "architectures": ["GptOssForCausalLM"],
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_local_experts": 3,
    "num_experts_per_tok": 2,
    "sliding_window": 4,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
}
MAGNITUDES = [0, 0.5, 1, 1.5, 2, 3, 4, 6]


class Tensor:
    """A tensor in memory."""

    origin = "tiny.safetensors"

    def __init__(self, array):
        self.array = array

    @property
    def shape(self):
        return self.array.shape

    def load(self):
        return self.array


def test_by_hand():
    # One expert, two outputs of one group each. The first byte holds 0x2 = 1.0 below and 0xB = -1.5 above.
    blocks = np.zeros((1, 2, 1, 16), np.uint8)
    blocks[0, 0, 0, 0] = 0xB2
    blocks[0, 1, 0, 15] = 0x7F  # -6 below, 6 above
    scales = np.array([[[127 + 3], [127 - 1]]], np.uint8)
    values = Dequantized("experts", Tensor(blocks), Tensor(scales)).load().astype(np.float32)
    assert values.shape == (1, 32, 2)
    expected = np.zeros((1, 32, 2), np.float32)
    expected[0, :2, 0] = 8.0, -12.0
    expected[0, 30:, 1] = -3.0, 3.0
    np.testing.assert_array_equal(values, expected)


def in_mxfp4(experts):
    """Blocks and scales of experts [experts, inputs, outputs] that are exactly such numbers."""
    outputs_first = experts.swapaxes(1, 2)
    groups = outputs_first.reshape(*outputs_first.shape[:2], -1, 32)
    exponents = np.ceil(np.log2(np.abs(groups).max(axis=-1) / 6)).astype(np.int32)
    small = groups / np.exp2(exponents)[..., None]
    codes = np.abs(np.abs(small)[..., None] - MAGNITUDES).argmin(axis=-1) + 8 * (small < 0)
    return (codes[..., ::2] + 16 * codes[..., 1::2]).astype(np.uint8), (exponents + 127).astype(np.uint8)


def representable(rng, shape):
    """Random experts [experts, inputs, outputs] that are exactly such numbers, one of the largest in each group."""
    magnitudes, powers = rng.choice(MAGNITUDES, shape), np.exp2(rng.integers(-4, -1, (shape[0], 1, 1)))
    magnitudes[:, ::32] = 6
    return (rng.choice([-1, 1], shape) * magnitudes * powers).astype(np.float32)


@pytest.fixture
def folders(random_model, tmp_path):
    """The same model in bfloat16 and quantized."""
    model = random_model(DecoderConfig.from_hf({**HF, "quantization_config": None}), 5)
    rng, tensors, quantized = np.random.default_rng(0), {}, {}
    for name, tensor in export_tensors(split_params(model)[1], model.config):
        if name.endswith("_proj") and ".experts." in name:
            tensors[name] = representable(rng, tensor.shape)
            quantized |= dict(zip((f"{name}_blocks", f"{name}_scales"), in_mxfp4(tensors[name]), strict=True))
        else:
            tensors[name] = quantized[name] = tensor
    for folder, held in (("plain", tensors), ("quantized", quantized)):
        (tmp_path / folder).mkdir()
        save_file(
            {name: np.ascontiguousarray(array) for name, array in held.items()}, tmp_path / folder / "model.safetensors"
        )
        hf = HF if folder == "quantized" else {**HF, "quantization_config": None}
        (tmp_path / folder / "config.json").write_text(json.dumps(hf))
    return tmp_path / "plain", tmp_path / "quantized"


def test_a_quantized_folder_is_the_model_that_its_numbers_stand_for(folders, tmp_path):
    plain, quantized = (AutoEasyDeLModelForCausalLM.from_pretrained(folder) for folder in folders)
    assert quantized.config == plain.config
    jax.tree.map(np.testing.assert_array_equal, split_params(quantized)[1], split_params(plain)[1])
    quantized.save_pretrained(tmp_path / "saved")
    assert "quantization_config" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    saved, whole = load_file(tmp_path / "saved" / "model.safetensors"), load_file(folders[0] / "model.safetensors")
    assert saved.keys() == whole.keys()
    for name, tensor in whole.items():
        np.testing.assert_array_equal(saved[name], tensor, err_msg=name)


def test_other_quantizations_are_refused():
    for method in ("gptq", None):
        with pytest.raises(ConfigError, match="'quantization_config'"):
            DecoderConfig.from_hf({**HF, "quantization_config": {"quant_method": method}})


def test_halves_that_do_not_belong_together_are_named():
    blocks, scales = Tensor(np.zeros((1, 2, 1, 16), np.uint8)), Tensor(np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(WeightsError, match=r"holds x in MXFP4 as blocks of shape \(1, 2, 1, 16\) and scales of"):
        dequantized({"x_blocks": blocks, "x_scales": scales})
    alone = dequantized({"x_blocks": blocks})
    assert list(alone) == ["x_blocks"]
    nothing = Tensor(np.full((1, 2, 1), 255, np.uint8))
    with pytest.raises(WeightsError, match="a scale that stands for no number"):
        dequantized({"x_blocks": blocks, "x_scales": nothing})["x"].load()
