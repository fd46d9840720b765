"""Pages of 2 MiB for the memory of a run, where Linux gives them to programs that ask.

Every step on a CPU writes gigabytes that its program allocates anew. In pages of 4 KiB that is hundreds of thousands of
page faults, a tenth of the step and more. glibc asks for larger pages where its variable says so when a process starts,
and at no other time: so a command that computes starts once more, in the same process, with the variable set.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

SETTING = "EASYDEL_HUGE_PAGES"
"""Environment variable: `0` = leave memory as it is. Set to `1` once they were asked for."""

_TUNABLES, _TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_FIRST_GLIBC = (2, 35)


def start_again_with_huge_pages() -> None:
    """Starts this process again with larger pages, from its first line; returns where that changes nothing.

    To be called before anything was done: whatever the process did so far, it does a second time.
    """
    environment = asking_environment(os.environ, policy=page_policy(), glibc=glibc_version())
    if environment is None or not sys.executable:
        return
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    except OSError:  # whoever forbids it has it run as it is
        return


def asking_environment(
    environment: Mapping[str, str], *, policy: str | None, glibc: tuple[int, int] | None
) -> dict[str, str] | None:
    """Returns the environment of a process that asks for larger pages.

    Args:
        environment: that of this process.
        policy: who is given them: `madvise`, who asks; `always`; `never`. `None` = no Linux that has them.
        glibc: its version; `None` = another library of C.

    Returns:
        `None` where asking changes nothing, or was done or declined before.
    """
    tunables = environment.get(_TUNABLES, "")
    if SETTING in environment or _TUNABLE in tunables:
        return None
    if policy != "madvise" or glibc is None or glibc < _FIRST_GLIBC:
        return None
    asked = ":".join(filter(None, (tunables, f"{_TUNABLE}=1")))
    return {**environment, _TUNABLES: asked, SETTING: "1"}


def memory_pages() -> str:
    """Returns what pages this process gets for large arrays, in words, and what would give it larger ones."""
    policy = page_policy()
    if policy is None:
        return f"as {sys.platform} gives them"
    if policy == "always":
        return "2 MiB, which Linux gives to all programs"
    if policy == "never":
        return f"4 KiB: Linux gives larger ones to nobody ({_POLICY} is never)"
    if re.search(rf"{re.escape(_TUNABLE)}=[12]", os.environ.get(_TUNABLES, "")):
        return "2 MiB, asked for"
    return f"4 KiB; {_TUNABLES}={_TUNABLE}=1 in the environment of Python asks for 2 MiB (glibc 2.35 or newer)"


def page_policy() -> str | None:
    """Returns who is given larger pages on this machine, as `asking_environment` takes it."""
    try:
        choices = _POLICY.read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return choices.partition("[")[2].partition("]")[0] or None


def glibc_version() -> tuple[int, int] | None:
    """Returns the version of glibc that this process runs with; `None` = it runs with another library of C."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        major, minor = version.split(".")[:2]
        return (int(major), int(minor)) if name == "glibc" else None
    except (AttributeError, ValueError, OSError):  # no such question there, or no such answer
        return None
