import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.config import DecoderConfig
from easydel_models.generation import GenerationEngine, GenerationOptions, ModelEngine, generate

CONFIG = DecoderConfig(
    vocab_size=61,
    dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    mlp_dim=48,
    max_positions=96,
    tie_embeddings=True,
    eos_token_ids=(2,),
)
PROMPTS = [[5], [7, 8, 9, 10, 11, 12, 13], [3, 4], [60, 1, 30, 20]]
NEVER = {"eos_token_id": []}


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(CONFIG, seed=1)


@pytest.fixture(scope="module")
def logits(model):
    """The logits after a text, recomputed from scratch without a cache."""

    @jax.jit
    def compiled(ids):
        return model(ids)

    def after(text):
        # Right padding does not reach back to the last token, and one length means one compilation.
        return np.asarray(compiled(jnp.asarray([text + [0] * (48 - len(text))], jnp.int32))[0, len(text) - 1])

    return after


def recomputed(logits, prompt, count, stop=()):
    tokens, logps = [], []
    while len(tokens) < count and not (tokens and tokens[-1] in stop):
        row = logits(prompt + tokens).astype(np.float64)
        tokens.append(int(row.argmax()))
        logps.append(row.max() - np.log(np.exp(row - row.max()).sum()) - row.max())
    return tokens, logps


def test_greedy_equals_full_recomputation_token_for_token(model, logits):
    result = generate(model, PROMPTS, max_new_tokens=20, **NEVER)
    for prompt, tokens, logps in zip(PROMPTS, result.token_ids, result.logprobs, strict=True):
        want_tokens, want_logps = recomputed(logits, prompt, 20)
        assert tokens == want_tokens
        np.testing.assert_allclose(logps, want_logps, atol=1e-4)


def test_a_row_ends_with_its_stop_token(model, logits):
    free = [recomputed(logits, prompt, 20)[0] for prompt in PROMPTS]
    stops = (free[0][4], free[1][9])
    result = generate(model, PROMPTS, max_new_tokens=20, eos_token_id=stops)
    for prompt, tokens, logps in zip(PROMPTS, result.token_ids, result.logprobs, strict=True):
        assert tokens == recomputed(logits, prompt, 20, stops)[0]
        assert len(logps) == len(tokens)
    assert result.token_ids[0][-1] in stops
    assert generate(model, PROMPTS, max_new_tokens=20, eos_token_id=stops[0]).token_ids[0][-1] == stops[0]


def test_stop_token_of_the_configuration_is_the_default(model):
    explicit = generate(model, PROMPTS, max_new_tokens=20, eos_token_id=2)
    assert generate(model, PROMPTS, max_new_tokens=20) == explicit


def test_seed_decides_the_draws(model):
    sample = functools.partial(generate, model, PROMPTS, max_new_tokens=12, do_sample=True, temperature=1.3, **NEVER)
    assert sample(seed=1) == sample(seed=1)
    assert sample(seed=1).token_ids != sample(seed=2).token_ids


def test_equal_prompts_are_drawn_independently(model):
    result = generate(model, [PROMPTS[1]] * 4, max_new_tokens=12, do_sample=True, temperature=1.3, **NEVER)
    assert len({tuple(tokens) for tokens in result.token_ids}) == 4


def test_sampled_log_probabilities_are_those_of_the_model(model, logits):
    result = generate(model, PROMPTS[:1], max_new_tokens=8, do_sample=True, temperature=0.7, top_k=5, **NEVER)
    text = list(PROMPTS[0])
    for token, logp in zip(result.token_ids[0], result.logprobs[0], strict=True):
        scaled = logits(text).astype(np.float64) / 0.7
        assert logp == pytest.approx(scaled[token] - np.log(np.exp(scaled).sum()), abs=1e-4)
        assert token in np.argsort(scaled)[-5:]
        text.append(token)


