"""The menu: every name resolves, and a config can be had without JAX."""

from __future__ import annotations

import subprocess
import sys

import easydel_trainers
import pytest


@pytest.mark.parametrize("name", easydel_trainers.__all__)
def test_every_name_resolves(name):
    assert getattr(easydel_trainers, name).__module__.startswith("easydel_trainers")


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(AttributeError, match="SFTTrainer"):
        easydel_trainers.SFTTrainr  # noqa: B018


def test_a_config_needs_no_jax():
    code = "import easydel_trainers, sys; easydel_trainers.SFTConfig(); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
