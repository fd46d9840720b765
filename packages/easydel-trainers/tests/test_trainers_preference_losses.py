"""Losses on preferences against values worked out by hand from their formulas, in float64.

Two pairs: chosen log-probabilities [-10, -20], rejected [-12, -18], of the reference [-11, -19] and [-11.5, -19.5],
lengths [5, 8] and [6, 7], beta 0.1. So a = [1, -1], d = [-0.5, 1.5], a - d = [1.5, -2.5].
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_trainers import CPOConfig, bco_losses, cpo_losses, dpo_losses, kto_losses, orpo_losses, reward_losses
from easydel_trainers.algorithms.bco.loss import RunningMean, moved
from easydel_trainers.algorithms.dpo.loss import DPOOptions, Pairs, divergence_scores, policy_weights
from easydel_trainers.algorithms.kto.loss import kl_baseline
from jax.test_util import check_grads

C, R = jnp.array([-10.0, -20.0]), jnp.array([-12.0, -18.0])
RC, RR = jnp.array([-11.0, -19.0]), jnp.array([-11.5, -19.5])
LC, LR = jnp.array([5.0, 8.0]), jnp.array([6.0, 7.0])
ONES = jnp.ones(2)
PAIRS = Pairs(C, R, RC, RR, LC, LR, ONES)
ALL = jnp.concatenate([C - RC, R - RR])
LABELS = jnp.array([1.0, 1.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("loss_type", "options", "expected"),
    [
        ("sigmoid", {}, [0.620957048, 0.82593942]),
        ("sigmoid", {"label_smoothing": 0.1}, [0.635957048, 0.80093942]),
        ("hinge", {}, [0.85, 1.25]),
        ("ipo", {}, [22.2469444, 28.5079719]),
        ("exo_pair", {"label_smoothing": 1e-3}, [2.50551656, 3.19842044]),
        ("nca_pair", {}, [1.35082481, 1.45207351]),
        ("robust", {"label_smoothing": 0.1}, [0.602207048, 0.85718942]),
        ("bco_pair", {}, [1.31285631, 1.51535371]),
        ("sppo_hard", {}, [36.25, 78.25]),
        ("aot", {}, [0.82593942, 0.620957048]),
        ("aot_unpaired", {}, [0.718459648, 0.718459648]),
        ("apo_zero", {}, [0.962523416, 1.06240903]),
        ("apo_down", {}, [0.987549342, 1.03719731]),
        ("discopop", {}, [0.849337579, 0.829005321]),
        ("sigmoid_norm", {}, [0.679080858, 0.710255353]),
        ("sigmoid", {"f_divergence_type": "forward_kl"}, [0.631154384, 0.825666887]),
        ("sigmoid", {"f_divergence_type": "js_divergence"}, [0.660652163, 0.750284064]),
        ("sigmoid", {"f_divergence_type": "alpha_divergence"}, [0.627690947, 0.817685805]),
    ],
)
def test_dpo_losses(loss_type, options, expected):
    losses = dpo_losses(PAIRS, loss_type, DPOOptions(**options))
    np.testing.assert_allclose(losses, expected, rtol=2e-6)


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        *(("sigmoid", math.log(2)), ("sigmoid_norm", math.log(2)), ("hinge", 1.0), ("ipo", 25.0)),
        *(("apo_zero", 1.0), ("apo_down", 1.0), ("nca_pair", 2 * math.log(2)), ("bco_pair", 2 * math.log(2))),
        *(("sppo_hard", 50.0), ("aot", math.log(2)), ("robust", math.log(2)), ("discopop", (math.log(2) + 1) / 2)),
    ],
)
def test_dpo_begins_where_policy_and_reference_agree(loss_type, expected):
    pairs = PAIRS._replace(reference_chosen=C, reference_rejected=R)
    np.testing.assert_allclose(dpo_losses(pairs, loss_type, DPOOptions()), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "loss_type", ["sigmoid", "exo_pair", "nca_pair", "robust", "aot", "apo_down", "discopop", "ipo"]
)
@pytest.mark.parametrize("divergence", ["reverse_kl", "forward_kl", "js_divergence"])
def test_dpo_gradients(loss_type, divergence):
    options = DPOOptions(label_smoothing=0.05, f_divergence_type=divergence)

    def total(chosen, rejected):
        return dpo_losses(PAIRS._replace(chosen=chosen, rejected=rejected), loss_type, options).sum()

    check_grads(total, (C, R), order=1, modes=["rev"], rtol=2e-2, atol=2e-3, eps=1e-2)


@pytest.mark.parametrize("loss_type", ["sigmoid", "aot", "aot_unpaired", "ipo", "discopop"])
def test_empty_positions_change_nothing(loss_type):
    wide = Pairs(*(jnp.concatenate([jnp.zeros(3), values]) for values in PAIRS))

    def loss(chosen, pairs):
        return dpo_losses(pairs._replace(chosen=chosen), loss_type, DPOOptions()).sum()

    narrow_loss, narrow = jax.value_and_grad(loss)(C, PAIRS)
    wide_loss, gradient = jax.value_and_grad(loss)(wide.chosen, wide)
    np.testing.assert_allclose(wide_loss, narrow_loss, rtol=1e-6)
    np.testing.assert_allclose(gradient, np.concatenate([np.zeros(3), narrow]), rtol=1e-6)


@pytest.mark.parametrize("loss_type", ["sigmoid", "discopop", "exo_pair", "nca_pair", "apo_zero", "robust"])
@pytest.mark.parametrize("divergence", ["reverse_kl", "forward_kl", "alpha_divergence", "js_divergence"])
def test_far_apart_models_give_finite_gradients(loss_type, divergence):
    options = DPOOptions(beta=1.0, label_smoothing=1e-3, f_divergence_type=divergence)
    for shift in (-3000.0, 3000.0):
        pairs = PAIRS._replace(chosen=C + shift, rejected=R - shift)
        gradient = jax.grad(lambda c, p=pairs: dpo_losses(p._replace(chosen=c), loss_type, options).sum())(pairs.chosen)
        assert np.isfinite(gradient).all()


def test_identical_answers_give_no_gradient():
    def loss(shared):
        return dpo_losses(PAIRS._replace(chosen=shared, rejected=shared), "sigmoid", DPOOptions()).sum()

    np.testing.assert_allclose(jax.grad(loss)(C), 0, atol=1e-7)


def test_alpha_divergence_tends_to_the_log_ratio():
    near, at = (DPOOptions(f_divergence_type="alpha_divergence", f_alpha_divergence_coef=c) for c in (1.001, 1.0))
    np.testing.assert_allclose(divergence_scores(ALL, at), ALL)
    np.testing.assert_allclose(divergence_scores(ALL, near), ALL, rtol=2e-3)


def test_wpo_weighs_by_both_answers_and_passes_no_gradient():
    logs = jnp.array([0.0, -1.0]), jnp.array([-2.0, 0.5])
    np.testing.assert_allclose(policy_weights(*logs), np.exp([-2.0, -0.5]), rtol=1e-6)
    assert not jax.grad(lambda x: policy_weights(x, logs[1]).sum())(logs[0]).any()


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("kto", [0.482507142, 0.532454306, 0.48001066, 0.529964052]),
        ("apo_zero_unpaired", [0.475020813, 0.524979187, 0.487502604, 0.537429845]),
    ],
)
def test_kto_losses(loss_type, expected):
    losses = kto_losses(ALL, LABELS, jnp.full(4, 0.3), loss_type=loss_type, beta=0.1)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_kto_weights_and_beginning():
    zeros = jnp.zeros(4)
    losses = kto_losses(zeros, LABELS, zeros, beta=0.1, desirable_weight=2.0, undesirable_weight=3.0)
    np.testing.assert_allclose(losses, [1.0, 1.0, 1.5, 1.5])


def test_the_kl_estimate_is_never_negative_and_counts_only_partners():
    assert float(kl_baseline(jnp.array([1.0, -5.0, 2.0]), jnp.array([1.0, 0.0, 1.0]))) == 1.5
    assert float(kl_baseline(jnp.array([1.0, -5.0]), jnp.ones(2))) == 0.0
    assert float(kl_baseline(jnp.array([1.0, -5.0]), jnp.zeros(2))) == 0.0
    assert not jax.grad(lambda x: kl_baseline(x, jnp.ones(2)))(jnp.array([1.0, 2.0])).any()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"loss_type": "sigmoid"}, [0.598138869, 0.798138869]),
        ({"loss_type": "hinge"}, [0.8, 1.2]),
        ({"loss_type": "ipo"}, [25.0, 24.2908163]),
        ({"loss_type": "simpo"}, [0.974076984, 0.969636845]),
        ({"loss_type": "alphapo", "alpha": 0.25}, [0.974076984, 0.965717222]),
        ({"loss_type": "sigmoid", "label_smoothing": 0.1}, [0.618138869, 0.778138869]),
    ],
)
def test_cpo_losses(options, expected):
    averaged = options["loss_type"] in ("ipo", "simpo", "alphapo")
    chosen, rejected = (C / LC, R / LR) if averaged else (C, R)
    found = cpo_losses(chosen, rejected, beta=0.1, **options)
    np.testing.assert_allclose(found.losses, expected, rtol=2e-6)


def test_alphapo_of_improbable_answers_is_finite():
    def loss(chosen):
        return cpo_losses(chosen, R, loss_type="sigmoid", beta=0.1, alpha=0.5).losses.sum()

    assert np.isfinite(jax.grad(loss)(jnp.array([-5000.0, -1.0]))).all()


def test_the_preset_of_simpo_has_no_likelihood_term():
    config = CPOConfig.simpo(learning_rate=1e-3)
    assert (config.loss_type, config.nll_weight, config.beta, config.learning_rate) == ("simpo", 0.0, 2.0, 1e-3)


def test_orpo_losses():
    found = orpo_losses(C / LC, R / LR, beta=0.1)
    np.testing.assert_allclose(found.log_odds, [0.0, 0.0775743918], atol=1e-6)
    np.testing.assert_allclose(found.losses.mean(), 0.06741296, rtol=1e-6)


@pytest.mark.parametrize("logp", [0.0, -1e-30, -1e-7, -1e-3, -0.7, -50.0, -1e4])
def test_orpo_is_finite_everywhere(logp):
    chosen = jnp.array([logp, -1.0])
    losses, gradient = jax.value_and_grad(lambda x: orpo_losses(x, jnp.array([-2.0, logp]), beta=0.1).losses.sum())(
        chosen
    )
    assert np.isfinite(losses)
    assert np.isfinite(gradient).all()


def test_orpo_gradients():
    check_grads(
        lambda c, r: orpo_losses(c, r, beta=0.1).losses.sum(),
        (jnp.array([-0.1, -2.0]), jnp.array([-0.7, -0.6])),
        order=1,
        modes=["rev"],
        rtol=1e-2,
        atol=1e-3,
        eps=1e-2,
    )


def test_bco_losses_around_the_running_mean():
    rewards = 0.1 * ALL
    running = moved(RunningMean(jnp.float32(0), jnp.float32(0)), rewards, jnp.ones(4))
    np.testing.assert_allclose(running.mean, 0.025, rtol=1e-6)
    losses = bco_losses(rewards, LABELS, running.mean, jnp.ones(4))
    np.testing.assert_allclose(losses, [0.656350141, 0.757599035, 0.656350141, 0.757599035], rtol=1e-6)
    weighted = bco_losses(rewards, LABELS, running.mean, jnp.array([9.0, 9.0, 2.0, 0.5]))
    np.testing.assert_allclose(weighted, losses * jnp.array([1.0, 1.0, 2.0, 0.5]))


def test_a_running_mean_in_parts_is_that_of_the_whole():
    start = RunningMean(jnp.float32(0), jnp.float32(0))
    parts = moved(moved(start, jnp.array([1.0, 5.0, 9.0]), jnp.array([1.0, 1.0, 0.0])), jnp.array([3.0]), jnp.ones(1))
    np.testing.assert_allclose([parts.mean, parts.rewards], [3.0, 3.0])
    nothing = moved(start, jnp.array([7.0]), jnp.zeros(1))
    assert (float(nothing.mean), float(nothing.rewards)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("margins", "coefficient", "mean"),
    [([0.0, 0.0], None, 0.642057959), ([0.5, 0.0], None, 0.733685248), ([0.0, 0.0], 0.01, 0.655057959)],
)
def test_reward_losses(margins, coefficient, mean):
    chosen, rejected = jnp.array([1.2, -0.3]), jnp.array([0.4, 0.1])
    losses = reward_losses(chosen, rejected, jnp.array(margins), center_rewards_coefficient=coefficient)
    np.testing.assert_allclose(losses.mean(), mean, rtol=1e-6)
