"""A checkpoint is only taken for what it is: of these weights, rows, tokenizer, reference, options and this length."""

from __future__ import annotations

import copy
import json
import logging
import shutil

import jax
import numpy as np
import pytest
from easydel_models.parameters import split_params
from easydel_trainers import CheckpointError, DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from easydel_trainers.checkpoints.params_digest import _sums_of, _sums_on_host, params_digest


def config(directory, **options) -> SFTConfig:
    shared = {"learning_rate": 1e-2, "total_batch_size": 4, "max_length": 32, "length_buckets": [128], "log_steps": 3}
    run = {"max_training_steps": 2, "save_directory": str(directory), "scheduler": "constant"}
    return SFTConfig(**(shared | run | options))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of two steps; `None` until a test has made it."""
    return {"folder": None, "made in": tmp_path_factory.mktemp("finished")}


@pytest.fixture
def parts(tiny_model, tokenizer, text_rows, finished, tmp_path):
    """What that run was made of, and a copy of its folder."""
    folder = finished["made in"] / "run"
    if finished["folder"] is None:
        options = {"processing_class": tokenizer, "train_dataset": text_rows}
        SFTTrainer(copy.deepcopy(tiny_model), config(folder), **options).train()
        finished["folder"] = folder
    shutil.copytree(folder, tmp_path / "run")
    return {"model": copy.deepcopy(tiny_model), "tokenizer": copy.deepcopy(tokenizer), "rows": list(text_rows)}


def start(parts, tmp_path, **options):
    made_of = {"processing_class": parts["tokenizer"], "train_dataset": parts["rows"]}
    return SFTTrainer(parts["model"], config(tmp_path / "run", **options), **made_of).train()


def another_model(parts):
    parts["model"].layers["up"][...] = parts["model"].layers["up"][...].at[1, 3, 5].add(1e-3)


def reversed_rows(parts):
    parts["rows"].reverse()


def swapped_rows(parts):
    parts["rows"][3], parts["rows"][4] = parts["rows"][4], parts["rows"][3]


def replaced_row(parts):
    parts["rows"][39] = {"text": "w5 w5 w5"}


def another_template(parts):
    parts["tokenizer"].chat_template = "{{ messages[0]['content'] }}"


def another_eos(parts):
    parts["tokenizer"].eos_token = "<s>"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (another_model, "weights before training"),
        (reversed_rows, "training rows, content"),
        (swapped_rows, "training rows, content"),
        (replaced_row, "training rows, content"),
        (another_template, "tokenizer, chat_template"),
        (another_eos, "tokenizer, eos_token_id: 2 then, 1 now"),
    ],
)
def test_a_folder_is_refused_by_a_run_of_other_things(parts, tmp_path, change, told):
    change(parts)
    with pytest.raises(CheckpointError, match=f"belongs to another run:\n(.*\n)*?  {told}"):
        start(parts, tmp_path)


def test_the_same_things_elsewhere_go_on(parts, tmp_path):
    """Files that were moved and written anew, a tokenizer that has padded and cut since: still the same run."""
    parts["tokenizer"](["w3 w4", "w5"], padding=True, truncation=True, max_length=4)
    model = copy.deepcopy(parts["model"])
    assert start(parts, tmp_path).global_step == 2
    (tmp_path / "elsewhere").mkdir()
    for place in (tmp_path, tmp_path / "elsewhere"):
        (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in parts["rows"]))
        made_of = {"processing_class": parts["tokenizer"], "train_dataset": place / "rows.jsonl"}
        trainer = SFTTrainer(copy.deepcopy(model), config(tmp_path / "of files"), **made_of)
        assert trainer.train().global_step == 2


def test_another_reference_is_refused(tiny_model, tokenizer, pair_rows, tmp_path):
    arguments = DPOConfig(total_batch_size=4, max_length=32, max_training_steps=1, save_directory=str(tmp_path))
    options = {"processing_class": tokenizer, "train_dataset": pair_rows}
    DPOTrainer(copy.deepcopy(tiny_model), arguments, **options).train()
    reference = copy.deepcopy(tiny_model)
    reference.embedding[...] = reference.embedding[...] * 2
    with pytest.raises(CheckpointError, match="reference model: 'the policy before training' then"):
        DPOTrainer(copy.deepcopy(tiny_model), arguments, reference_model=reference, **options).train()


def parameters(trainer) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_params(trainer.model)[1])]


def test_a_longer_run_goes_on_where_the_rates_do_not_depend_on_its_length(parts, tmp_path, caplog):
    made_of = {"processing_class": parts["tokenizer"], "train_dataset": parts["rows"]}
    whole = SFTTrainer(copy.deepcopy(parts["model"]), config(tmp_path / "whole", max_training_steps=5), **made_of)
    whole.train()
    longer = SFTTrainer(parts["model"], config(tmp_path / "run", max_training_steps=5), **made_of)
    with caplog.at_level(logging.WARNING):
        assert longer.train().global_step == 5
    assert "goes on to step 5; it was planned to end at step 2" in caplog.text
    for ours, theirs in zip(parameters(longer), parameters(whole), strict=True):
        assert np.array_equal(ours, theirs)


def test_more_epochs_go_on_too(parts, tmp_path):
    short = {"max_training_steps": None, "num_train_epochs": 0.2}  # two steps, in other words
    assert start(parts, tmp_path, **short | {"num_train_epochs": 0.3}).global_step == 3


def test_a_longer_run_of_falling_rates_is_told_what_changes(parts, tmp_path):
    options = {"scheduler": "linear", "save_directory": str(tmp_path / "linear")}
    start({**parts, "model": copy.deepcopy(parts["model"])}, tmp_path, **options)
    with pytest.raises(CheckpointError, match=r"step 3 would have 0\.005 instead of 0, behind steps with the rates of"):
        start(parts, tmp_path, **options, max_training_steps=4)


def test_a_run_that_is_asked_for_fewer_steps_than_it_took_is_refused(parts, tmp_path):
    with pytest.raises(CheckpointError, match="of step 2, and the run is asked for 1 steps"):
        start(parts, tmp_path, max_training_steps=1)


def test_one_bit_anywhere_changes_a_fingerprint_and_devices_agree_on_it():
    array = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    for kind in ("float32", "bfloat16", "int8"):
        leaf = jax.numpy.asarray(array * 30).astype(kind)
        assert tuple(int(total) for total in _sums_of(leaf)) == _sums_on_host(np.asarray(leaf))
    swapped = array[:, ::-1]
    edited = array.copy()
    edited[2, 4, 6] = np.nextafter(edited[2, 4, 6], 1)
    found = [params_digest({"a": jax.numpy.asarray(one)}) for one in (array, swapped, edited, array.reshape(5, 3, 7))]
    assert len(set(found)) == 4
    assert params_digest({}) is None
