"""Training computed in bfloat16: the numbers of float32 within what bfloat16 allows, and every promise of exactness.

The bound. A bfloat16 has eight significant bits, so rounding to it errs by at most u = 2^-9 of the number. Products are
added up in float32 and rounded once; norms, softmax and losses are computed in float32. On the way through L layers a
hidden state is rounded some 8 times a layer, and 3 times outside them: `ROUNDINGS` = 8 L + 3. Rounding errors are of
either sign, so that the root of their number counts, with a factor of 4 for how much later layers enlarge them; all of
them alike in sign would be far beyond that. A gradient meets as many on its way back as the state did before it.
"""

from __future__ import annotations

import copy

import easydel_trainers
import jax
import numpy as np
import pytest
from easydel_models.parameters import split_params
from easydel_trainers import Callback, SFTConfig, SFTTrainer

LAYERS = 2
ROUNDINGS = 8 * LAYERS + 3
BOUND = 4 * ROUNDINGS**0.5 * 2**-9
GRADIENT_BOUND = 4 * (2 * ROUNDINGS) ** 0.5 * 2**-9

KINDS = ["SFT", pytest.param("DPO", marks=pytest.mark.thorough)]


@pytest.fixture
def run(tiny_model, tokenizer, text_rows, pair_rows):
    """One step of plain SGD: the losses, and how the parameters moved."""

    def run(kind: str, **options):
        trainer = getattr(easydel_trainers, f"{kind}Trainer")(
            copy.deepcopy(tiny_model),
            getattr(easydel_trainers, f"{kind}Config")(
                **{
                    "dtype": "bfloat16",
                    "optimizer": "sgd",
                    "learning_rate": 1.0,
                    "scheduler": "constant",
                    "clip_grad": None,
                    "total_batch_size": 8,
                    "max_training_steps": 1,
                    "gradient_checkpointing": "none",
                    "max_length": 32,
                    "log_steps": 1,
                    "length_buckets": [512],
                    "shuffle_train_dataset": False,
                }
                | options
            ),
            processing_class=tokenizer,
            train_dataset=text_rows if kind == "SFT" else pair_rows,
        )
        before = jax.tree.map(np.array, split_params(trainer.model)[1])
        history = trainer.train().history
        after = split_params(trainer.model)[1]
        moved = jax.tree.map(lambda new, old: np.asarray(new, np.float32) - old, after, before)
        return history[0]["loss"], moved

    return run


def distance(ours, theirs) -> float:
    """Of two trees of arrays, as a share of the second's size."""
    pairs = list(zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))
    apart = sum(float(np.sum(np.square(mine - its))) for mine, its in pairs)
    return (apart / sum(float(np.sum(np.square(its))) for _, its in pairs)) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_those_of_float32_within_the_bound(run, kind):
    loss, moved = run(kind)
    expected, exactly = run(kind, dtype="float32")
    assert loss == pytest.approx(expected, rel=BOUND)
    # Truly computed in bfloat16: the same numbers would be float32's.
    assert 0 < distance(moved, exactly) < GRADIENT_BOUND


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [{"gradient_accumulation_steps": 4}, {"padding_free": False}])
def test_neither_micro_batches_nor_layout_change_a_step(run, kind, layout):
    """Products of other shapes are added up in another order, in float32: few results are rounded to a neighbour."""
    loss, moved = run(kind)
    same, also = run(kind, **layout)
    assert same == pytest.approx(loss, rel=2**-9)
    assert distance(also, moved) < 2**-7


def test_packed_rows_are_worth_their_documents(run):
    """All rows in one step, in packs and each in a row of its own."""
    epoch = {"max_training_steps": None, "num_train_epochs": 1, "total_batch_size": 40, "length_buckets": None}
    loss, moved = run("SFT", packing=True, **epoch)
    alone, by_document = run("SFT", **epoch)
    assert loss == pytest.approx(alone, rel=2**-9)
    assert distance(moved, by_document) < 2**-7


class StopAfter(Callback):
    """Breaks the run off, as a kill would."""

    def on_log(self, record, run):
        if record["step"] >= 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("param_dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.thorough)])
def test_a_resumed_run_ends_with_equal_bits(tiny_model, tokenizer, text_rows, tmp_path, param_dtype):
    def make(folder: str, *callbacks: Callback) -> SFTTrainer:
        config = SFTConfig(
            dtype="bfloat16",
            param_dtype=param_dtype,
            learning_rate=1e-2,
            total_batch_size=4,
            max_length=32,
            max_training_steps=8,
            log_steps=1,
            length_buckets=[128],
            save_directory=str(tmp_path / folder),
            save_steps=4,
        )
        return SFTTrainer(
            copy.deepcopy(tiny_model),
            config,
            processing_class=tokenizer,
            train_dataset=text_rows,
            callbacks=list(callbacks),
        )

    whole = make("whole")
    losses = [record["loss"] for record in whole.train().history]
    with pytest.raises(KeyboardInterrupt):
        make("broken", StopAfter()).train()
    resumed = make("broken")
    assert [record["loss"] for record in resumed.train().history] == losses
    assert losses[-1] < losses[0]
    for ours, theirs in zip(*(jax.tree.leaves(split_params(one.model)[1]) for one in (resumed, whole)), strict=True):
        assert ours.dtype.name == param_dtype
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def test_a_run_says_before_it_begins_what_is_computed_in_float32(run, caplog, monkeypatch):
    monkeypatch.setenv("EASYDEL_CPU_BFLOAT16", "float32")
    monkeypatch.setattr("easydel_trainers.model.fit.why_not", lambda: "this CPU has no bfloat16 instructions")
    loss, moved = run("SFT")
    assert "dtype='bfloat16' is computed in float32 here" in caplog.text
    assert "this CPU has no bfloat16 instructions" in caplog.text
    expected, exactly = run("SFT", dtype="float32")
    assert (loss, distance(moved, exactly)) == (expected, 0)
