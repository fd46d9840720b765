"""Models and tokenizers by Hub id, from a stand-in on loopback: the real downloading code."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"

LOAD = """
import sys
from easydata_tokenize import load_tokenizer
from easydel_models import AutoEasyDeLModelForCausalLM
model = AutoEasyDeLModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = load_tokenizer(sys.argv[1])
print(model.config.num_layers, tokenizer.eos_token)
"""


@pytest.fixture
def endpoint(tmp_path):
    repository = tmp_path / "served" / "tiny" / "policy"
    shutil.copytree(GOLDEN / "models" / "policy", repository)
    shutil.copytree(GOLDEN / "tokenizer", repository, dirs_exist_ok=True)
    specification = importlib.util.spec_from_file_location("hub_stand_in", HERE / "hub_stand_in.py")
    assert specification is not None
    assert specification.loader is not None
    stand_in = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(stand_in)
    with stand_in.hub(tmp_path / "served") as address:
        yield address


def load(name: str, endpoint: str, home: Path) -> subprocess.CompletedProcess:
    # huggingface_hub reads its endpoint when it is imported, hence a process of its own.
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", LOAD, name],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_hub_id_is_downloaded_and_loaded(endpoint, tmp_path):
    done = load("tiny/policy", endpoint, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "<|im_end|>"]


def test_an_unknown_hub_id_is_named(endpoint, tmp_path):
    done = load("tiny/nobody", endpoint, tmp_path / "home")
    assert done.returncode != 0
    assert "tiny/nobody" in done.stderr
