"""Generation beside that of `transformers`: the same weights, prompts and options give the same tokens.

Greedy choices are compared token for token; of sampling, which has other random numbers there, how likely each is.
"""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from easydel_models import AutoEasyDeLModelForCausalLM, DecoderConfig
from easydel_models.generation.sampling import Sampling, choose
from transformers import AutoModelForCausalLM
from transformers.generation import logits_process

CONFIG = DecoderConfig(
    vocab_size=300, dim=64, num_layers=3, num_heads=4, num_kv_heads=2, mlp_dim=96, initializer_range=0.3
)
PROMPTS = [[5], [7, 8, 9, 10, 11, 12, 13], [3, 4], [60, 1, 30, 20]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    ours = AutoEasyDeLModelForCausalLM.from_config(CONFIG, seed=3, dtype="float32")
    ours.save_pretrained(folder)
    return ours, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def theirs(model, prompts, **options):
    width = max(map(len, prompts))
    ids, mask = torch.zeros(len(prompts), width, dtype=torch.long), torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :], mask[row, width - len(prompt) :] = torch.tensor(prompt), 1
    with torch.inference_mode():
        found = model.generate(ids, attention_mask=mask, pad_token_id=0, do_sample=False, **options)
    return found[:, width:].tolist()


def cut(tokens, stops):
    ends = [index for index, token in enumerate(tokens) if token in stops]
    return tokens[: ends[0] + 1] if ends else tokens


@pytest.mark.parametrize(
    "options",
    [{}, {"repetition_penalty": 1.5}, {"min_new_tokens": 7}, {"repetition_penalty": 0.8, "min_new_tokens": 3}],
    ids=str,
)
def test_greedy_tokens_are_those_of_transformers(pair, options):
    ours, torch_model = pair
    stops = sorted({tokens[4] for tokens in theirs(torch_model, PROMPTS, max_new_tokens=24, eos_token_id=None)})
    # One prompt at a time there: its repetition penalty counts padding as a token of the prompt.
    wanted = [
        cut(theirs(torch_model, [prompt], max_new_tokens=24, eos_token_id=stops, **options)[0], stops)
        for prompt in PROMPTS
    ]
    found = ours.generate(PROMPTS, max_new_tokens=24, eos_token_id=stops, batch_size=3, block_size=5, **options)
    assert found.token_ids == wanted
    assert len({len(tokens) for tokens in wanted}) > 1


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 7},
        {"top_p": 0.8},
        {"min_p": 0.05},
        {"temperature": 0.6, "top_k": 20, "top_p": 0.7},
        {"temperature": 1.7, "top_p": 0.95, "min_p": 0.1},
    ],
    ids=str,
)
def test_what_may_be_drawn_and_how_likely_is_what_transformers_says(options):
    logits = np.random.default_rng(1).normal(scale=2, size=300).astype(np.float32)
    scores = torch.tensor(logits)[None]
    warpers = {
        "temperature": logits_process.TemperatureLogitsWarper,
        "top_k": logits_process.TopKLogitsWarper,
        "top_p": logits_process.TopPLogitsWarper,
        "min_p": logits_process.MinPLogitsWarper,
    }
    for name, warper in warpers.items():
        if name in options:
            scores = warper(options[name])(None, scores)
    wanted = torch.softmax(scores, -1)[0].numpy()
    draws = 40_000
    uniforms = jnp.asarray((np.arange(draws) + 0.5) / draws, jnp.float32)
    rows = jnp.broadcast_to(jnp.asarray(logits), (draws, 300))
    counts = np.bincount(np.asarray(choose(rows, uniforms, Sampling(**options))[0]), minlength=300)
    np.testing.assert_allclose(counts / draws, wanted, atol=2 / draws + 1e-5)
    assert (counts[wanted == 0] == 0).all()
