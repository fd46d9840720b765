import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.generation import sampling
from easydel_models.generation.logits_processing import penalise_repetition
from easydel_models.generation.options import GenerationOptions
from easydel_models.generation.sampling import Sampling, choose
from hypothesis import given, settings
from hypothesis import strategies as st

# Compiled once per set of options; called eagerly, the loops inside would be compiled at every call.
compiled_choose = jax.jit(choose, static_argnames="sampling")
invert_cdf = jax.jit(sampling.invert_cdf)
uniforms_for = jax.jit(sampling.uniforms_for)


def sample(logits, uniforms, **options):
    return compiled_choose(logits, uniforms, sampling=Sampling(**options))


def greedy(logits):
    return compiled_choose(logits, jnp.zeros(logits.shape[0]), sampling=None)


def rows_of(logits, n):
    return jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (n, len(logits)))


def grid(n):
    """The middle of n equal parts of [0, 1): frequencies over it are the distribution up to 1 / n."""
    return jnp.asarray((np.arange(n) + 0.5) / n, jnp.float32)


def frequencies(probabilities, n=4000, **options):
    tokens, _ = sample(rows_of(np.log(probabilities), n), grid(n), **options)
    return np.bincount(np.asarray(tokens), minlength=len(probabilities)) / n


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


def test_greedy_takes_the_first_maximum_and_its_log_probability():
    tokens, logps = greedy(jnp.log(jnp.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])))
    np.testing.assert_array_equal(tokens, [1, 0])
    np.testing.assert_allclose(logps, np.log([0.5, 0.4]), rtol=1e-6)


def test_frequencies_are_the_probabilities():
    p = np.array([0.05, 0.5, 0.15, 0.3])
    np.testing.assert_allclose(frequencies(p), p, atol=1e-3)
    np.testing.assert_allclose(frequencies(p, temperature=2.0), softmax(np.log(p) / 2), atol=1e-3)


@pytest.mark.parametrize("vocab", [255, 256, 257, 700])
def test_frequencies_across_blocks(vocab):
    p = softmax(np.random.default_rng(0).normal(size=vocab) * 2)
    np.testing.assert_allclose(frequencies(p, n=20_000), p, atol=1.1 / 20_000 + 1e-5)


def test_top_k_renormalises_the_likeliest():
    # the best two of (.05 .5 .15 .3) are .5 and .3
    np.testing.assert_allclose(frequencies([0.05, 0.5, 0.15, 0.3], top_k=2), [0, 0.625, 0, 0.375], atol=1e-3)


def test_top_p_keeps_the_fewest_that_reach_the_share():
    # .5 < .7 <= .5 + .3
    np.testing.assert_allclose(frequencies([0.05, 0.5, 0.15, 0.3], top_p=0.7), [0, 0.625, 0, 0.375], atol=1e-3)
    np.testing.assert_allclose(frequencies([0.05, 0.5, 0.15, 0.3], top_p=0.49), [0, 1, 0, 0])


def test_top_p_counts_within_top_k():
    # among .5 .3 (renormalised .625 .375) a share of .6 is reached by the first alone; among all it is not
    p = [0.05, 0.5, 0.15, 0.3]
    np.testing.assert_allclose(frequencies(p, top_k=2, top_p=0.6), [0, 1, 0, 0])
    np.testing.assert_allclose(frequencies(p, top_p=0.6), [0, 0.625, 0, 0.375], atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), top_p=st.sampled_from([0.05, 0.5, 0.9, 0.99]))
def test_top_p_agrees_with_a_sort(seed, top_p):
    logits = np.random.default_rng(seed).normal(size=300).astype(np.float32) * 3
    p = np.sort(softmax(logits.astype(np.float64)))[::-1]
    wanted = int((np.cumsum(p) - p < top_p).sum())
    tokens, _ = sample(rows_of(logits, 5000), grid(5000), top_p=top_p)
    allowed = np.argsort(-logits)[:wanted]
    assert set(np.asarray(tokens).tolist()) <= set(allowed.tolist())
    likely = allowed[softmax(logits)[allowed] > 1e-3]
    assert set(likely.tolist()) <= set(np.asarray(tokens).tolist())


@pytest.mark.parametrize("options", [{"temperature": 1e-30}, {"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-6}])
def test_limits_are_greedy(options):
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(50, 333)) * 4, jnp.float32)
    np.testing.assert_array_equal(sample(logits, grid(50), **options)[0], greedy(logits)[0])


def test_log_probabilities_are_at_the_temperature_and_before_truncation():
    p = np.array([0.05, 0.5, 0.15, 0.3])
    tokens, logps = sample(rows_of(np.log(p), 100), grid(100), temperature=0.7, top_k=2, top_p=0.9)
    np.testing.assert_allclose(logps, np.log(softmax(np.log(p) / 0.7))[np.asarray(tokens)], rtol=1e-5)


def test_min_p_keeps_words_that_are_likely_enough_beside_the_likeliest():
    p = [0.5, 0.3, 0.15, 0.05]
    np.testing.assert_allclose(frequencies(p, min_p=0.4), [0.625, 0.375, 0, 0], atol=1e-3)
    # Shares among those at least 0.3 times as likely as the first: exactly 0.15 / 0.5 is kept.
    np.testing.assert_allclose(frequencies(p, min_p=0.299), np.array([50, 30, 15, 0]) / 95, atol=1e-3)
    # After the temperature: at 0.5 the ratios are squared, 0.36 and 0.09.
    np.testing.assert_allclose(frequencies(p, min_p=0.4, temperature=0.5), [1, 0, 0, 0], atol=1e-3)
    # Whichever of several limits is narrower decides.
    np.testing.assert_allclose(frequencies(p, min_p=0.2, top_k=1), [1, 0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(frequencies(p, min_p=0.4, top_p=0.99), [0.625, 0.375, 0, 0], atol=1e-3)


def test_drawing_from_bent_logits_reports_what_the_model_said():
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1]]))
    processed = logits.at[0, 0].set(-jnp.inf)
    tokens, logps = compiled_choose(logits, jnp.zeros(1), sampling=Sampling(temperature=0.5), processed=processed)
    assert int(tokens[0]) == 1
    assert float(logps[0]) == pytest.approx(np.log(0.04 / 0.54), abs=1e-5)
    tokens, logps = compiled_choose(logits, jnp.zeros(1), sampling=None, processed=processed)
    assert (int(tokens[0]), float(logps[0])) == (1, pytest.approx(np.log(0.2), abs=1e-5))


