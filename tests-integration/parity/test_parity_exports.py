"""Folders that we write are loaded by `transformers` and give the same numbers under torch.

Runs in an environment of its own (`nox -s parity`), the only one with torch in it.
"""

import numpy as np
import pytest
import torch
from easydel_models import AutoEasyDeLModelForCausalLM, AutoEasyDeLModelForSequenceClassification
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

TOLERANCE = 2e-4

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
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS = {
    "llama, tied head": LLAMA,
    "llama, own head": {**LLAMA, "tie_word_embeddings": False},
    "llama 3 rope": {**LLAMA, "rope_scaling": LLAMA3_ROPE},
    "mistral, window of 8": {**LLAMA, "model_type": "mistral", "tie_word_embeddings": False, "sliding_window": 8},
}


def padded_rows(side):
    """Rows of 20, 13 and 5 tokens, padded with token 0 on one side."""
    tokens = np.random.default_rng(0).integers(3, LLAMA["vocab_size"], size=(3, 20))
    lengths = np.array([20, 13, 5])[:, None]
    positions = np.arange(20)[None]
    mask = positions < lengths if side == "right" else positions >= 20 - lengths
    return np.where(mask, tokens, 0).astype(np.int32), mask.astype(np.int32)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_logits_agree(config, side, tmp_path):
    ours = AutoEasyDeLModelForCausalLM.from_config(config, seed=1, dtype="float32")
    ours.save_pretrained(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()

    ids, mask = padded_rows(side)
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()
    actual = np.asarray(ours(ids, attention_mask=mask))
    real = mask.astype(bool)
    assert np.abs(expected[real]).max() > 0.05, "the comparison would be empty"
    np.testing.assert_allclose(actual[real], expected[real], atol=TOLERANCE, rtol=0)


def test_a_model_in_several_files_is_loaded_whole(tmp_path):
    ours = AutoEasyDeLModelForCausalLM.from_config(LLAMA, seed=2, dtype="float32")
    ours.save_pretrained(tmp_path, max_shard_size=100_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids, mask = padded_rows("right")
    with torch.no_grad():
        expected = theirs.eval()(input_ids=torch.tensor(ids[:1])).logits.numpy()
    np.testing.assert_allclose(np.asarray(ours(ids[:1], attention_mask=mask[:1])), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("labels", [1, 3])
def test_scores_of_a_classifier_agree(labels, tmp_path):
    ours = AutoEasyDeLModelForSequenceClassification.from_config(LLAMA, num_labels=labels, seed=3, dtype="float32")
    ours.save_pretrained(tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()

    ids, mask = padded_rows("right")
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()
    assert expected.shape == (3, labels)
    np.testing.assert_allclose(np.asarray(ours(ids, attention_mask=mask)), expected, atol=TOLERANCE, rtol=0)


def test_what_we_export_is_what_we_read_back(tmp_path):
    theirs_first = AutoModelForCausalLM.from_pretrained(_exported(tmp_path / "one"))
    theirs_first.save_pretrained(tmp_path / "two")
    ours = AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path / "two", dtype="float32")
    ids, mask = padded_rows("left")
    with torch.no_grad():
        expected = theirs_first.eval()(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()
    real = mask.astype(bool)
    np.testing.assert_allclose(np.asarray(ours(ids, attention_mask=mask))[real], expected[real], atol=TOLERANCE, rtol=0)


def _exported(path):
    AutoEasyDeLModelForCausalLM.from_config(LLAMA, seed=4, dtype="float32").save_pretrained(path)
    return path
