"""GRPO's arithmetic: hand-worked losses and gradients, advantages, and weights for another engine's tokens."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_trainers import ConfigError, GRPOConfig
from easydel_trainers.algorithms.grpo.advantages import advantages_of, mean_and_deviation
from easydel_trainers.algorithms.grpo.corrections import correction_metrics, corrections_of
from easydel_trainers.algorithms.grpo.loss import (
    GRPOOptions,
    Rows,
    Tokens,
    grpo_loss,
    kl_estimates,
    loss_weight,
    policy_losses,
)
from easydel_trainers.algorithms.grpo.objective import objective_metrics
from hypothesis import given, settings
from hypothesis import strategies as st

RATIOS = [1.5, 0.7, 1.0]
NUMBERS = jnp.asarray([1, 1, 1, 2, 2, 2])  # two rows of three positions
ROWS = Rows(NUMBERS, jnp.ones(2))
MASK = jnp.asarray([1.0, 1, 1, 1, 1, 0])
ADVANTAGES = jnp.asarray([1.0, -1.0])


def tokens(ratios=(*RATIOS, *RATIOS), mask=MASK, reference=0.0) -> Tokens:
    logps = jnp.log(jnp.asarray(ratios, jnp.float32)) - 2.0
    zeros = jnp.zeros(len(ratios))
    return Tokens(logps, zeros - 2.0, logps + reference, zeros + 0.5, mask, jnp.ones(len(ratios)))


@pytest.mark.parametrize(
    ("loss_type", "expected"), [("grpo", 0.0916666667), ("bnpo", -0.12), ("dapo", -0.12), ("dr_grpo", -0.075)]
)
def test_two_rows_worked_by_hand(loss_type, expected):
    total, metrics = grpo_loss(tokens(), ROWS, ADVANTAGES, GRPOOptions(loss_type=loss_type))
    weight = loss_weight(MASK, jnp.ones(2), loss_type=loss_type, max_completion_length=4)
    assert float(total / weight) == pytest.approx(expected, abs=1e-6)
    assert [float(part) for part in metrics["clip_ratio/high_mean"]] == [1.0, 5.0]  # 1.5 of the better row
    assert [float(part) for part in metrics["clip_ratio/low_mean"]] == [1.0, 5.0]  # 0.7 of the worse row
    assert [float(part) for part in metrics["clip_ratio/high_max"]] == pytest.approx([1 / 3, 1.0])
    assert [float(part) for part in metrics["clip_ratio/low_min"]] == [0.0, 1.0]


def test_sapo_worked_by_hand():
    per_token = policy_losses(
        jnp.asarray([*RATIOS, *RATIOS]), jnp.zeros(6), jnp.repeat(ADVANTAGES, 3), GRPOOptions(loss_type="sapo")
    )
    expected = [-2.48983732, -1.70222993, -2, 2.39358548, 1.60721816, 1.9047619]
    np.testing.assert_allclose(per_token, expected, rtol=1e-6)


def test_the_divergence_is_added_per_token():
    options = GRPOOptions(loss_type="dapo", beta=0.5, use_bias_correction_kl=False)
    plain, _ = grpo_loss(tokens(), ROWS, ADVANTAGES, GRPOOptions(loss_type="dapo"))
    held, metrics = grpo_loss(tokens(reference=0.2), ROWS, ADVANTAGES, options)
    assert float(held - plain) == pytest.approx(0.5 * 5 * 0.0214027582, rel=1e-4)
    assert float(metrics["kl"][0]) == pytest.approx(5 * 0.0214027582, rel=1e-4)
    corrected, _ = grpo_loss(
        tokens(reference=0.2), ROWS, ADVANTAGES, GRPOOptions(loss_type="dapo", beta=0.5, use_bias_correction_kl=True)
    )
    assert float(corrected - plain) == pytest.approx(0.5 * 0.0214027582 * (1.5 + 0.7 + 1 + 1.5 + 0.7), rel=1e-4)


@pytest.mark.parametrize(
    ("ratio", "advantage", "flows"),
    [(1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False), (1.1, 1.0, True), (0.9, -1.0, True)],
)
def test_clipping_stops_the_gradient_only_where_the_ratio_has_gone_too_far(ratio, advantage, flows):
    slope = jax.grad(lambda r: policy_losses(r, r, jnp.asarray([advantage]), GRPOOptions()).sum())(jnp.asarray([ratio]))
    assert float(slope[0]) == pytest.approx(-advantage if flows else 0.0)


def test_delta_bounds_the_ratio_of_bad_completions():
    bad = jnp.asarray([-1.0])
    slope = jax.grad(lambda r: policy_losses(r, r, bad, GRPOOptions(delta=2.0)).sum())
    assert float(slope(jnp.asarray([1.9]))[0]) == pytest.approx(1.0)
    assert float(slope(jnp.asarray([2.1]))[0]) == 0.0


def test_cispo_weighs_the_log_probability_and_passes_no_gradient_through_the_ratio():
    options = GRPOOptions(loss_type="cispo", epsilon_high=5.0)

    def loss(logps):
        held = tokens()._replace(logps=logps)
        return grpo_loss(held, ROWS, ADVANTAGES, options)[0]

    slope = jax.grad(loss)(tokens().logps)
    np.testing.assert_allclose(slope, [-1.5, -0.7, -1.0, 1.5, 0.7, 0.0], rtol=1e-5)


def test_a_sequence_ratio_is_the_geometric_mean_and_shares_its_gradient():
    options = GRPOOptions(loss_type="grpo", ratio_level="sequence", epsilon=10.0, epsilon_high=10.0)

    def loss(logps):
        return grpo_loss(tokens()._replace(logps=logps), ROWS, ADVANTAGES, options)[0]

    first, second = (1.5 * 0.7 * 1.0) ** (1 / 3), (1.5 * 0.7) ** (1 / 2)
    assert float(loss(tokens().logps)) == pytest.approx(-first + second, rel=1e-5)
    slope = jax.grad(loss)(tokens().logps)
    np.testing.assert_allclose(slope, [-first / 3] * 3 + [second / 2] * 2 + [0.0], rtol=1e-5)


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_step_in_which_nothing_counts_is_zero_and_finite(loss_type, level):
    options = GRPOOptions(loss_type=loss_type, ratio_level=level, beta=0.1)

    def loss(logps):
        return grpo_loss(tokens(mask=jnp.zeros(6))._replace(logps=logps), ROWS, ADVANTAGES, options)

    (total, metrics), slope = jax.value_and_grad(loss, has_aux=True)(tokens().logps)
    assert float(total) == 0.0
    assert not np.any(slope)
    assert all(np.isfinite(float(number)) for pair in metrics.values() for number in pair)


def test_advantages_worked_by_hand():
    rewards = np.asarray([[1], [0], [0.5], [0.5], [2], [2], [2], [2]], np.float32)
    one = np.ones(1, np.float32)
    by_group = advantages_of(rewards, weights=one, group=4)
    np.testing.assert_allclose(by_group.advantages[:4], [1.22444494, -1.22444494, 0, 0], rtol=1e-6)
    assert by_group.without_spread.tolist() == [False] * 4 + [True] * 4
    by_batch = advantages_of(rewards, weights=one, group=4, scale="batch")
    np.testing.assert_allclose(by_batch.advantages[:2], [0.591537987, -0.591537987], rtol=1e-6)
    plain = advantages_of(rewards, weights=one, group=4, scale="none")
    assert plain.advantages.tolist() == [0.5, -0.5, 0, 0, 0, 0, 0, 0]


def test_each_function_counts_alike_where_rewards_are_normalised_first():
    rewards = np.asarray([[1, 1000], [0, 0], [0, 0], [1, 1000]], np.float32)
    weights = np.asarray([1, 1], np.float32)
    both = advantages_of(rewards, weights=weights, group=4, aggregation="normalize_then_sum")
    first = advantages_of(rewards[:, :1], weights=weights[:1], group=4, aggregation="normalize_then_sum")
    np.testing.assert_allclose(both.advantages, first.advantages, rtol=1e-3)
    np.testing.assert_allclose(both.advantages, [0.866, -0.866, -0.866, 0.866], atol=2e-3)


REWARD = st.none() | st.floats(-1e3, 1e3, width=32)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(REWARD, min_size=2, max_size=2), min_size=8, max_size=8),
    st.sampled_from(["group", "batch", "none"]),
    st.sampled_from(["sum_then_normalize", "normalize_then_sum"]),
)
def test_advantages_are_finite_and_silent_completions_have_none(matrix, scale, aggregation):
    rewards = np.asarray([[np.nan if value is None else value for value in row] for row in matrix], np.float32)
    found = advantages_of(rewards, weights=np.ones(2, np.float32), group=4, scale=scale, aggregation=aggregation)
    assert np.isfinite(found.advantages).all()
    assert not found.advantages[np.isnan(rewards).all(axis=1)].any()
    groups = found.advantages.reshape(2, 4)[::-1]
    turned = advantages_of(
        rewards.reshape(2, 4, 2)[::-1].reshape(8, 2),
        weights=np.ones(2, np.float32),
        group=4,
        scale=scale,
        aggregation=aggregation,
    )
    np.testing.assert_allclose(turned.advantages.reshape(2, 4), groups, rtol=1e-3, atol=1e-3)


def shaped(values) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(1, 1, -1)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("token_truncate", [3.0, 1.0, 0.25, 1.0, 1.0]),
        ("token_mask", [0.0, 1.0, 0.25, 1.0, 1.0]),
        ("sequence_truncate", [3.0, 3.0, 0.25, 0.25, 1.0]),
        ("sequence_mask", [0.0, 0.0, 0.25, 0.25, 1.0]),
    ],
)
def test_weights_for_tokens_of_another_engine(mode, expected):
    config = GRPOConfig(importance_sampling_mode=mode)
    old, engine = shaped(np.log([4.0, 1.0, 0.25, 1.0, 9.0])), shaped(np.zeros(5))
    counted = np.asarray([[[True, True, True, True, False]]])
    segments = np.asarray([[[1, 1, 2, 2, 0]]])
    weights = corrections_of(old, engine, counted, segments, config)
    np.testing.assert_allclose(weights[0, 0], expected, rtol=1e-6)
    metrics = correction_metrics(old, engine, counted, weights)
    assert metrics["sampling/sampling_logp_difference/max"] == pytest.approx((np.log(4.0), 1.0))
    assert metrics["sampling/importance_sampling_ratio/max"][0] == pytest.approx(max(expected[:4]))


def test_a_log_probability_that_the_engine_left_out_corrects_nothing():
    config = GRPOConfig(importance_sampling_mode="token_truncate")
    weights = corrections_of(
        shaped([-1.0, -50.0]), shaped([np.nan, 50.0]), np.ones((1, 1, 2), bool), np.ones((1, 1, 2), int), config
    )
    assert weights[0, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-30)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_return_sequences": 1}, "at least 2"),
        ({"num_return_sequences": 3}, "multiple of num_return_sequences"),
        ({"max_length": 100}, "max_completion_length"),
        ({"loss_type": "ppo"}, "dr_grpo"),
        ({"loss_type": "cispo"}, "5.0"),
        ({"loss_type": "sapo", "delta": 2.0}, "does not clip"),
        ({"delta": 1.1}, "more than 1"),
        ({"beta": -1.0}, "beta"),
        ({"sync_ref_model": True}, "beta is 0"),
        ({"steps_off_policy": 2}, "0 or 1"),
        ({"temperature": 0.0}, "temperature"),
        ({"min_p": 1.5}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"top_entropy_quantile": 0.0}, "top_entropy_quantile"),
        ({"importance_sampling_clip_min": 5.0}, "largest weight"),
        ({"reward_timeout": 0.0}, "reward_timeout"),
    ],
)
def test_what_cannot_work_is_refused(options, named):
    with pytest.raises(ConfigError, match=named):
        GRPOConfig(**options)


def test_names_of_trl_and_lengths():
    config = GRPOConfig(num_generations=4, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert (config.num_return_sequences, config.total_batch_size) == (4, 2 * 4 * jax.device_count())
    assert GRPOConfig(vllm_importance_sampling_mode="token_mask").importance_sampling_mode == "token_mask"
    with pytest.raises(ConfigError, match="num_iterations"):
        GRPOConfig(steps_per_generation=4)
    assert GRPOConfig().max_length == 512 + 256
    assert GRPOConfig(max_prompt_length=None).max_length is None
    assert GRPOConfig(max_prompt_length=None, max_length=300).max_prompt_length == 44


@pytest.mark.parametrize("value", [1000.1, 0.1, 3e-9, -1e30, 7.0, 0.0])
@pytest.mark.parametrize("group", [7, 8, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"scale": "batch"}, {"scale": "none"}, {"aggregation": "normalize_then_sum"}],
    ids=["group", "batch", "none", "each"],
)
def test_equal_rewards_teach_exactly_nothing(options, group, value):
    """The float32 mean of seven times 1000.1 is not 1000.1: its residue must not be taken for a difference."""
    rewards = np.full((2 * group, 2), value, np.float32)
    found = advantages_of(rewards, weights=np.asarray([1.0, 0.3], np.float32), group=group, **options)
    assert not found.advantages.any()
    assert found.without_spread.all()
    assert mean_and_deviation(rewards[:, 0])[1] == 0.0


def test_rewards_that_differ_by_a_little_differ():
    rewards = np.asarray([[1000.1], [1000.2], [1e-9], [3e-9]], np.float32)
    found = advantages_of(rewards, weights=np.ones(1, np.float32), group=2)
    assert (found.advantages != 0).all()
    assert not found.without_spread.any()


def test_equal_rewards_with_a_silent_function_teach_nothing():
    rewards = np.asarray([[1000.1, np.nan]] * 3 + [[np.nan, np.nan]], np.float32)
    found = advantages_of(rewards, weights=np.ones(2, np.float32), group=4)
    assert not found.advantages.any()


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("correction", [True, False])
def test_policies_that_are_worlds_apart_give_finite_losses_that_point_back(correction, level):
    """e^200 has no float32; the divergence must stay a number, and its gradient raise what the reference prefers."""
    options = GRPOOptions(beta=0.1, use_bias_correction_kl=correction, ratio_level=level)
    zeros = jnp.zeros(6)

    def loss(logps):
        far = Tokens(logps, zeros - 1.0, logps * 0 - 1.0, zeros, MASK, jnp.ones(6))
        return grpo_loss(far, ROWS, ADVANTAGES * 0, options)[0]

    value, gradient = jax.value_and_grad(loss)(zeros - 200.0)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if not correction:
        assert (gradient[:5] < 0).all()  # descent raises the log-probabilities


def test_the_divergence_is_that_of_the_formula_where_it_is_no_giant():
    apart = jnp.asarray([-3.0, 0.0, 0.5, 5.0, 19.0])
    expected = np.exp(np.asarray(apart, np.float64)) - np.asarray(apart) - 1
    np.testing.assert_allclose(kl_estimates(jnp.zeros(5), apart), expected, rtol=1e-6)


def test_the_names_of_the_losses_metrics_are_known_without_a_rollout():
    names = objective_metrics(GRPOConfig(beta=0.1))
    assert {"entropy", "kl", "clip_ratio/low_min", "clip_ratio/high_max"} <= names
    assert "kl" not in objective_metrics(GRPOConfig())
