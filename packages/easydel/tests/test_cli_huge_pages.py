"""A command that computes asks Linux for large pages, once, and leaves alone what the user decided."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from easydel.cli.huge_pages import asking_environment, glibc_version, page_policy

ASKED = "glibc.malloc.hugetlb=1"


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, ASKED),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=3"}, f"glibc.malloc.check=3:{ASKED}"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=2"}, None),
        ({"EASYDEL_HUGE_PAGES": "0"}, None),
        ({"EASYDEL_HUGE_PAGES": "1", "GLIBC_TUNABLES": ""}, None),  # asked for, and taken away on the way
    ],
)
def test_what_the_user_says_of_memory_stays(environment, asked):
    given = asking_environment({"HOME": "/", **environment}, policy="madvise", glibc=(2, 36))
    assert given == (asked and {"HOME": "/", "GLIBC_TUNABLES": asked, "EASYDEL_HUGE_PAGES": "1"})


@pytest.mark.parametrize(
    ("policy", "glibc"),
    [("always", (2, 36)), ("never", (2, 36)), (None, (2, 36)), ("madvise", (2, 34)), ("madvise", None)],
)
def test_nothing_starts_again_where_it_would_change_nothing(policy, glibc):
    assert asking_environment({}, policy=policy, glibc=glibc) is None


def doctor(**environment: str) -> dict:
    clean = {name: value for name, value in os.environ.items() if name not in ("GLIBC_TUNABLES", "EASYDEL_HUGE_PAGES")}
    done = subprocess.run(
        [sys.executable, "-m", "easydel.cli", "doctor", "--json"],
        env=clean | environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return json.loads(done.stdout)


def test_a_command_runs_with_large_pages_unless_told_otherwise():
    plain = {"always": "2 MiB", "madvise": "4 KiB", "never": "4 KiB", None: "as "}[page_policy()]
    is_to_ask = asking_environment({}, policy=page_policy(), glibc=glibc_version()) is not None
    assert doctor()["memory_pages"].startswith("2 MiB, asked for" if is_to_ask else plain)
    assert doctor(EASYDEL_HUGE_PAGES="0")["memory_pages"].startswith(plain)
