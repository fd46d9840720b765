"""One process compiles for every family: a few programs for a test, each of which takes memory mappings of its own."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

MOST_MAPPINGS = 30_000  # Linux gives a process 65,530; compiled code that finds none left ends it by a signal


@pytest.fixture(autouse=True)
def few_mappings():
    yield
    with Path("/proc/self/maps").open() as mappings:
        if sum(1 for _ in mappings) > MOST_MAPPINGS:
            jax.clear_caches()
