"""Hostile inputs of every corpus: a sample of each by default, all of them with EASYDEL_HOSTILE=all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
SAMPLE = 8  # cases of each corpus in the default run
FEWER = {"checkpoint_cases": 3}  # where each exports a model
NEEDS_HTTP = ("remote_file_cases",)  # fsspec's client for the web, which comes with an extra
CORPORA = [
    pytest.param(name, marks=pytest.mark.thorough) if name in NEEDS_HTTP else name
    for name in sorted(path.stem for path in HERE.glob("*_cases.py"))
]


@pytest.mark.parametrize("corpus", CORPORA)
def test_no_hostile_input_does_harm(corpus):
    from bounded_process import run_corpus

    faults = run_corpus(corpus, sample(corpus))
    kinds = "\n".join(map(str, faults[:60]))
    assert not faults, f"{len(faults)} faults\n{kinds}"


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_corpus_gives_the_same_cases_each_time(corpus):
    module = __import__(corpus)
    names = [case.name for case in module.cases()]
    assert names == [case.name for case in module.cases()]
    assert len(set(names)) == len(names), "a fault is found again by its name"


def sample(corpus: str) -> list[int] | None:
    if os.environ.get("EASYDEL_HOSTILE") == "all":
        return None
    count = sum(1 for _ in __import__(corpus).cases())
    step = max(1, count // FEWER.get(corpus, SAMPLE))
    return list(range(step // 2, count, step))
