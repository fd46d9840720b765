"""Every script of examples/, in short: a model gets better at what it was not trained on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import easydel as ed
import pytest
import yaml
from easydel.demo import python_docs_preferences, python_docs_rows

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*/train.py"))
CONFIGS = {"dpo": ed.DPOConfig, "kto": ed.KTOConfig}


pytestmark = pytest.mark.usefixtures("lightly_compiled")


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.parent.name for path in SCRIPTS])
def test_the_held_out_figure_improves(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert path.with_name("config.yaml").is_file()
    specification = importlib.util.spec_from_file_location(f"example_{path.parent.name}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    before, after = module.main(quick=True)
    gain = after - before if getattr(module, "HIGHER_IS_BETTER", False) else before - after
    assert gain > 0.03 * abs(before)
    assert f"{after:.3f}" in capsys.readouterr().out


def test_there_are_enough_rows_and_none_is_held_out_and_trained():
    for rows in (python_docs_rows, python_docs_preferences):
        prompts = [row["prompt"][0]["content"] for row in rows("train")]
        assert len(set(prompts)) == len(prompts) >= 1000
        assert not set(prompts) & {row["prompt"][0]["content"] for row in rows("held-out")}


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.parent.name for path in SCRIPTS])
def test_the_settings_of_the_whole_form_are_those_of_a_config(path):
    """`--quick` overrides some of them, so that the test above does not see these."""
    settings = yaml.safe_load(path.with_name("config.yaml").read_text(encoding="utf-8"))
    configs = {
        "training": CONFIGS.get(path.parent.name, ed.SFTConfig),
        "reward": ed.RewardConfig,
        "policy": ed.GRPOConfig,
    }
    parts = [part for part in configs if part in settings]
    assert parts
    for part in parts:
        assert configs[part](**settings[part]).learning_rate > 0
