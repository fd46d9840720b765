"""The golden parity set and a fresh SmolLM2 tokenizer per test that changes it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from easydata_tokenize import ChatTokenizer, load_tokenizer
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # a busy machine is no defect
settings.load_profile("any machine")

GOLDEN = Path(__file__).parents[3] / "tests-integration" / "golden"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `sft_case` every supervised case of the golden index; a missing set is an error, never a skip."""
    if "sft_case" in metafunc.fixturenames:
        index = json.loads((GOLDEN / "tokenized" / "index.json").read_text())
        cases = [case for case in index if case["trainer"] == "sft"]
        assert len(cases) == 7
        metafunc.parametrize("sft_case", cases, ids=[case["name"] for case in cases])
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
