"""What the code blocks of the documentation find around them: a small model, rows of every layout, and a Hub.

Each document runs in a folder of its own that holds

    model/                     two layers of a Llama, and the SmolLM2 tokenizer
    reward_model/              the same with one score for an output
    conversations/*.jsonl      `messages`, `conversations`
    held-out/*.jsonl           `messages` with tools
    preferences/*.jsonl        `prompt`, `chosen`, `rejected`
    labelled/*.jsonl           `prompt`, `completion`, `label`
    prompts/*.jsonl            `prompt`, `answer`
    texts/*.jsonl              `text`

and answers for the Hub names that the documents use.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"
HUB_MODELS = ("HuggingFaceTB/SmolLM2-135M-Instruct",)
ROWS = {
    "conversations/a.jsonl": "messages",
    "conversations/b.jsonl": "conversations_user",
    "held-out/a.jsonl": "tools",
    "preferences/a.jsonl": "preference",
    "prompts/a.jsonl": "prompt_only",
    "texts/a.jsonl": "text",
    "labelled/a.jsonl": "unpaired",
}

# Hugging Face's libraries read their settings once, when they are imported.
_SERVED = Path(tempfile.mkdtemp(prefix="hub-"))
_SETTINGS = {
    "HF_HOME": str(_SERVED / "home"),
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "WANDB_MODE": "offline",
}


def pytest_configure(config: pytest.Config) -> None:
    for name in HUB_MODELS:
        _model_folder(_SERVED / "repositories" / name, "policy")
    stand_in = _stand_in().hub(_SERVED / "repositories")
    os.environ.update(_SETTINGS, HF_ENDPOINT=stand_in.__enter__())
    config.add_cleanup(lambda: shutil.rmtree(_SERVED, ignore_errors=True))
    config.add_cleanup(lambda: stand_in.__exit__(None, None, None))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a document's blocks run in, one after the other."""
    _model_folder(tmp_path / "model", "policy")
    _model_folder(tmp_path / "reward_model", "reward")
    for place, rows in ROWS.items():
        target = tmp_path / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(GOLDEN / "rows" / f"{rows}.jsonl", target)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def _model_folder(folder: Path, name: str) -> None:
    shutil.copytree(GOLDEN / "models" / name, folder)
    shutil.copytree(GOLDEN / "tokenizer", folder, dirs_exist_ok=True)


def _stand_in() -> ModuleType:
    specification = importlib.util.spec_from_file_location("hub_stand_in", HERE.parent / "hub_stand_in.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
