"""The golden parity set, kinds of chat templates, and a fresh SmolLM2 tokenizer per test that changes it."""

import copy
import json
import runpy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from easydata_tokenize import ChatTokenizer, load_tokenizer
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # a busy machine is no defect
settings.load_profile("any machine")

GOLDEN = Path(__file__).parents[3] / "tests-integration" / "golden"
MASKS = runpy.run_path(str(Path(__file__).with_name("mask_kinds.py")))
"""The names of `mask_kinds.py`."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `sft_case` every supervised case of the golden index, `mask_kind` every kind; a missing set is an error."""
    if "sft_case" in metafunc.fixturenames:
        index = json.loads((GOLDEN / "tokenized" / "index.json").read_text())
        cases = [case for case in index if case["trainer"] == "sft"]
        assert len(cases) == 7
        metafunc.parametrize("sft_case", cases, ids=[case["name"] for case in cases])
    if "mask_kind" in metafunc.fixturenames:
        metafunc.parametrize("mask_kind", MASKS["KINDS"].values(), ids=MASKS["KINDS"])
    if "preference_case" in metafunc.fixturenames:
        names = ("index.json", "index_bco.json")
        index = [case for name in names for case in json.loads((GOLDEN / "tokenized" / name).read_text())]
        cases = [case for case in index if case["trainer"] != "sft"]
        assert len(cases) == 14
        metafunc.parametrize("preference_case", cases, ids=[case["name"] for case in cases])


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def read_jsonl() -> Callable[[str], list[dict[str, Any]]]:
    """Return a function that reads a JSON-lines file of the golden set."""
    return lambda name: [json.loads(line) for line in (GOLDEN / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def tokenizer() -> ChatTokenizer:
    """SmolLM2's tokenizer; shared, so it must not be changed."""
    return load_tokenizer(GOLDEN / "tokenizer")


@pytest.fixture
def own_tokenizer() -> ChatTokenizer:
    """SmolLM2's tokenizer for one test to change."""
    return load_tokenizer(GOLDEN / "tokenizer")


@pytest.fixture(scope="session")
def masks() -> dict[str, Any]:
    """Return the names of `mask_kinds.py`: the templates, and functions that make messages."""
    return MASKS


@pytest.fixture(scope="session")
def tokenizer_of() -> Callable[[str], ChatTokenizer]:
    """Return a function from a chat template to a tokenizer that has it, and the marks of `mask_kinds.py`."""
    marked = load_tokenizer(GOLDEN / "tokenizer")
    marked.add_special_tokens({"additional_special_tokens": MASKS["MARKS"], "eos_token": "<|e|>"})

    @cache
    def make(template: str) -> ChatTokenizer:
        tokenizer = copy.copy(marked)
        tokenizer.chat_template = template
        return tokenizer

    return make
