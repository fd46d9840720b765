"""Packing: the same loss and gradient as the documents alone, one shape, exact positions, nothing lost silently."""

from __future__ import annotations

import copy
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from easydata_mix import MixedShardedSource, WeightSchedulePoint, WeightScheduler
from easydata_sources import DataError, MemoryShardedSource
from easydata_tokenize import PackedShardedSource
from easydel_models.parameters import split_params
from easydel_trainers import Callback, ConfigError, SFTConfig, SFTTrainer
from easydel_trainers.algorithms.sft.algorithm import SFTObjective
from easydel_trainers.data.layout import IGNORE_INDEX, StepLayout
from easydel_trainers.step.step import TrainState, make_train_step


def config(**options) -> SFTConfig:
    shared = {"learning_rate": 1e-2, "total_batch_size": 2, "max_length": 32, "packing": True, "log_steps": 1}
    return SFTConfig(**(shared | options))


@pytest.fixture
def make(tiny_model, tokenizer, text_rows):
    def make(arguments: SFTConfig, **options) -> SFTTrainer:
        options = {"train_dataset": text_rows, "processing_class": tokenizer} | options
        return SFTTrainer(copy.deepcopy(tiny_model), arguments, **options)

    return make


def one_step(model, rows, layout):
    """Loss and gradient: the parameters before and after one step of plain gradient descent."""
    structure, params = split_params(model)
    before = jax.tree.map(np.asarray, params)
    objective = SFTObjective(structure=structure, config=SFTConfig(max_length=32))
    optimizer = optax.sgd(1.0)
    step = make_train_step(objective, optimizer, optax.constant_schedule(1.0))
    batch = {name: jnp.asarray(array) for name, array in layout.arrange(rows).items()}
    params = jax.tree.map(jnp.copy, params)
    state, result = step(TrainState(params, optimizer.init(params), jnp.int32(0)), batch)
    total, weight = result.ratios["loss"]
    gradient = jax.tree.map(lambda old, new: old - np.asarray(new), before, state.params)
    return float(total) / float(weight), jax.tree.leaves(gradient)


@pytest.mark.parametrize("padding_free", [True, False])
@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_a_packed_batch_is_worth_its_documents(make, tiny_model, strategy, padding_free):
    trainer = make(config(packing_strategy=strategy, max_length=24, max_training_steps=1))
    packs = list(itertools.islice(trainer.data.in_order(trainer.data.training_transform()), 4))
    assert max(row["segment_ids"].max() for row in packs) > 1
    documents = [
        {name: row[name][row["segment_ids"] == number] for name in ("input_ids", "labels")}
        for row in packs
        for number in range(1, row["segment_ids"].max() + 1)
    ]
    packed = StepLayout(micro_batches=2, rows=2, padding_free=padding_free, pack_length=24)
    padded = StepLayout(micro_batches=1, rows=len(documents), padding_free=False)
    loss, gradient = one_step(tiny_model, packs, packed)
    expected, by_document = one_step(tiny_model, documents, padded)
    assert loss == pytest.approx(expected, rel=1e-5)
    for ours, theirs in zip(gradient, by_document, strict=True):
        assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs) + 1e-8


@pytest.mark.parametrize(("padding_free", "shape"), [(True, (2, 1, 64)), (False, (2, 2, 32))])
def test_every_step_has_one_shape_whatever_its_rows(make, padding_free, shape):
    arguments = config(padding_free=padding_free, total_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=2)
    trainer, shapes = make(arguments), []

    class Shapes(Callback):
        def on_end(self, run):
            shapes.extend(run.shapes)

    trainer.callbacks = (Shapes(),)
    output = trainer.train()
    assert shapes == [shape]
    assert output.metrics["compilations"] == 1
    assert output.global_step == trainer.total_steps


def test_a_step_counts_packs_and_an_epoch_trains_every_token_once(make, text_rows):
    trainer = make(config())
    output = trainer.train()
    tokens = sum(len(row["text"].split()) + 1 for row in text_rows)
    assert output.metrics["num_tokens"] == tokens
    assert output.global_step == trainer.total_steps < -(-len(text_rows) // 2)
    assert output.metrics["num_tokens"] / (output.global_step * 2 * 32) > 0.8
    assert output.data_report["rows"] == len(text_rows)


def test_a_plain_run_over_packs_made_before_is_the_same(make, text_rows, tokenizer):
    ids = [tokenizer(row["text"] + " </s>")["input_ids"] for row in text_rows]
    tokens = MemoryShardedSource([{"input_ids": row, "labels": row} for row in ids])
    packs = PackedShardedSource(tokens, 32, "bfd")
    options = {"shuffle_train_dataset": False, "max_training_steps": 5}
    before = make(config(packing=False, **options), train_dataset=packs).train()
    within = make(config(**options)).train()
    assert [record["loss"] for record in before.history] == pytest.approx(
        [record["loss"] for record in within.history], rel=1e-5
    )


def test_packs_are_not_packed_again(make):
    packs = PackedShardedSource(MemoryShardedSource([{"input_ids": [5, 6, 7]}, {"input_ids": [8, 9]}]), 8)
    with pytest.raises(DataError, match="pack already"):
        make(config(max_training_steps=1), train_dataset=packs)


def test_evaluation_packs_too_and_gives_the_same_loss(make, text_rows):
    text_rows = text_rows[:8]
    losses = [
        make(config(max_training_steps=1, eval_packing=packed)).evaluate(text_rows)["eval_loss"]
        for packed in (None, False)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    whole, cut = (
        {"packing_strategy": "bfd_split", "eval_packing": packed, "max_length": 12} for packed in (True, False)
    )
    split, short = (make(config(max_training_steps=1, **options)).evaluate(text_rows) for options in (whole, cut))
    assert split["eval_loss"] != pytest.approx(short["eval_loss"], rel=1e-4)  # what follows the cut is held out too


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "truncated"),
        ({"packing_strategy": "bfd_split"}, "split"),
        ({"packing_strategy": "wrapped"}, "split"),
        ({"packing_over_long": "drop"}, "dropped_too_long"),
    ],
)
def test_what_happens_to_longer_rows_is_counted(make, text_rows, options, reason):
    longer = sum(len(row["text"].split()) + 1 > 16 for row in text_rows)
    output = make(config(max_length=16, **options)).train()
    assert output.data_report[reason] == longer
    tokens = [len(row["text"].split()) + 1 for row in text_rows]
    kept = {
        "truncated": [min(n, 16) for n in tokens],
        "split": tokens,
        "dropped_too_long": [n for n in tokens if n <= 16],
    }
    assert output.metrics["num_tokens"] == sum(kept[reason])


