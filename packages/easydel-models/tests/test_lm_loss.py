import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.lm_loss import fused_linear_ce, token_logps, token_stats
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

N, D, V = 13, 6, 48
# Without the run-time type checks of these tests, which would refuse some bad input before the function does.
unchecked_ce = inspect.unwrap(fused_linear_ce)


def problem(n=N, d=D, v=V, ignored=0.4, seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    hidden = jnp.asarray(rng.normal(size=(n, d)), dtype)
    head = jnp.asarray(rng.normal(size=(v, d)), dtype)
    labels = np.where(rng.random(n) < ignored, -100, rng.integers(0, v, n)).astype(np.int32)
    return hidden, head, jnp.asarray(labels)


def dense_logps(hidden, head, *, softcap=None, temperature=1.0):
    logits = hidden.astype(jnp.float32) @ head.astype(jnp.float32).T
    if softcap is not None:
        logits = softcap * jnp.tanh(logits / softcap)
    return jax.nn.log_softmax(logits / temperature)


def pick(logps, labels):
    return jnp.take_along_axis(logps, jnp.maximum(labels, 0)[:, None], axis=1)[:, 0]


def dense_ce(hidden, head, labels, *, loss_type="nll", label_smoothing=0.0, softcap=None):
    logps = dense_logps(hidden, head, softcap=softcap)
    lp = pick(logps, labels)
    if loss_type == "dft":
        loss = -jax.lax.stop_gradient(jnp.exp(lp)) * lp
    else:
        loss = (1 - label_smoothing) * -lp + label_smoothing * -logps.mean(-1)
    return jnp.sum(jnp.where(labels == -100, 0.0, loss))


# Compiled once per shape and options; eagerly every operation is a program of its own.
ce = jax.jit(fused_linear_ce, static_argnames=("loss_type", "label_smoothing", "softcap", "chunk"))
ce_grads = jax.jit(
    jax.value_and_grad(fused_linear_ce, (0, 1), has_aux=True),
    static_argnames=("loss_type", "label_smoothing", "softcap", "chunk"),
)
dense_grads = jax.jit(jax.value_and_grad(dense_ce, (0, 1)), static_argnames=("loss_type", "label_smoothing", "softcap"))


def head_with_logps(lps):
    """Row i of the identity sees the two-word distribution (p_i, 1 - p_i) with log p_i = lps[i]."""
    p = np.exp(np.asarray(lps))
    return jnp.asarray(np.stack([np.log(p), np.log1p(-p)]), jnp.float32)


OPTIONS = [
    {},
    {"loss_type": "dft"},
    {"label_smoothing": 0.1},
    {"softcap": 3.0},
    {"loss_type": "dft", "softcap": 3.0},
    {"label_smoothing": 0.25, "softcap": 3.0},
]


CAPPED = {"softcap": 3.0, "temperature": 0.7}


class TestFusedLinearCE:
    @pytest.mark.parametrize(("loss_type", "mean"), [("nll", 1.366667), ("dft", 0.202575)])
    def test_hand_values(self, loss_type, mean):
        # log-probs -0.1, -1, -3: nll 4.1 / 3; dft (0.1 e^-0.1 + e^-1 + 3 e^-3) / 3
        head = head_with_logps([-0.1, -1.0, -3.0])
        loss, stats = fused_linear_ce(jnp.eye(3), head, jnp.zeros(3, jnp.int32), loss_type=loss_type)
        assert float(loss) / 3 == pytest.approx(mean, abs=1e-6)
        assert int(stats.count) == 3
        assert int(stats.correct) == 1  # only e^-0.1 is above one half

    @pytest.mark.parametrize(("options", "chunk"), [({}, 1), ({}, 512), *((o, 4) for o in OPTIONS)])
    def test_value_and_gradients_equal_the_dense_computation(self, options, chunk):
        hidden, head, labels = problem()
        want, want_grads = dense_grads(hidden, head, labels, **options)
        (got, _), grads = ce_grads(hidden, head, labels, chunk=chunk, **options)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        for mine, dense in zip(grads, want_grads, strict=True):
            np.testing.assert_allclose(mine, dense, atol=2e-6)

    def test_statistics_equal_the_dense_computation(self):
        hidden, head, labels = problem()
        trained = np.asarray(labels) != -100
        logps = np.asarray(dense_logps(hidden, head))
        _, stats = fused_linear_ce(hidden, head, labels, chunk=4)
        assert int(stats.count) == trained.sum()
        assert int(stats.correct) == (logps.argmax(-1) == np.asarray(labels))[trained].sum()
        np.testing.assert_allclose(stats.entropy_sum, -(np.exp(logps) * logps).sum(-1)[trained].sum(), rtol=1e-6)

    def test_correct_labels_are_counted(self):
        hidden, head, _ = problem()
        best = jnp.argmax(hidden @ head.T, axis=-1).astype(jnp.int32).at[3].set(-100)
        assert int(fused_linear_ce(hidden, head, best)[1].correct) == N - 1

    def test_ignored_tokens_are_the_same_as_absent_ones(self):
        hidden, head, labels = problem()
        keep = np.flatnonzero(np.asarray(labels) != -100)

        def run(h, y):
            return ce_grads(h, head, y, chunk=4)

        (masked, stats), (d_hidden, d_head) = run(hidden, labels)
        (dropped, _), (d_kept, d_head_dropped) = run(hidden[keep], labels[keep])
        assert int(stats.count) == len(keep)
        np.testing.assert_array_equal(masked, dropped)
        np.testing.assert_array_equal(d_hidden[keep], d_kept)
        np.testing.assert_array_equal(d_head, d_head_dropped)
        np.testing.assert_array_equal(np.delete(d_hidden, keep, axis=0), 0)

    def test_nan_in_an_ignored_token_stays_out(self):
        hidden, head, labels = problem()
        bad = int(np.flatnonzero(np.asarray(labels) == -100)[0])
        (loss, _), grads = ce_grads(hidden.at[bad].set(jnp.nan), head, labels)
        assert np.isfinite(loss)
        assert all(np.isfinite(g).all() for g in grads)

    @pytest.mark.parametrize("options", [{}, {"loss_type": "dft"}, {"label_smoothing": 0.1}])
    def test_nothing_trained_is_zero_with_zero_gradients(self, options):
        hidden, head, _ = problem()
        (loss, stats), grads = ce_grads(hidden, head, jnp.full(N, -100, jnp.int32), **options)
        assert (float(loss), int(stats.count), float(stats.entropy_sum)) == (0.0, 0, 0.0)
        assert all(not np.any(g) for g in grads)

    def test_a_label_outside_the_vocabulary_shows_as_nan(self):
        hidden, head, labels = problem(ignored=0)
        assert np.isnan(fused_linear_ce(hidden, head, labels.at[2].set(V))[0])
        assert np.isnan(fused_linear_ce(hidden, head, labels.at[2].set(-1))[0])

    def test_jit_equals_eager_and_other_masks_do_not_recompile(self):
        hidden, head, labels = problem()
        traces = []

        @jax.jit
        def fused(h, w, y):
            traces.append(1)
            return fused_linear_ce(h, w, y, chunk=4)[0]

        np.testing.assert_array_equal(fused(hidden, head, labels), fused_linear_ce(hidden, head, labels, chunk=4)[0])
        fused(hidden, head, jnp.full(N, -100, jnp.int32))
        fused(hidden, head, jnp.arange(N, dtype=jnp.int32))
        assert len(traces) == 1

    def test_a_frozen_head_costs_no_head_gradient(self):
        hidden, head, labels = problem(n=64, d=16, v=2048, ignored=0)

        def temp_bytes(argnums):
            step = jax.grad(lambda h, w: fused_linear_ce(h, w, labels, chunk=8)[0], argnums)
            return jax.jit(step).lower(hidden, head).compile().memory_analysis().temp_size_in_bytes

        assert temp_bytes(0) < 2 * 8 * 2048 * 4  # about one chunk of logits; the head itself is twice that
        np.testing.assert_array_equal(
            jax.grad(lambda h: fused_linear_ce(h, head, labels)[0])(hidden),
            jax.grad(lambda h, w: fused_linear_ce(h, w, labels)[0], (0, 1))(hidden, head)[0],
        )

    @pytest.mark.parametrize("differentiate", [False, True])
    def test_no_array_of_tokens_by_vocabulary(self, differentiate):
        hidden, head, labels = problem(n=256, d=4, v=1024)
        run = lambda h, w: fused_linear_ce(h, w, labels, chunk=8)[0]  # noqa: E731
        step = jax.grad(run, (0, 1)) if differentiate else run
        temp = jax.jit(step).lower(hidden, head).compile().memory_analysis().temp_size_in_bytes
        assert temp < 256 * 1024 * 4 / 4

    def test_gradient_scales_with_the_cotangent_and_through_scan(self):
        hidden, head, labels = problem()

        def mean(h, w):
            def micro(total, batch):
                loss, stats = fused_linear_ce(batch[0], w, batch[1], chunk=4)
                return (total[0] + loss, total[1] + stats.count), None

            batches = (h[:12].reshape(3, 4, D), labels[:12].reshape(3, 4))
            (loss, count), _ = jax.lax.scan(micro, (jnp.float32(0), jnp.int32(0)), batches)
            return loss / count.astype(jnp.float32)

        want = jax.grad(lambda h, w: dense_ce(h[:12], w, labels[:12]) / float((labels[:12] != -100).sum()), (0, 1))
        for mine, dense in zip(jax.grad(mean, (0, 1))(hidden, head), want(hidden, head), strict=True):
            np.testing.assert_allclose(mine, dense, atol=1e-6)

    # XLA takes a lone chunk of this size for the whole sum, and cannot multiply into a result that is turned over.
    @pytest.mark.parametrize("size", [{}, {"n": 5, "d": 64, "v": 512}], ids=["small", "one chunk"])
    def test_bfloat16_is_close_and_keeps_dtypes(self, size):
        hidden, head, labels = problem(**size, dtype=jnp.bfloat16)
        (loss, _), grads = ce_grads(hidden, head, labels)
        want, want_grads = dense_grads(hidden.astype(jnp.float32), head.astype(jnp.float32), labels)
        assert loss.dtype == jnp.float32
        np.testing.assert_allclose(loss, want, rtol=1e-2)
        for mine, dense in zip(grads, want_grads, strict=True):
            assert mine.dtype == jnp.bfloat16
            np.testing.assert_allclose(mine.astype(jnp.float32), dense, atol=0.05)

    def test_float32_head_under_bfloat16_hidden_gets_a_float32_gradient(self):
        hidden, head, labels = problem()
        grad = jax.grad(lambda w: fused_linear_ce(hidden.astype(jnp.bfloat16), w, labels)[0])(head)
        assert grad.dtype == jnp.float32

    def test_sums_over_a_real_vocabulary_stay_accurate(self):
        hidden, head, labels = problem(n=8, d=32, v=49152, ignored=0)
        logits = np.asarray(hidden, np.float64) @ np.asarray(head, np.float64).T
        want = np.log(np.exp(logits).sum(-1)) - logits[np.arange(8), np.asarray(labels)]
        np.testing.assert_allclose(-token_logps(hidden, head, labels), want, atol=1e-5)

    @settings(max_examples=5, deadline=None)
    @given(
        n=st.integers(1, 9),
        v=st.sampled_from([1, 3, 16, 50]),
        chunk=st.integers(1, 10),
        seed=st.integers(0, 99),
    )
    def test_any_shape_and_chunk(self, n, v, chunk, seed):
        hidden, head, labels = problem(n, 3, v, seed=seed)
        loss, _ = ce(hidden, head, labels, chunk=chunk)
        np.testing.assert_allclose(loss, dense_grads(hidden, head, labels)[0], rtol=2e-6, atol=2e-6)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"loss_type": "mse"}, "'nll' or 'dft'"),
            ({"label_smoothing": 1.0}, r"in \[0, 1\)"),
            ({"loss_type": "dft", "label_smoothing": 0.1}, "belongs to loss_type 'nll'"),
            ({"chunk": 0}, ">= 1"),
        ],
    )
    def test_bad_options_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            unchecked_ce(*problem(), **options)

    def test_rows_of_tokens_are_the_same_as_flat_tokens(self):
        hidden, head, labels = problem()
        flat, rows = fused_linear_ce(hidden, head, labels), fused_linear_ce(hidden[None], head, labels[None])
        assert flat[0] == rows[0]
        assert flat[1] == rows[1]

    def test_unequal_shapes_are_refused(self):
        hidden, head, labels = problem()
        with pytest.raises(ValueError, match="and labels of the tokens"):
            unchecked_ce(hidden[None], head, labels)
        with pytest.raises(ValueError, match="the tokens of labels"):
            unchecked_ce(hidden, head, labels[:-1])
        with pytest.raises(ValueError, match="no tokens"):
            fused_linear_ce(hidden[:0], head, labels[:0])