def test_a_target_past_the_last_partial_sum_gives_the_last_positive_word():
    weights = np.zeros((3, 600), np.float32)
    weights[0, [3, 310]] = 1, 2
    weights[1, 0] = 1
    weights[2, [255, 256]] = 1
    np.testing.assert_array_equal(invert_cdf(jnp.asarray(weights), jnp.ones(3)), [310, 0, 256])
    np.testing.assert_array_equal(invert_cdf(jnp.asarray(weights), jnp.zeros(3)), [3, 0, 255])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), uniform=st.sampled_from([0.0, 0.25, 0.5, 0.999_999_9, 1.0]))
def test_words_of_weight_zero_are_never_drawn(seed, uniform):
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random((8, 515)) < 0.02, rng.exponential(size=(8, 515)), 0).astype(np.float32)
    weights[:, 400] = 1e-7
    tokens = np.asarray(invert_cdf(jnp.asarray(weights), jnp.full(8, uniform)))
    assert (weights[np.arange(8), tokens] > 0).all()


def test_forbidden_words_are_left_out():
    logits = jnp.array([[-jnp.inf, 0.0, -jnp.inf]])
    for u in (0.0, 0.999_999_9):
        tokens, logps = sample(logits, jnp.array([u]), top_k=2, top_p=0.9)
        assert (int(tokens[0]), float(logps[0])) == (1, 0.0)


def test_uniforms_depend_on_row_and_position_alone():
    key = jax.random.key(7)
    together = uniforms_for(key, jnp.arange(5), jnp.full(5, 3))
    alone = uniforms_for(key, jnp.array([4]), jnp.array([3]))
    np.testing.assert_array_equal(together[4], alone[0])
    many = np.concatenate([uniforms_for(key, jnp.arange(100), jnp.full(100, p)) for p in range(20)])
    assert len(np.unique(many)) > 1990
    assert abs(many.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 2000)


def test_jit_equals_eager():
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(20, 333)) * 4, jnp.float32)
    options = Sampling(temperature=0.8, top_p=0.9)
    eager = choose(logits, grid(20), options)
    compiled = jax.jit(choose, static_argnums=2)(logits, grid(20), options)
    np.testing.assert_array_equal(eager[0], compiled[0])
    np.testing.assert_allclose(eager[1], compiled[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must be > 0, got 0.0; for greedy, set do_sample=False"),
        ({"temperature": float("nan")}, "`temperature` must be > 0"),
        ({"top_k": -1}, "`top_k` must be >= 0"),
        ({"top_p": 0.0}, r"`top_p` must be in \(0, 1\]"),
        ({"top_p": 1.5}, r"`top_p` must be in \(0, 1\]"),
        ({"min_p": -0.1}, r"`min_p` must be in \[0, 1\]"),
        ({"repetition_penalty": 0.0}, "`repetition_penalty` must be > 0"),
        ({"min_new_tokens": 9}, r"`min_new_tokens` must be in \[0, max_new_tokens=8\], got 9"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be >= 1, got 0"),
        ({"num_return_sequences": 0}, "`num_return_sequences` must be >= 1"),
        ({"stop_strings": ("",)}, "`stop_strings` must be texts of at least one character"),
        ({"do_sample": False, "min_p": 0.1}, "min_p=0.1: no effect without sampling; set do_sample=True"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GenerationOptions(**{"max_new_tokens": 8, "do_sample": True} | options)


@pytest.mark.parametrize("temperature", [1e-38, 1e-45, 1e-30, 1e-6])
def test_the_smallest_temperatures_are_greedy(temperature):
    logits = jnp.asarray([[1.0, 700.0, 3.0, -jnp.inf], [-5.0, -6.0, 0.0, -1e30]], jnp.float32)
    tokens, logps = sample(logits, jnp.asarray([0.999, 0.0]), temperature=temperature)
    np.testing.assert_array_equal(tokens, [1, 2])
    np.testing.assert_array_equal(logps, [0.0, 0.0])


@pytest.mark.parametrize("penalty", [1e-38, 1e38])
def test_an_extreme_repetition_penalty_leaves_finite_logits(penalty):
    logits = jnp.asarray([[-700.0, 700.0]], jnp.float32)
    processed = penalise_repetition(logits, jnp.ones((1, 2), bool), penalty)
    assert np.isfinite(processed).all()
    assert processed[0, 0] < processed[0, 1]
