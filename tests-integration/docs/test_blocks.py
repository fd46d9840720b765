"""Every Python and shell block of README, docs and the packages' READMEs runs, in order, as a reader would run it.

The blocks of one document share a folder (see conftest.py) and a namespace. A block with a title, as in
"```yaml title="run.yaml"", is the file of that name, there for the blocks behind it. What cannot run on its own is not
a block of these languages: shapes of rows are `json`, listings are `text`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from sybil import Example, Region
from sybil.document import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")]
)

# Commands that another check runs, or that need what a test machine has not: by their first words.
RUN_ELSEWHERE = {
    "pip install": "nox -s wheels installs every package alone",
    "uv run nox": "continuous integration",
    "git clone": "continuous integration begins with it",
}


MESSAGE = "message"  # title of a block that shows what is raised


def run_shell(example: Example) -> None:
    for line in _commands(example.parsed):
        if line.startswith(tuple(RUN_ELSEWHERE)):
            continue
        done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{example.path}:{example.line}\n$ {line}\n{done.stdout}\n{done.stderr}"


def _commands(block: str) -> list[str]:
    """Lines of a block, those ended by a backslash joined, without prompts and comments."""
    joined = block.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ").strip() for line in joined if line.strip() and not line.startswith("#")]


def titled_files(document: Document) -> Iterable[Region]:
    """Blocks that are files."""
    for region in FencedCodeBlockLexer(language=r'\w+ title="[^"]+"', mapping={"language": "info", "source": "source"})(
        document
    ):
        region.parsed = (region.lexemes["info"].split('"')[1], region.lexemes["source"])
        region.evaluator = look_elsewhere if region.parsed[0] == MESSAGE else write_file
        yield region


def look_elsewhere(example: Example) -> None:
    """Messages are compared by test_troubleshooting.py."""


def write_file(example: Example) -> None:
    name, text = example.parsed
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")


PARSERS = (
    titled_files,
    CodeBlockParser(language="python", evaluator=PythonEvaluator()),
    CodeBlockParser(language="sh", evaluator=run_shell),
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_the_blocks_run(path: Path, workspace: Path) -> None:
    examples = list(Document.parse(str(path), *PARSERS))
    if not examples:
        pytest.skip("no block to run")
    for example in examples:
        example.evaluate()


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_no_block_escapes_by_its_language(path: Path) -> None:
    fences = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip().startswith("```")]
    languages = {fence[3:].split()[0] for fence in fences if fence[3:].strip()}
    assert languages <= {"python", "sh", "yaml", "json", "text", "mermaid"}
