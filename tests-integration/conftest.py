"""A Hub on loopback for all tests here: the names that documentation and guide use, with tiny models and rows.

Hugging Face's libraries read their settings once, when they are imported; hence before anything is collected.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # tests import the modules beside them
GOLDEN = HERE / "golden"
MODELS = ("HuggingFaceTB/SmolLM2-135M-Instruct", "meta-llama/Llama-2-7b-chat-hf")
SETTINGS = {
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def pytest_configure(config: pytest.Config) -> None:
    from light_compilation import share_compiled_programs

    if (compiled := share_compiled_programs()) is not None:
        config.add_cleanup(compiled.cleanup)
    served = Path(tempfile.mkdtemp(prefix="hub-"))
    config.add_cleanup(lambda: shutil.rmtree(served, ignore_errors=True))
    for name in MODELS:
        link_model(served / "repositories" / name)
    for name, rows in data_sets().items():
        folder = served / "repositories" / "datasets" / name
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    running = stand_in().hub(served / "repositories")
    os.environ.update(SETTINGS, HF_HOME=str(served / "home"), HF_ENDPOINT=running.__enter__())
    config.add_cleanup(lambda: running.__exit__(None, None, None))


@pytest.fixture(scope="module")
def lightly_compiled():
    """For modules whose programs run only a few times."""
    from light_compilation import light_compilation

    with light_compilation():
        yield


def link_model(folder: Path, name: str = "policy") -> None:
    """A folder of a model of two layers, and the SmolLM2 tokenizer."""
    folder.mkdir(parents=True)
    for path in (*(GOLDEN / "models" / name).iterdir(), *(GOLDEN / "tokenizer").iterdir()):
        (folder / path.name).symlink_to(path)


def stand_in() -> ModuleType:
    specification = importlib.util.spec_from_file_location("hub_stand_in", HERE / "hub_stand_in.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def data_sets() -> dict[str, list[dict]]:
    """Rows of our own in the layouts of well-known data sets."""
    pairs = [json.loads(line) for line in (GOLDEN / "rows" / "preference_implicit.jsonl").read_text().splitlines()]
    tasks = [(f"Count to {n}.", f"from {n % 3}", " ".join(map(str, range(n % 3, n + 1)))) for n in range(3, 43)]
    return {
        "trl-lib/ultrafeedback_binarized": [
            {"chosen": row["chosen"], "rejected": row["rejected"], "score_chosen": 8.0, "score_rejected": 2.0}
            for row in pairs
        ],
        "tatsu-lab/alpaca": [
            {"instruction": do, "input": given, "output": out, "text": f"### Instruction: {do} ### Response: {out}"}
            for do, given, out in tasks
        ],
        "databricks/databricks-dolly-15k": [
            {"instruction": do, "context": given, "response": out, "category": "closed_qa"} for do, given, out in tasks
        ],
        "HuggingFaceFW/fineweb": [{"text": f"{do} {out}", "url": "https://example.org"} for do, _, out in tasks],
    }
