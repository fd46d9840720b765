"""Logits and reward scores of the golden models, as torch computed them: alone, and padded on either side."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models import AutoEasyDeLModelForCausalLM, AutoEasyDeLModelForSequenceClassification

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "logits.json").read_text(encoding="utf-8"))
PAD = EXPECTED["pad_token_id"]
WIDTH = max(map(len, EXPECTED["sequences"])) + 3
TOLERANCE = 2e-4


def rows(layout, sequences):
    """Returns ids and masks, one batch of all rows, or one batch per row for "alone"."""
    if layout == "alone":
        return [(jnp.asarray([row], jnp.int32), jnp.ones((1, len(row)), jnp.int32)) for row in sequences]
    ids, mask = np.full((len(sequences), WIDTH), PAD, np.int32), np.zeros((len(sequences), WIDTH), np.int32)
    for number, row in enumerate(sequences):
        place = slice(0, len(row)) if layout == "right_padded" else slice(WIDTH - len(row), WIDTH)
        ids[number, place], mask[number, place] = row, 1
    return [(jnp.asarray(ids), jnp.asarray(mask))]


def real_outputs(model, layout, sequences):
    for ids, mask in rows(layout, sequences):
        yield from zip(np.asarray(model(ids, attention_mask=mask)), np.asarray(mask) > 0, strict=True)


def check_logits(model, name, layout):
    """Compares the sampled logits and the mean NLL of every text with the golden ones."""
    golden = EXPECTED["models"][name]
    outputs = real_outputs(model, layout, EXPECTED["sequences"])
    for number, (ids, (output, real)) in enumerate(zip(EXPECTED["sequences"], outputs, strict=True)):
        logits, expected = output[real].astype(np.float64), golden["layouts"][layout][number]
        found = [logits[position, token] for position, token in golden["sampled_positions_and_ids"][number]]
        np.testing.assert_allclose(found, expected["sampled_logits"], atol=TOLERANCE, rtol=0)
        highest = logits.max(-1, keepdims=True)
        logps = logits - highest - np.log(np.exp(logits - highest).sum(-1, keepdims=True))
        nll = -logps[np.arange(len(ids) - 1), ids[1:]].mean()
        assert nll == pytest.approx(expected["mean_nll"], abs=TOLERANCE)


@pytest.mark.parametrize("layout", ["alone", "left_padded", "right_padded"])
@pytest.mark.parametrize("name", ["policy", "reference"])
def test_logits_are_those_of_torch(name, layout):
    check_logits(AutoEasyDeLModelForCausalLM.from_pretrained(GOLDEN / "models" / name), name, layout)


@pytest.mark.parametrize("layout", ["alone", "left_padded", "right_padded"])
def test_reward_scores_are_those_of_torch(layout):
    model = AutoEasyDeLModelForSequenceClassification.from_pretrained(GOLDEN / "models" / "reward")
    found = [output[0] for output, _ in real_outputs(model, layout, EXPECTED["sequences"])]
    expected = np.ravel(EXPECTED["models"]["reward"][f"scores_{layout}"])
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


def test_an_appended_end_of_turn_does_not_move_the_score():
    model = AutoEasyDeLModelForSequenceClassification.from_pretrained(GOLDEN / "models" / "reward")
    closed = [[*row, PAD] for row in EXPECTED["sequences"]]
    found = [output[0] for output, _ in real_outputs(model, "right_padded", closed)]
    expected = np.ravel(EXPECTED["models"]["reward"]["scores_with_one_eos_appended"])
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", ["policy", "reward"])
def test_transformers_understands_the_saved_config(name, tmp_path):
    from transformers import AutoConfig

    folder = GOLDEN / "models" / name
    auto = AutoEasyDeLModelForCausalLM if name == "policy" else AutoEasyDeLModelForSequenceClassification
    auto.from_pretrained(folder).save_pretrained(tmp_path / name)
    ours, theirs = AutoConfig.from_pretrained(tmp_path / name), AutoConfig.from_pretrained(folder)
    for key in ("architectures", "rope_parameters", "head_dim", "eos_token_id", "pad_token_id", "tie_word_embeddings"):
        assert ours.to_dict()[key] == theirs.to_dict()[key], key
    assert ours.to_dict().keys() == theirs.to_dict().keys()
    assert (tmp_path / name / "model.safetensors").stat().st_size > 0
    assert ours.num_labels == theirs.num_labels
