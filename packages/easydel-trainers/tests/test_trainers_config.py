"""Configs refuse what cannot work, naming field, value and what would."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from easydel_trainers import ConfigError, DPOConfig, GRPOConfig, SFTConfig
from easydel_trainers.config import numeric_identity


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_length": 0}, "max_length"),
        ({"optimizer": "adamm"}, "optimizer"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"total_batch_size": 6, "gradient_accumulation_steps": 4}, "gradient_accumulation_steps"),
        ({"total_batch_size": 2.5}, "total_batch_size"),
        ({"scheduler": "constant", "learning_rate_end": 1e-6}, "learning_rate_end"),
        ({"length_buckets": [256, 128]}, "length_buckets"),
        ({"adam_beta2": 1.0}, "adam_beta2"),
        ({"clip_grad": 0}, "clip_grad"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"save_steps": 5}, "save_steps"),
        ({"loss_type": "mse"}, "loss_type"),
        ({"loss_type": "dft", "label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"label_smoothing_factor": 1.0}, "label_smoothing_factor"),
    ],
)
def test_a_value_that_cannot_work_names_its_field(options, field):
    with pytest.raises(ConfigError) as caught:
        SFTConfig(**options)
    assert caught.value.field == field
    assert field in str(caught.value)
    assert "expected" in str(caught.value)


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SFTConfig().learning_rate = 1.0


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(ConfigError("max_length", 0, "more")))
    assert str(error) == "`max_length` is 0; expected more."


def test_identity_leaves_out_what_only_shows_or_stores():
    identity = numeric_identity(SFTConfig(length_buckets=[64, 2048]))
    assert identity["length_buckets"] == [64, 2048]
    assert not SFTConfig.free_on_resume & identity.keys()


@pytest.mark.parametrize("config", [SFTConfig, GRPOConfig, DPOConfig])
def test_what_a_resume_may_change_are_fields_of_the_config(config):
    assert {field.name for field in dataclasses.fields(config)} >= config.free_on_resume > {"save_steps"}


@pytest.mark.parametrize("name", ["learning_rate", "adam_beta1", "max_training_steps", "clip_grad"])
def test_a_number_given_as_text_is_refused_with_how_yaml_reads_it(name):
    with pytest.raises(ConfigError, match=rf"`{name}` is '1e-4'; expected a number; YAML takes 1e-4 for text"):
        SFTConfig(**{name: "1e-4"})
