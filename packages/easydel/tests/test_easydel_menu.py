"""The table of contents: every name is there, is the very object of its package, and costs nothing until used."""

import importlib
import resource
import subprocess
import sys

import easydata_sources
import easydel
import easydel.data
import easydel.trainers
import easydel.trainers.transforms
import easydel_models
import easydel_trainers
import easydel_transforms
import pytest


def run_python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


@pytest.mark.parametrize("name", easydel.__all__)
def test_names_are_the_packages_own_objects(name):
    home = easydel_models if name.startswith(("Auto", "Lora")) else easydel_trainers
    assert getattr(easydel, name) is getattr(home, name)


def test_every_trainer_and_config_is_on_the_menu():
    offered = {
        name
        for name in easydel_trainers.__all__
        if name.endswith(("Trainer", "Config")) and name not in ("Trainer", "TrainerConfig")
    }
    assert offered == {name for name in easydel.__all__ if not name.startswith(("Auto", "Lora"))}
    assert set(easydel.trainers.__all__) == offered


def test_every_transform_is_on_the_menu():
    offered = {name for name in easydel_transforms.__all__ if name.endswith("PreprocessTransform")}
    assert set(easydel.trainers.transforms.__all__) == offered
    assert easydel.trainers.transforms.SFTPreprocessTransform is easydel_transforms.SFTPreprocessTransform


def test_data_names_are_the_packages_own_objects():
    for name in easydel.data.__all__:
        home = importlib.import_module(getattr(easydel.data, name).__module__.partition(".")[0])
        assert getattr(easydel.data, name) is getattr(home, name)


def test_every_source_is_on_the_data_menu():
    sources = {name for name in easydata_sources.__all__ if name.endswith("ShardedSource")}
    assert sources <= set(easydel.data.__all__)


def test_an_unknown_name_is_refused_with_what_there_is():
    with pytest.raises(AttributeError, match=r"no attribute 'SFTTrainr'; it offers .*SFTTrainer"):
        easydel.SFTTrainr  # noqa: B018


def test_dir_lists_the_menu():
    assert set(easydel.__all__) <= set(dir(easydel))


def test_a_star_import_brings_the_menu():
    names = {}
    exec("from easydel import *", names)
    assert set(easydel.__all__) <= names.keys()


def test_importing_is_quick_and_loads_no_jax():
    code = (
        "import time; began = time.process_time(); import easydel; spent = time.process_time() - began;"
        "import sys; print(spent, *({'jax', 'flax', 'transformers', 'pyarrow', 'numpy'} & sys.modules.keys()))"
    )
    attempts = [run_python(code).split() for _ in range(3)]  # the quickest counts: the machine may be busy
    assert all(loaded == [] for _, *loaded in attempts)
    assert min(float(spent) for spent, *_ in attempts) < 0.3


@pytest.mark.parametrize("module", ["easydel.data", "easydel.trainers", "easydel.trainers.transforms"])
def test_data_and_transforms_load_no_jax(module):
    assert run_python(f"import {module}, sys; print('jax' in sys.modules)") == "False"


def test_the_overview_answers_quickly():
    # Processor time: the machine may be busy with other things, which would say nothing of the command.
    attempts = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "easydel.cli", "--help"], capture_output=True, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        attempts.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(attempts) < 0.5
