"""The SFT losses against values worked out by hand, and what must not change them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_trainers.algorithms.sft.loss import sft_loss
from easydel_trainers.step.targets import IGNORE_INDEX, next_labels, trained_tokens

PROBABILITIES = (-0.1, -1.0, -3.0)  # log-probabilities of the three labels


def hand_made():
    """Hidden states and head whose label log-probabilities are `PROBABILITIES`.

    Two words; with a logit gap g the label has log-probability -log(1 + exp(-g)), so g = -log(exp(-lp) - 1).
    """
    gaps = [-np.log(np.exp(-lp) - 1) for lp in PROBABILITIES]
    hidden = jnp.array([[[gap] for gap in gaps] + [[0.0]]], jnp.float32)
    head = jnp.array([[1.0], [0.0]], jnp.float32)
    labels = jnp.array([[IGNORE_INDEX, 0, 0, 0]])
    return hidden, head, labels


@pytest.mark.parametrize(("loss_type", "mean"), [("nll", 1.36666667), ("dft", 0.202574796)])
def test_hand_worked_values(loss_type, mean):
    hidden, head, labels = hand_made()
    loss_sum, ratios = sft_loss(hidden, head, labels, loss_type=loss_type)
    assert float(loss_sum) / 3 == pytest.approx(mean, rel=1e-5)
    # Only exp(-0.1) and exp(-1) … the label wins where its probability is above one half: the first token.
    assert [float(x) for x in ratios["mean_token_accuracy"]] == [1.0, 3.0]


def test_smoothing_mixes_in_the_mean_over_the_vocabulary():
    hidden, head, labels = hand_made()
    loss_sum, _ = sft_loss(hidden, head, labels, label_smoothing_factor=0.2)
    others = [np.log(1 - np.exp(lp)) for lp in PROBABILITIES]
    expected = sum(-0.8 * lp - 0.1 * (lp + other) for lp, other in zip(PROBABILITIES, others, strict=True))
    assert float(loss_sum) == pytest.approx(expected, rel=1e-5)


def random_case(seed=0, batch=3, seq=8, dim=5, vocab=11):
    keys = jax.random.split(jax.random.key(seed), 3)
    hidden = jax.random.normal(keys[0], (batch, seq, dim))
    head = jax.random.normal(keys[1], (vocab, dim))
    labels = jax.random.randint(keys[2], (batch, seq), 0, vocab).at[:, 0].set(IGNORE_INDEX).at[0, 3:5].set(IGNORE_INDEX)
    return hidden, head, labels


@pytest.mark.parametrize("loss_type", ["nll", "dft"])
def test_equals_the_dense_formula_with_gradients(loss_type):
    hidden, head, labels = random_case()

    def dense(hidden, head):
        targets = next_labels(labels)
        logp = jax.nn.log_softmax(hidden @ head.T, axis=-1)
        logp = jnp.take_along_axis(logp, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
        weight = jax.lax.stop_gradient(jnp.exp(logp)) if loss_type == "dft" else 1.0
        return jnp.where(targets == IGNORE_INDEX, 0.0, -weight * logp).sum()

    def ours(hidden, head):
        return sft_loss(hidden, head, labels, loss_type=loss_type)[0]

    value, grads = jax.value_and_grad(dense, (0, 1))(hidden, head)
    our_value, our_grads = jax.value_and_grad(ours, (0, 1))(hidden, head)
    assert float(our_value) == pytest.approx(float(value), rel=1e-5)
    for ours_, theirs in zip(our_grads, grads, strict=True):
        np.testing.assert_allclose(ours_, theirs, rtol=2e-5, atol=1e-6)


def test_an_ignored_row_is_as_good_as_absent():
    hidden, head, labels = random_case()
    ignored = labels.at[1].set(IGNORE_INDEX)
    with_row = sft_loss(hidden, head, ignored)[0]
    without = sft_loss(hidden[jnp.array([0, 2])], head, labels[jnp.array([0, 2])])[0]
    assert float(with_row) == pytest.approx(float(without), rel=1e-6)


def test_nothing_trained_is_zero_with_zero_gradient():
    hidden, head, labels = random_case()
    nothing = jnp.full_like(labels, IGNORE_INDEX)
    value, grad = jax.value_and_grad(lambda h: sft_loss(h, head, nothing)[0])(hidden)
    assert float(value) == 0.0
    assert not np.asarray(grad).any()
    assert int(trained_tokens(nothing)) == 0


def test_order_of_rows_does_not_matter():
    hidden, head, labels = random_case()
    order = jnp.array([2, 0, 1])
    there = sft_loss(hidden, head, labels)[0]
    again = sft_loss(hidden[order], head, labels[order])[0]
    assert float(there) == pytest.approx(float(again), rel=1e-6)


def test_the_last_place_of_a_line_predicts_nothing():
    assert next_labels(jnp.array([[IGNORE_INDEX, 4, 5]])).tolist() == [[4, 5, IGNORE_INDEX]]
