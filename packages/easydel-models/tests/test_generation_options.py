"""Options that end a completion or process its logits, against choices worked out from the logits of whole texts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.config import DecoderConfig
from easydel_models.generation import generate

CONFIG = DecoderConfig(vocab_size=61, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, mlp_dim=48, max_positions=96)
PROMPTS = [[5], [7, 8, 9, 10, 11, 12, 13], [3, 4], [60, 1, 30, 20]]


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(CONFIG, seed=4)


@pytest.fixture(scope="module")
def logits(model):
    """The logits after a text, without a cache; right padding does not reach back, and one length compiles once."""
    compiled = jax.jit(model.__call__)

    def after(text):
        padded = jnp.asarray([text + [0] * (48 - len(text))], jnp.int32)
        return np.asarray(compiled(padded)[0, len(text) - 1], np.float64)

    return after


def greedy(logits, prompt, count, processor):
    text, logps = list(prompt), []
    for done in range(count):
        said = logits(text)
        token = int(np.argmax(processor(said.copy(), text, done)))
        logps.append(said[token] - said.max() - np.log(np.exp(said - said.max()).sum()))
        text.append(token)
    return text[len(prompt) :], logps


def penalised(said, text, penalty):
    for token in set(text):
        said[token] = said[token] * penalty if said[token] < 0 else said[token] / penalty
    return said


def words(ids):
    """Two characters a token."""
    return "".join(f"{token:02d}" for token in ids)


def test_repetition_penalty_counts_prompt_and_completion_and_leaves_log_probabilities_alone(model, logits):
    result = generate(model, PROMPTS, max_new_tokens=16, repetition_penalty=1.8, block_size=5)
    for prompt, tokens, logps in zip(PROMPTS, result.token_ids, result.logprobs, strict=True):
        wanted, wanted_logps = greedy(logits, prompt, 16, lambda said, text, done: penalised(said, text, 1.8))
        assert tokens == wanted
        np.testing.assert_allclose(logps, wanted_logps, atol=1e-4)
    assert result.token_ids != generate(model, PROMPTS, max_new_tokens=16).token_ids


def test_stop_tokens_wait_for_the_shortest_length(model, logits):
    stop = generate(model, PROMPTS[:1], max_new_tokens=1).token_ids[0][0]
    assert generate(model, PROMPTS[:1], max_new_tokens=9, eos_token_id=stop).token_ids == [[stop]]

    def processor(said, text, done):
        said[stop] = -np.inf if done < 4 else said[stop]
        return said

    wanted, wanted_logps = greedy(logits, PROMPTS[0], 9, processor)
    wanted = wanted[: wanted.index(stop) + 1] if stop in wanted else wanted
    result = generate(model, PROMPTS[:1], max_new_tokens=9, eos_token_id=stop, min_new_tokens=4)
    assert result.token_ids == [wanted]
    assert stop not in wanted[:4]
    np.testing.assert_allclose(result.logprobs[0], wanted_logps[: len(wanted)], atol=1e-4)


def test_shortest_and_longest_may_be_the_same(model):
    result = generate(model, PROMPTS, max_new_tokens=6, min_new_tokens=6, eos_token_id=list(range(40)))
    assert {len(tokens) for tokens in result.token_ids} == {6}
    assert all(token >= 40 for tokens in result.token_ids for token in tokens)


@pytest.mark.parametrize("block_size", [1, 3, 32])
def test_a_stop_string_across_two_tokens_ends_with_the_second(model, block_size):
    free = generate(model, PROMPTS, max_new_tokens=14)
    text = words(free.token_ids[1])
    stop = text[9:11]  # the last digit of the fifth token, and the first of the sixth
    length = next(n for n in range(1, 15) if stop in words(free.token_ids[1][:n]))
    found = generate(
        model, PROMPTS, max_new_tokens=14, stop_strings=[stop, "no such text"], decode=words, block_size=block_size
    )
    assert found.token_ids[1] == free.token_ids[1][:length]
    assert found.logprobs[1] == pytest.approx(free.logprobs[1][:length], abs=1e-4)
    for tokens, whole, reason in zip(found.token_ids, free.token_ids, found.finish_reasons, strict=True):
        ended = stop in words(whole)
        assert reason == ("stop" if ended else "length")
        assert tokens == (tokens if ended else whole)
        assert stop not in words(tokens[:-1])


def test_one_stop_string_needs_no_list_and_none_without_a_way_to_read(model):
    free = generate(model, PROMPTS[:1], max_new_tokens=8).token_ids[0]
    stop = words(free[2:3])
    found = generate(model, PROMPTS[:1], max_new_tokens=8, stop_strings=stop, decode=words).token_ids[0]
    assert len(found) <= 3
    with pytest.raises(ValueError, match=r"stop_strings=\['x'\] need `decode`.*decode=tokenizer.decode"):
        generate(model, PROMPTS[:1], max_new_tokens=8, stop_strings="x")


@pytest.mark.parametrize("layout", [{"batch_size": 2, "block_size": 3}, {}])
def test_tokens_are_handed_out_as_they_come_and_are_all_of_the_result(model, layout):
    heard = {}
    result = generate(
        model,
        PROMPTS,
        max_new_tokens=10,
        num_return_sequences=2,
        do_sample=True,
        eos_token_id=[1, 2, 3],
        stop_strings="55",
        decode=words,
        on_tokens=lambda number, tokens: heard.setdefault(number, []).append(tokens),
        **layout,
    )
    assert [list(itertools.chain(*heard[number])) for number in range(8)] == result.token_ids
    if layout:
        assert max(len(pieces) for pieces in heard.values()) > 1


def test_progress_is_told_on_stderr_only_when_asked_for(model, capsys):
    generate(model, PROMPTS, max_new_tokens=5, progress_bar=True)
    told = capsys.readouterr().err
    assert "4/4 completions, 20 tokens" in told
    generate(model, PROMPTS, max_new_tokens=5)
    assert capsys.readouterr().err == ""