def test_a_longer_row_can_be_an_error_that_names_it(make, text_rows):
    number = next(n for n, row in enumerate(text_rows) if len(row["text"].split()) + 1 > 16)
    with pytest.raises(DataError, match=rf"row: {number}\b"):
        make(config(max_length=16, packing_over_long="error", shuffle_train_dataset=False))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"packing": False, "packing_strategy": "wrapped"}, "packing_strategy"),
        ({"packing": False, "eval_packing": True}, "eval_packing"),
        ({"packing_strategy": "best"}, "packing_strategy"),
        ({"packing_strategy": "wrapped", "packing_over_long": "drop"}, "packing_over_long"),
        ({"max_length": None}, "max_length"),
        ({"length_buckets": [64]}, "length_buckets"),
    ],
)
def test_contradictions_name_their_field(options, field):
    with pytest.raises(ConfigError, match=field):
        config(**options)


def mixture(text_rows, **options) -> MixedShardedSource:
    halves = {"a": text_rows[:25], "b": text_rows[25:]}
    return MixedShardedSource(halves, block_size=8, seed=3, **options)


def schedule(unit="step") -> WeightScheduler:
    points = [WeightSchedulePoint(0, {"a": 0.8, "b": 0.2}), WeightSchedulePoint(20, {"a": 0.2, "b": 0.8})]
    return WeightScheduler(points, unit=unit)


@pytest.mark.parametrize("shuffled", [True, False])
def test_packing_a_scheduled_mixture_goes_on_from_any_step(make, text_rows, shuffled):
    def trainer():
        data = mixture(text_rows, weight_scheduler=schedule())
        arguments = config(max_training_steps=30, shuffle_train_dataset=shuffled)
        return make(arguments, train_dataset=data)

    def steps(state):
        fresh = trainer()
        rows = fresh.data.in_order(fresh.data.training_transform(), state=state)
        return rows, itertools.islice(iter(lambda: list(itertools.islice(rows, 2)), []), 30)

    rows, whole = steps(None)
    seen = [(step, rows.state()) for step in whole]
    assert seen[-1][1]["epoch"] > 1
    for cut in (0, 7, 19):
        rest = list(steps(seen[cut][1])[1])
        for ours, (theirs, _) in zip(rest, seen[cut + 1 :], strict=False):
            for mine, other in zip(ours, theirs, strict=True):
                assert all(np.array_equal(mine[name], other[name]) for name in other)


def test_a_schedule_in_steps_is_told_how_many_rows_a_step_of_packs_reads(make, text_rows):
    data = mixture(text_rows, weight_scheduler=schedule())
    make(config(max_training_steps=5), train_dataset=data)
    tokens = np.mean([len(row["text"].split()) + 1 for row in text_rows])
    position = data.rows().state()
    assert position["rows_per_step"] == pytest.approx(2 * 32 / tokens, abs=1)
    assert position["rows_per_step"] > 2


def test_the_first_label_of_every_document_is_ignored(make):
    trainer = make(config(max_training_steps=1))
    batch = next(trainer._training_batch_iterator())
    assert batch["input_ids"].shape == (2, 32)
    rows = list(itertools.islice(trainer.data.in_order(trainer.data.training_transform()), 2))
    for line, row in enumerate(rows):
        starts = np.flatnonzero(row["position_ids"] == 0)
        assert (batch["labels"][line, starts] == IGNORE_INDEX).all()
        assert (batch["labels"][line, : len(row["labels"])] != IGNORE_INDEX).sum() == len(row["labels"]) - len(starts)


def test_rows_of_a_batch_are_described_as_packs(make):
    arguments = config(max_training_steps=1, shuffle_train_dataset=False, total_batch_size=16)
    lines = make(arguments).describe_batch(None)
    assert len(lines) == 16
    assert lines[0].startswith("train row 0, 31 tokens: 'w58 w59")
    assert any("rows packed, from the window of rows that begins at train row 0, 3" in line for line in lines)
