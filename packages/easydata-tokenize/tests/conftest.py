"""Tokenizers of the golden set, each with one of the chat templates written for these tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from easydata_tokenize import ChatTokenizer, load_tokenizer
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # a busy machine is no defect
settings.load_profile("any machine")

GOLDEN = Path(__file__).parents[3] / "tests-integration" / "golden"
TEMPLATES = Path(__file__).parent / "templates"
SPECIALS = {"header_trimming": ["<|header|>", "<|/header|>", "<|eot|>"]}


@pytest.fixture(scope="session")
def golden() -> Path:
    assert GOLDEN.is_dir(), f"the golden parity set is missing: {GOLDEN}"
    return GOLDEN


@pytest.fixture(scope="session")
def tokenizer_with(golden: Path) -> Callable[[str | None], ChatTokenizer]:
    """Return a function from the name of a template (None = no template) to a tokenizer that has it."""
    made: dict[str | None, ChatTokenizer] = {}

    def make(name: str | None) -> ChatTokenizer:
        if name not in made:
            tokenizer = load_tokenizer(golden / "tokenizer")
            tokenizer.chat_template = None if name is None else (TEMPLATES / f"{name}.jinja").read_text().rstrip("\n")
            if name in SPECIALS:
                tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS[name]})
            made[name] = tokenizer
        return made[name]

    return make