def test_first_tokens_follow_the_model_distribution(model, logits):
    rows = 3000
    result = generate(model, [PROMPTS[2]] * rows, max_new_tokens=1, do_sample=True, batch_size=rows, **NEVER)
    counts = np.bincount([tokens[0] for tokens in result.token_ids], minlength=CONFIG.vocab_size)
    row = logits(PROMPTS[2])
    p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
    # Five standard errors of each frequency.
    assert (np.abs(counts / rows - p) <= 5 * np.sqrt(p * (1 - p) / rows) + 1 / rows).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_arrays_are_lists_in_disguise(model, side):
    width = max(map(len, PROMPTS))
    ids, mask = np.full((4, width), 59), np.zeros((4, width), np.int32)
    for row, prompt in enumerate(PROMPTS):
        place = slice(width - len(prompt), None) if side == "left" else slice(len(prompt))
        ids[row, place], mask[row, place] = prompt, 1
    expected = generate(model, PROMPTS, max_new_tokens=6)
    assert generate(model, jnp.asarray(ids), attention_mask=jnp.asarray(mask), max_new_tokens=6) == expected
    whole = np.asarray([[7, 8, 9], [1, 2, 3], [4, 5, 6], [3, 2, 1]])
    assert generate(model, whole, max_new_tokens=6) == generate(model, whole.tolist(), max_new_tokens=6)


def test_no_prompts_give_no_results(model):
    assert generate(model, [], max_new_tokens=3).token_ids == []


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([[1], []], {}, "prompt 1 is empty"),
        ([[1] * 90], {}, "prompt 0 has 90 tokens; with max_new_tokens=8 that is more than the 96 positions"),
        ([[1, 61]], {}, "prompt 0 holds the token 61, outside the vocabulary of 61"),
        ([[1, 2**32 + 5]], {}, "prompt 0 holds the token 4294967301, outside the vocabulary of 61"),
        ([[1]], {"max_new_tokens": 0}, "`max_new_tokens` must be >= 1"),
        ([[1]], {"block_size": 0}, "`block_size` must be >= 1"),
        ([[1]], {"temperature": 0.5}, "temperature=0.5: no effect without sampling; set do_sample=True"),
        ([[1]], {"do_sample": True, "temperature": 0.0}, "`temperature` must be > 0"),
        ([[1]], {"eos_token_id": 61}, "`eos_token_id` 61 is outside the vocabulary"),
        (np.ones((2, 3)), {"attention_mask": np.ones((2, 4))}, "must have the shape of `prompts`"),
    ],
)
def test_bad_input_is_refused_by_name(model, prompts, options, message):
    with pytest.raises(ValueError, match=message):
        generate(model, prompts, **({"max_new_tokens": 8} | options))


def test_several_completions_lie_beside_each_other_and_are_drawn_independently(model):
    sample = functools.partial(generate, model, do_sample=True, temperature=1.3, max_new_tokens=12, seed=3, **NEVER)
    result = sample(PROMPTS[:2], num_return_sequences=3)
    assert result == sample([prompt for prompt in PROMPTS[:2] for _ in range(3)])
    assert len({tuple(tokens) for tokens in result.token_ids}) == 6
    assert (
        generate(model, PROMPTS[:1], max_new_tokens=4, num_return_sequences=2).token_ids[0]
        == (generate(model, PROMPTS[:1], max_new_tokens=4).token_ids[0])
    )


def test_finish_reason_says_whether_a_completion_ended_by_itself(model, logits):
    free = recomputed(logits, PROMPTS[0], 20)[0]
    result = generate(model, PROMPTS[:1], max_new_tokens=20, eos_token_id=free[4])
    assert result.finish_reasons == ["stop"]
    assert generate(model, PROMPTS[:1], max_new_tokens=3, **NEVER).finish_reasons == ["length"]


def test_an_engine_generates_with_the_weights_it_was_last_given(model, random_model):
    options = GenerationOptions(max_new_tokens=6, eos_token_ids=())
    engine: GenerationEngine = ModelEngine(model)
    assert engine.generate(PROMPTS, options) == generate(model, PROMPTS, max_new_tokens=6, **NEVER)
    other = random_model(CONFIG, seed=2)
    engine.update(other)
    assert engine.generate(PROMPTS, options) == generate(other, PROMPTS, max_new_tokens=6, **NEVER)
