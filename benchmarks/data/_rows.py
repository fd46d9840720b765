"""Rows that every machine can make: English text of real lengths, out of Python's own documentation."""

from __future__ import annotations

import importlib
import inspect
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TOKENIZER = Path(__file__).parents[2] / "tests-integration" / "golden" / "tokenizer"
MODULES = (
    "argparse asyncio collections csv datetime decimal difflib email functools heapq html http inspect io "
    "ipaddress itertools json logging math os pathlib pickle pydoc random re shutil smtplib socket sqlite3 "
    "statistics string subprocess tarfile tempfile textwrap threading typing unittest urllib.request uuid "
    "wave xml.etree zipfile"
)


def paragraphs() -> list[str]:
    """Paragraphs of at least a line, each once."""
    found = dict.fromkeys(part for text in _docstrings() for part in text.split("\n\n") if len(part) > 60)
    return sorted(found)


def chats(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Conversations of one to three questions and answers, none like another; about 200 tokens, some a thousand."""
    chance, parts = random.Random(seed), paragraphs()
    rows = []
    for _ in range(count):
        messages = [{"role": "system", "content": "You are a helpful assistant."}] if chance.random() < 0.3 else []
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            answer = "\n\n".join(chance.sample(parts, min(6, int(chance.lognormvariate(0.3, 0.6)) + 1)))
            messages += [
                {"role": "user", "content": f"{chance.choice(parts)[:200].strip()} {chance.random():.4f}?"},
                {"role": "assistant", "content": f"{answer.strip()} {chance.random():.4f}"},
            ]
        rows.append({"messages": messages})
    return rows


def pairs(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Preference rows: a conversation to answer, a good and a bad answer."""
    chosen, rejected = chats(count, seed=seed), chats(count, seed=seed + 1)
    return [
        {"prompt": good["messages"][:-1], "chosen": good["messages"][-1:], "rejected": bad["messages"][-1:]}
        for good, bad in zip(chosen, rejected, strict=True)
    ]


def lengths(count: int, most: int, *, seed: int = 0) -> np.ndarray:
    """Lengths of rows as chats have them: log-normal, median 200 tokens, cut at `most`."""
    drawn = np.exp(np.random.default_rng(seed).normal(np.log(200), 0.9, count))
    return np.clip(drawn.astype(np.int64), 4, most)


def _docstrings() -> Iterator[str]:
    for name in MODULES.split():
        module = importlib.import_module(name)
        for thing in [module, *vars(module).values()]:
            members = vars(thing).values() if inspect.isclass(thing) else ()
            yield from filter(None, (inspect.getdoc(part) for part in [thing, *members] if _is_own(part)))


def _is_own(thing: Any) -> bool:
    return inspect.ismodule(thing) or getattr(thing, "__module__", None) in sys.stdlib_module_names
