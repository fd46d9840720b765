"""Update rules by name: what each does to stacked parameters, to frozen ones, to averages."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from easydel_models.parameters import flattened, split_params
from easydel_trainers import ConfigError, SFTConfig
from easydel_trainers.step.averaging import MovingAverageState, eval_params
from easydel_trainers.step.optimizer import make_optimizer
from easydel_trainers.step.schedule import learning_rate_schedule

RATE = 0.1


def config(**options) -> SFTConfig:
    return SFTConfig(**({"learning_rate": RATE, "scheduler": "constant", "clip_grad": None} | options))


def gradients(params):
    rng = np.random.default_rng(5)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), params)


def updates_of(options: SFTConfig, params, steps: int = 1):
    """The last of some updates with equal gradients, and the state behind it."""
    optimizer = make_optimizer(options, learning_rate_schedule(options, total_steps=10))
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = jax.jit(optimizer.update)(gradients(params), state, params)
    return updates, state


@pytest.fixture(scope="module")
def params():
    from easydel_models import AutoEasyDeLModelForCausalLM, DecoderConfig

    config = DecoderConfig(vocab_size=200, dim=128, num_layers=2, num_heads=2, num_kv_heads=2, mlp_dim=136)
    return split_params(AutoEasyDeLModelForCausalLM.from_config(config, seed=3))[1]


def test_muon_orthogonalises_every_layers_kernels_and_leaves_the_rest_to_adamw(params):
    updates, _ = updates_of(config(optimizer="muon"), params)
    for name in ("query", "down", "gate"):
        kernels = np.asarray(updates["layers"][name])
        for kernel in kernels:
            singular = np.linalg.svd(kernel, compute_uv=False)
            expected = RATE * 0.2 * np.sqrt(max(kernel.shape))  # 0.2 RMS, whatever the shape
            assert singular.max() < 1.35 * expected
            assert np.quantile(singular, 0.1) > 0.6 * expected  # five iterations leave the smallest behind
    adamw, _ = updates_of(config(optimizer="adamw"), params)
    for name in ("embedding", "head", "final_norm"):
        np.testing.assert_allclose(updates[name], adamw[name], rtol=1e-6)
    np.testing.assert_allclose(updates["layers"]["mlp_norm"], adamw["layers"]["mlp_norm"], rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["muon", "adafactor"])
def test_stacked_layers_are_updated_as_if_each_were_alone(params, optimizer):
    """Layer 1's update does not depend on layer 0's gradient: scale that by a thousand."""
    options = config(optimizer=optimizer)
    rule = make_optimizer(options, learning_rate_schedule(options, total_steps=10))
    grads = gradients(params)
    loud = grads | {"layers": jax.tree.map(lambda g: g.at[0].multiply(1000.0), grads["layers"])}
    (one, _), (other, _) = (rule.update(g, rule.init(params), params) for g in (grads, loud))
    for name, update in one["layers"].items():
        np.testing.assert_allclose(update[1], other["layers"][name][1], rtol=1e-5, atol=1e-8)


def test_adafactor_holds_rows_and_columns_instead_of_second_moments(params):
    _, state = updates_of(config(optimizer="adafactor"), params)
    held = sum(leaf.size for leaf in jax.tree.leaves(state))
    assert held < 0.05 * sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "adafactor", "muon", "sgd", "schedule_free"])
def test_decay_shrinks_matrices_and_spares_norms(params, optimizer):
    with_decay, _ = updates_of(config(optimizer=optimizer, weight_decay=0.1), params)
    without, _ = updates_of(config(optimizer=optimizer), params)
    decayed = {
        name: not np.allclose(update, flattened(without)[name], rtol=1e-6, atol=1e-9)
        for name, update in flattened(with_decay).items()
    }
    norms = {"final_norm", "layers.attention_norm", "layers.mlp_norm"}
    assert decayed == {name: name not in norms for name in decayed}


def test_frozen_parameters_do_not_move_and_hold_no_state(params):
    options = config(frozen_parameters=["embedding", r"^layers\.(query|key)$"])
    updates, state = updates_of(options, params)
    still = {name for name, update in flattened(updates).items() if not np.any(update)}
    assert still == {"embedding", "layers.query", "layers.key"}
    _, all_state = updates_of(config(), params)
    frozen = sum(flattened(params)[name].size for name in still)
    held, all_held = (sum(leaf.size for leaf in jax.tree.leaves(s)) for s in (state, all_state))
    assert all_held - held == 2 * frozen


def test_frozen_gradients_do_not_count_for_clipping(params):
    options = config(optimizer="sgd", clip_grad=1.0, frozen_parameters=["embedding"])
    updates, _ = updates_of(options, params)
    assert float(optax.tree.norm(updates)) == pytest.approx(RATE, rel=1e-5)


@pytest.mark.parametrize(("pattern", "message"), [("attention_nrom", "attention_norm"), (".", "leave a parameter")])
def test_patterns_that_freeze_nothing_or_everything_are_refused(params, pattern, message):
    with pytest.raises(ConfigError, match=message):
        updates_of(config(frozen_parameters=[pattern]), params)


@pytest.mark.parametrize("frozen", [(), ("embedding",)])
def test_a_moving_average_follows_the_parameters(params, frozen):
    options = config(optimizer="sgd", ema_decay=0.75, frozen_parameters=frozen)
    rule = make_optimizer(options, learning_rate_schedule(options, total_steps=10))
    state, now = rule.init(params), params
    expected = np.asarray(params["layers"]["up"])
    for _ in range(3):
        updates, state = rule.update(gradients(params), state, now)
        now = optax.apply_updates(now, updates)
        expected = 0.75 * expected + 0.25 * np.asarray(now["layers"]["up"])
    assert isinstance(state, MovingAverageState)
    np.testing.assert_allclose(eval_params(now, state)["layers"]["up"], expected, rtol=1e-5)


@pytest.mark.parametrize("frozen", [(), ("embedding",)])
def test_schedule_free_judges_the_average_of_its_iterates(params, frozen):
    options = config(optimizer="schedule_free", frozen_parameters=frozen)
    rule = make_optimizer(options, learning_rate_schedule(options, total_steps=10))
    state, now = rule.init(params), params
    iterates = []
    for _ in range(3):
        updates, state = rule.update(gradients(params), state, now)
        now = optax.apply_updates(now, updates)
        (z,) = (s.z for s in jax.tree.leaves(state, is_leaf=lambda s: hasattr(s, "z")) if hasattr(s, "z"))
        iterates.append(np.asarray(z["layers"]["up"]))
    average = eval_params(now, state)
    np.testing.assert_allclose(average["layers"]["up"], np.mean(iterates, axis=0), rtol=1e-4, atol=1e-6)
    assert jax.tree.structure(average) == jax.tree.structure(params)


def test_wsd_is_flat_then_falls_in_the_last_steps():
    options = SFTConfig(learning_rate=1.0, learning_rate_end=0.2, scheduler="wsd", warmup_steps=2, decay_steps=4)
    schedule = learning_rate_schedule(options, total_steps=10)
    rates = [float(schedule(step)) for step in range(11)]
    np.testing.assert_allclose(rates, [0, 0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2], atol=1e-6)


def test_wsd_decays_over_a_tenth_unless_told(params):
    options = SFTConfig(learning_rate=1.0, scheduler="wsd")
    schedule = learning_rate_schedule(options, total_steps=20)
    assert [float(schedule(step)) for step in (17, 18, 19, 20)] == pytest.approx([1, 1, 0.5, 0])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"optimizer": "schedule_free"}, "scheduler"),
        ({"optimizer": "schedule_free", "scheduler": "constant", "ema_decay": 0.9}, "ema_decay"),
        ({"decay_steps": 5}, "decay_steps"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"frozen_parameters": "embedding"}, "frozen_parameters"),
        ({"frozen_parameters": ["("]}, "frozen_parameters"),
    ],
)
def test_contradictions_name_their_field(options, field):
    with pytest.raises(ConfigError) as caught:
        SFTConfig(**options)
    assert caught.value.field == field


def decayed(options: SFTConfig, leaf, *, steps: int):
    """The second moment of one parameter behind a gradient of 10 and so many steps without any."""
    rule = make_optimizer(options, learning_rate_schedule(options, total_steps=steps + 1))
    params = {"layers": {"up": leaf}}
    state = rule.init(params)
    update = jax.jit(rule.update)
    for step in range(steps + 1):
        grads = jax.tree.map(lambda p, step=step: jnp.full_like(p, 10.0 if step == 0 else 0.0), params)
        _, state = update(grads, state, params)
    (nu,) = [s.nu for s in jax.tree.leaves(state, is_leaf=lambda s: hasattr(s, "nu")) if hasattr(s, "nu")]
    return nu["layers"]["up"]


def test_moments_of_bfloat16_parameters_decay():
    """0.1 * 0.999 ** 1000 is 0.0368; in bfloat16 every step rounds back to 0.0981."""
    leaf = jnp.ones((1, 2, 2), jnp.bfloat16)
    moment = decayed(config(param_dtype="bfloat16"), leaf, steps=1000)
    assert moment.dtype == jnp.float32
    np.testing.assert_allclose(moment, 0.1 * 0.999**1000, rtol=1e-3)


@pytest.mark.parametrize("options", [{"ema_decay": 0.999}, {"optimizer": "schedule_free"}], ids=["ema", "free"])
def test_an_average_of_bfloat16_parameters_moves_as_that_of_float32(options):
    def run(dtype: str):
        chosen = config(learning_rate=1e-4, param_dtype=dtype, **options)
        rule = make_optimizer(chosen, learning_rate_schedule(chosen, total_steps=300))
        now = {"layers": {"up": jnp.ones((1, 2, 2), dtype)}}
        state, grads = rule.init(now), {"layers": {"up": jnp.ones((1, 2, 2), dtype)}}
        if "ema_decay" in options:
            now = {"layers": {"up": jnp.full((1, 2, 2), 0.5, dtype)}}  # what the average is to come to
            grads = jax.tree.map(jnp.zeros_like, grads)

        def step(carry, _):
            updates, state = rule.update(grads, carry[1], carry[0])
            return (optax.apply_updates(carry[0], updates), state), None

        (now, state), _ = jax.lax.scan(step, (now, state), length=300)
        average = eval_params(now, state)
        assert jax.tree.map(lambda leaf: leaf.dtype, average) == jax.tree.map(lambda leaf: leaf.dtype, now)
        return np.asarray(average["layers"]["up"], np.float32)

    exact, coarse = run("float32"), run("bfloat16")
    assert abs(1 - exact).min() > 0.01
    np.testing.assert_allclose(coarse, exact, atol=2**-9)


def test_schedule_free_without_its_average_is_refused():
    with pytest.raises(ConfigError, match="adam_beta1"):
        SFTConfig(optimizer="schedule_free", scheduler="constant", adam_beta1=0.0)