class TestTokenLogps:
    @pytest.mark.parametrize(("options", "chunk"), [({}, 1), ({}, 512), ({}, 4), (CAPPED, 4)])
    def test_values_and_gradients_equal_the_dense_computation(self, options, chunk):
        hidden, head, labels = problem()
        trained = labels != -100
        weights = jnp.asarray(np.random.default_rng(5).normal(size=(2, N)), jnp.float32)

        def fused(h, w):
            logps, entropy = token_logps(h, w, labels, with_entropy=True, chunk=chunk, **options)
            return (weights[0] * logps).sum() + (weights[1] * entropy).sum(), (logps, entropy)

        def dense(h, w):
            logps_all = dense_logps(h, w, **options)
            entropy = jnp.where(trained, -(jnp.exp(logps_all) * logps_all).sum(-1), 0.0)
            logps = jnp.where(trained, pick(logps_all, labels), 0.0)
            return (weights[0] * logps).sum() + (weights[1] * entropy).sum(), (logps, entropy)

        (_, got), grads = jax.jit(jax.value_and_grad(fused, (0, 1), has_aux=True))(hidden, head)
        (_, want), want_grads = jax.jit(jax.value_and_grad(dense, (0, 1), has_aux=True))(hidden, head)
        for mine, reference in zip((*got, *grads), (*want, *want_grads), strict=True):
            np.testing.assert_allclose(mine, reference, atol=5e-6)

    def test_gradients_agree_with_finite_differences(self):
        hidden, head, labels = problem(n=5, d=3, v=16)

        def run(h, w):
            return token_logps(
                jnp.asarray(h), jnp.asarray(w), labels, softcap=4.0, temperature=0.8, with_entropy=True, chunk=2
            )

        check_grads(
            run,
            (hidden, head),
            order=1,
            modes=["rev"],
            atol=2e-2,
            rtol=2e-2,
        )

    def test_sum_is_the_negative_nll(self):
        hidden, head, labels = problem()
        np.testing.assert_allclose(
            -token_logps(hidden, head, labels).sum(), fused_linear_ce(hidden, head, labels)[0], rtol=1e-6
        )

    def test_without_entropy_one_array_comes_back(self):
        hidden, head, labels = problem()
        logps = token_logps(hidden, head, labels)
        assert logps.shape == (N,)
        np.testing.assert_array_equal(logps, token_logps(hidden, head, labels, with_entropy=True)[0])
        np.testing.assert_array_equal(logps[labels == -100], 0)

    def test_nothing_asked_for_is_zero_with_zero_gradients(self):
        hidden, head, _ = problem()
        grads = jax.grad(lambda h, w: token_logps(h, w, jnp.full(N, -100, jnp.int32)).sum(), (0, 1))(hidden, head)
        assert all(not np.any(g) for g in grads)

    def test_jit_equals_eager(self):
        hidden, head, labels = problem()
        np.testing.assert_array_equal(jax.jit(token_logps)(hidden, head, labels), token_logps(hidden, head, labels))

    def test_temperature_must_be_positive(self):
        with pytest.raises(ValueError, match="`temperature` must be > 0"):
            token_logps(*problem(), temperature=0.0)


