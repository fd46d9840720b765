"""Questions and answers about Python's standard library, from the docstrings of the Python that runs this.

The sources of the library are parsed, never imported, so making the rows runs nobody's code. Every public
module, class, function and method with a usable docstring gives one row:

    {"prompt": [{"role": "user", "content": "What does `shutil.copyfile` do in Python?"}],
     "completion": [{"role": "assistant", "content": "`shutil.copyfile(src, dst, …)`: Copy data from src …"}]}

No question and no explanation occurs twice, so nothing held out can have been seen in training. Rows come in
the order of a hash of their question: the order of one Python version never changes, and any first n rows are
a fair sample.
"""

import ast
import functools
import hashlib
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Split = Literal["train", "held-out"]

HELD_OUT_SHARE = 1 / 20
_SHORTEST, _LONGEST = 30, 400  # characters of an explanation
_ROOM_FOR_MORE = 200  # another paragraph is added while the explanation is shorter than this
_FEWEST_WORDS = 6  # of a sentence that is broken off
_NOT_LIBRARY = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "idle_test",
    "lib2to3",
    "turtledemo",
    "ensurepip",
    "encodings",
}


def python_docs_rows(split: Split, *, library: Path | None = None) -> list[dict[str, Any]]:
    """Makes the rows of one split.

    Args:
        split: `train`, or `held-out`: the twentieth of the questions whose hash says so.
        library: folder of Python sources to read. `None` = the standard library of the running interpreter.

    Returns:
        prompt/completion rows of one user and one assistant message each, in the order of the question's
        hash.
    """
    pairs = _questions_and_answers(library or Path(sysconfig.get_paths()["stdlib"]))
    return [_row(*pair) for pair in pairs if _is_held_out(pair[0]) == (split == "held-out")]


def python_docs_preferences(split: Split, *, library: Path | None = None) -> list[dict[str, Any]]:
    """Makes the rows of one split for trainers on preferences.

    The chosen answer explains what was asked about. The rejected one explains something else: that of the next row.

    Args:
        split: as of `python_docs_rows`.
        library: as of `python_docs_rows`.

    Returns:
        rows of `prompt`, `chosen` and `rejected` messages, in the order of `python_docs_rows`.
    """
    rows = python_docs_rows(split, library=library)
    others = [*rows[1:], *rows[:1]]
    return [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": other["completion"]}
        for row, other in zip(rows, others, strict=True)
    ]


def python_docs_unfinished(split: Split, *, library: Path | None = None) -> list[dict[str, Any]]:
    """Makes the rows of one split for trainers on preferences, by a rule that even a tiny model can learn.

    The chosen answer is one whole sentence. The rejected one is the same, broken off in its middle.

    Args:
        split: as of `python_docs_rows`.
        library: as of `python_docs_rows`.

    Returns:
        rows of `prompt`, `chosen` and `rejected` messages, in the order of `python_docs_rows`.
    """
    found = []
    for row in python_docs_rows(split, library=library):
        sentence, stop, _ = f"{row['completion'][0]['content']} ".partition(". ")
        words = sentence.split(" ")
        if stop and len(words) >= _FEWEST_WORDS:
            broken_off = " ".join(words[: len(words) // 2])
            answers = {"chosen": f"{sentence}.", "rejected": broken_off}
            turns = {name: [{"role": "assistant", "content": text}] for name, text in answers.items()}
            found.append({"prompt": row["prompt"], **turns})
    return found


@functools.cache  # parsing the library takes seconds, and both splits need it
def _questions_and_answers(folder: Path) -> tuple[tuple[str, str], ...]:
    rows: dict[str, str] = {}
    explained: set[str] = set()
    for entry in sorted(_library_entries(folder), key=lambda entry: entry.name):
        if entry.question not in rows and entry.text not in explained:
            rows[entry.question] = entry.answer
            explained.add(entry.text)
    return tuple(sorted(rows.items(), key=lambda row: _fingerprint(row[0])))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One documented name of the library."""

    name: str
    kind: Literal["module", "class", "function", "method"]
    signature: str
    text: str

    @property
    def question(self) -> str:
        if self.kind in ("module", "class"):
            return f"What is the {self.kind} `{self.name}` for in Python?"
        return f"What does the {self.kind} `{self.name}` do in Python?"

    @property
    def answer(self) -> str:
        return f"`{self.name}{self.signature}`: {self.text}"


def _row(question: str, answer: str) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def _fingerprint(question: str) -> int:
    return int.from_bytes(hashlib.blake2b(question.encode(), digest_size=8).digest(), "big")


def _is_held_out(question: str) -> bool:
    return _fingerprint(question) % 1000 < 1000 * HELD_OUT_SHARE


def _library_entries(folder: Path) -> Iterator[_Entry]:
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts and not any(part in _NOT_LIBRARY or part.startswith("_") or not part.isidentifier() for part in parts):
            yield from _module_entries(".".join(parts), path)


def _module_entries(module: str, path: Path) -> Iterator[_Entry]:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return  # a template or a file kept broken on purpose: not something one can import either
    yield from _entry(module, "module", "", tree)
    yield from _members(module, tree.body, inside_class=False)


def _members(prefix: str, body: list[ast.stmt], *, inside_class: bool) -> Iterator[_Entry]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if not name.startswith("_"):
                kind = "method" if inside_class else "function"
                yield from _entry(f"{prefix}.{name}", kind, _signature(node, drop_first=inside_class), node)
            case ast.ClassDef(name=name) if not name.startswith("_"):
                yield from _entry(f"{prefix}.{name}", "class", "", node)
                yield from _members(f"{prefix}.{name}", node.body, inside_class=True)


def _entry(
    name: str,
    kind: Literal["module", "class", "function", "method"],
    signature: str,
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> Iterator[_Entry]:
    text = _explanation(ast.get_docstring(node) or "")
    if _SHORTEST <= len(text) <= _LONGEST:
        yield _Entry(name=name, kind=kind, signature=signature, text=text)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, *, drop_first: bool) -> str:
    """Returns the arguments as a reader writes them: no types, and no `self`."""
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    is_static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)
    positional = node.args.posonlyargs or node.args.args
    if drop_first and not is_static and positional:
        del positional[0]
    return f"({ast.unparse(node.args)})"


def _explanation(docstring: str) -> str:
    """Returns the first paragraph as flowing text, and the next ones while the whole stays short."""
    text = ""
    for paragraph in re.split(r"\n\s*\n", docstring):
        if not _is_prose(paragraph) or (text and len(text) >= _ROOM_FOR_MORE):
            break
        joined = f"{text} {' '.join(paragraph.split())}".strip()
        if len(joined) > _LONGEST:
            break
        text = joined
    return text


def _is_prose(paragraph: str) -> bool:
    """Returns whether joining the lines loses nothing: a sentence, and no code, list, table or indented block."""
    lines = paragraph.strip().splitlines()
    if not lines or any(line.startswith((" ", "\t", "-", "*", ">>>", "|", "+", "@", ":")) for line in lines):
        return False
    return paragraph.isascii() and paragraph.rstrip().endswith((".", "!", "?"))
