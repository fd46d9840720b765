"""One optimizer step: however its rows are split and laid out, loss and gradient are the same."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from easydel_models.parameters import split_params
from easydel_trainers import SFTConfig
from easydel_trainers.algorithms.sft.algorithm import SFTObjective
from easydel_trainers.data.layout import IGNORE_INDEX, StepLayout
from easydel_trainers.step.optimizer import decays
from easydel_trainers.step.step import TrainState, make_train_step

LENGTHS = (5, 31, 12, 3, 20, 9, 17, 26)


def rows():
    """Rows of unequal length and unequal share of trained tokens: where a mean of means would show."""
    rng = np.random.default_rng(3)
    out = []
    for number, length in enumerate(LENGTHS):
        ids = rng.integers(3, 97, length).astype(np.int32)
        labels = ids.copy()
        labels[: length * number // 10] = IGNORE_INDEX
        out.append({"input_ids": ids, "labels": labels})
    return out


def one_step(model, *, micro_batches, padding_free, loss_type="nll", buckets=None, pad_left=False):
    """Loss, gradient norm, and the parameters after one step of plain SGD (so: the gradient)."""
    structure, params = split_params(model)
    params = jax.tree.map(jnp.copy, params)
    config = SFTConfig(loss_type=loss_type, max_length=64)
    optimizer = optax.sgd(1.0)
    layout = StepLayout(
        micro_batches=micro_batches,
        rows=8 // micro_batches,
        padding_free=padding_free,
        buckets=buckets,
        pad_left=pad_left,
    )
    objective = SFTObjective(structure=structure, config=config)
    step = make_train_step(objective, optimizer, optax.constant_schedule(1.0))
    before = jax.tree.map(np.asarray, params)
    batch = {name: jnp.asarray(array) for name, array in layout.arrange(rows()).items()}
    state, result = step(TrainState(params, optimizer.init(params), jnp.int32(0)), batch)
    gradient = jax.tree.map(lambda b, a: b - np.asarray(a), before, state.params)
    loss_sum, weight = result.ratios["loss"]
    return float(loss_sum) / float(weight), float(result.grad_norm), gradient


@pytest.mark.parametrize(
    ("micro_batches", "padding_free", "loss_type"),
    [(2, False, "nll"), (8, False, "nll"), (1, True, "nll"), (4, True, "nll"), (4, False, "dft"), (2, True, "dft")],
)
def test_split_and_layout_do_not_matter(tiny_model, micro_batches, padding_free, loss_type):
    loss, norm, gradient = one_step(tiny_model, micro_batches=1, padding_free=False, loss_type=loss_type)
    other_loss, other_norm, other = one_step(
        tiny_model, micro_batches=micro_batches, padding_free=padding_free, loss_type=loss_type
    )
    assert other_loss == pytest.approx(loss, rel=1e-5)
    assert other_norm == pytest.approx(norm, rel=1e-5)
    for ours, theirs in zip(jax.tree.leaves(other), jax.tree.leaves(gradient), strict=True):
        assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs) + 1e-8


def test_more_padding_changes_nothing(tiny_model):
    loss, norm, _ = one_step(tiny_model, micro_batches=1, padding_free=False)
    wide_loss, wide_norm, _ = one_step(tiny_model, micro_batches=1, padding_free=False, buckets=(128,))
    assert wide_loss == pytest.approx(loss, rel=1e-6)
    assert wide_norm == pytest.approx(norm, rel=1e-5)


def test_the_side_of_the_padding_changes_nothing(tiny_model):
    loss, norm, _ = one_step(tiny_model, micro_batches=1, padding_free=False)
    left_loss, left_norm, _ = one_step(tiny_model, micro_batches=1, padding_free=False, pad_left=True)
    assert left_loss == pytest.approx(loss, rel=1e-5)
    assert left_norm == pytest.approx(norm, rel=1e-5)


def test_weight_decay_spares_vectors_of_stacked_layers(tiny_model):
    _, params = split_params(tiny_model)
    mask = decays(params)
    assert mask["embedding"] is True
    assert mask["layers"]["query"] is True
    assert mask["layers"]["mlp_norm"] is False
    assert mask["final_norm"] is False


def test_updates_that_round_away_are_counted_in_coarse_types_only():
    import jax.numpy as jnp
    from easydel_trainers.step.step import _rounded_away

    before = {"coarse": jnp.ones(4, jnp.bfloat16), "fine": jnp.ones(4, jnp.float32)}
    updates = {"coarse": jnp.asarray([1e-4, 0.0, 1e-1, -1e-5]), "fine": jnp.full(4, 1e-4)}
    after = {name: (before[name] + updates[name]).astype(before[name].dtype) for name in before}
    ((name, (kept, moved)),) = _rounded_away(before, updates, after).items()
    assert (name, float(kept), float(moved)) == ("updates_rounded_away", 2.0, 3.0)
    assert _rounded_away({"fine": before["fine"]}, {"fine": updates["fine"]}, {"fine": after["fine"]}) == {}


def test_a_run_whose_updates_round_away_says_so_once(tiny_model, tokenizer, text_rows, caplog):
    import copy
    import logging

    from easydel_trainers import SFTConfig, SFTTrainer

    options = {
        "total_batch_size": 4,
        "max_length": 32,
        "max_training_steps": 2,
        "length_buckets": [128],
        "log_steps": 1,
    }
    arguments = SFTConfig(**options, learning_rate=1e-6, param_dtype="bfloat16")
    with caplog.at_level(logging.WARNING):
        rows = {"processing_class": tokenizer, "train_dataset": text_rows}
        output = SFTTrainer(copy.deepcopy(tiny_model), arguments, **rows).train()
    assert output.history[0]["updates_rounded_away"] > 0.5
    assert caplog.text.count("% of the updates are too small for parameters in bfloat16") == 1