def test_token_stats_tell_what_dense_logits_tell():
    hidden, head, labels = problem(seed=5)
    stats = token_stats(hidden, head, labels, temperature=0.7, with_collision=True, chunk=4)
    dense = dense_logps(hidden, head, temperature=0.7)
    trained = labels != -100
    np.testing.assert_allclose(stats.logp, jnp.where(trained, pick(dense, labels), 0), rtol=1e-5)
    np.testing.assert_allclose(stats.entropy, jnp.where(trained, -(jnp.exp(dense) * dense).sum(-1), 0), rtol=1e-4)
    np.testing.assert_array_equal(stats.correct, trained & (dense.argmax(-1) == labels))
    np.testing.assert_allclose(
        stats.collision, jnp.where(trained, jax.nn.logsumexp(2 * dense, axis=-1), 0), rtol=1e-4, atol=1e-6
    )


def test_token_stats_pass_the_gradient_of_logps():
    hidden, head, labels = problem(seed=6)
    weights = jnp.arange(N, dtype=jnp.float32)

    def weighted(function):
        return jax.grad(lambda h, w: jnp.sum(weights * function(h, w, labels)), (0, 1))(hidden, head)

    both = weighted(lambda *args: token_stats(*args, with_collision=True).logp), weighted(token_logps)
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_log_probabilities_at_the_smallest_temperature_are_finite():
    hidden, head = jnp.eye(2, 2) * 100, jnp.asarray([[1.0, 0.0], [0.0, 1.0], [3.0, 0.5]])
    logps, entropies = token_logps(hidden, head, jnp.array([2, 1]), temperature=1e-38, with_entropy=True)
    np.testing.assert_array_equal(logps, [0.0, 0.0])
    np.testing.assert_array_equal(entropies, [0.0, 0.0])
