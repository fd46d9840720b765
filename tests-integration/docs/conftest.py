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

and the Hub of ../conftest.py answers for the names that the documents use.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"
ROWS = {
    "conversations/a.jsonl": "messages",
    "conversations/b.jsonl": "conversations_user",
    "held-out/a.jsonl": "tools",
    "preferences/a.jsonl": "preference",
    "prompts/a.jsonl": "prompt_only",
    "texts/a.jsonl": "text",
    "labelled/a.jsonl": "unpaired",
}


def pytest_configure() -> None:
    os.environ["WANDB_MODE"] = "offline"


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
