"""Adapters that we write are loaded by `peft`, and `peft`'s by us, with the same numbers under torch.

Runs in an environment of its own (`nox -s parity`), the only one with torch and peft in it.
"""

from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from easydel_models import (
    AutoEasyDeLModelForCausalLM,
    AutoEasyDeLModelForSequenceClassification,
    LoraConfig,
    load_adapter,
    save_adapter,
    with_lora,
)
from easydel_models.layers.linear import LORA_B
from easydel_models.parameters import split_params, update_params
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

# peft asks transformers by a name that transformers has replaced.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

TOLERANCE = 2e-4
IDS = np.random.default_rng(0).integers(3, 300, size=(3, 17)).astype(np.int32)

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ADAPTERS = {
    "all linear layers": {"rank": 4, "alpha": 16},
    "attention alone, scaled by the root of the rank": {
        "rank": 8,
        "alpha": 8,
        "rslora": True,
        "targets": ["q_proj", "v_proj"],
    },
}


def trained(model):
    """The model with adapters that do something, as if they had been trained."""
    _, params = split_params(model)
    rng = np.random.default_rng(5)
    layers = {
        name: np.asarray(rng.standard_normal(array.shape), np.float32) * 0.1 if name.endswith(LORA_B) else array
        for name, array in params["layers"].items()
    }
    update_params(model, {**params, "layers": layers})
    return model


def torch_logits(model):
    with torch.no_grad():
        return model(input_ids=torch.tensor(IDS)).logits.numpy()


def assert_equal(actual, expected, base):
    assert np.abs(expected - base).max() > 0.01, "the adapters do nothing: the comparison would be empty"
    np.testing.assert_allclose(np.asarray(actual), expected, atol=TOLERANCE, rtol=0)


@pytest.fixture
def base(tmp_path):
    model = AutoEasyDeLModelForCausalLM.from_config(LLAMA, seed=1, dtype="float32")
    model.save_pretrained(tmp_path / "base")
    return model, tmp_path / "base"


@pytest.mark.parametrize("options", ADAPTERS.values(), ids=ADAPTERS.keys())
def test_our_adapters_in_peft(base, options, tmp_path):
    model, folder = base
    ours = trained(with_lora(model, LoraConfig(**options), seed=3))
    save_adapter(tmp_path / "adapter", ours, base_model=str(folder))
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    before = torch_logits(plain)
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    assert_equal(ours(IDS), torch_logits(theirs), before)


@pytest.mark.parametrize("options", ADAPTERS.values(), ids=ADAPTERS.keys())
def test_our_merged_folder_in_transformers(base, options, tmp_path):
    model, folder = base
    ours = trained(with_lora(model, LoraConfig(**options), seed=3))
    ours.save_pretrained(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    before = torch_logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())
    assert_equal(ours(IDS), torch_logits(merged), before)


@pytest.mark.parametrize("rslora", [False, True])
def test_pefts_adapters_here(base, rslora, tmp_path):
    _, folder = base
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    before = torch_logits(plain)
    config = peft.LoraConfig(
        r=4, lora_alpha=12, target_modules=["q_proj", "o_proj", "down_proj"], use_rslora=rslora, task_type="CAUSAL_LM"
    )
    theirs = peft.get_peft_model(plain, config).eval()
    torch.manual_seed(0)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = load_adapter(tmp_path / "adapter", AutoEasyDeLModelForCausalLM.from_pretrained(folder, dtype="float32"))
    assert_equal(ours(IDS), torch_logits(theirs), before)


def test_a_reward_models_adapters_and_score_in_peft(tmp_path):
    config = {**LLAMA, "num_labels": 1}
    model = AutoEasyDeLModelForSequenceClassification.from_config(config, seed=1, dtype="float32")
    model.save_pretrained(tmp_path / "base")
    ours = trained(with_lora(model, LoraConfig(rank=4, alpha=16), seed=3))
    save_adapter(tmp_path / "adapter", ours, base_model=str(tmp_path / "base"))
    plain = AutoModelForSequenceClassification.from_pretrained(
        Path(tmp_path / "base"), num_labels=1, dtype=torch.float32
    )
    before = torch_logits(plain.eval())
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    assert_equal(ours(IDS), torch_logits(theirs), before)
