"""One case for each thing that must not happen, and two that are as they should be: the harness is tested with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cases import SECRET, Case
from easydel.cli.output.errors import CommandError


def cases() -> Iterator[Case]:
    yield Case("read", _nothing, lambda folder: {"read": folder}, accepted=True)
    yield Case("refused in our words", _nothing, _refuse, accepted=False)
    yield Case("signal", _nothing, lambda folder: os.kill(os.getpid(), signal.SIGSEGV))
    yield Case("hang", _nothing, lambda folder: time.sleep(600))
    yield Case("busy hang", _nothing, lambda folder: [None for _ in iter(int, 1)])
    yield Case("memory", _nothing, lambda folder: bytearray(16 << 30))
    yield Case("foreign", _nothing, lambda folder: {}["key"])
    yield Case("printed traceback", _nothing, lambda folder: print("Traceback (most recent call last):"))
    yield Case("long", _nothing, lambda folder: print("line\n" * 50))
    yield Case("control", _nothing, lambda folder: print("\x1b[2J"))
    yield Case("secret said", _nothing, lambda folder: print(os.environ["HF_TOKEN"], file=sys.stderr))
    yield Case("secret written", _nothing, lambda folder: (folder / "left").write_text(SECRET))
    yield Case("outside", _nothing, lambda folder: (folder.parent / "outside" / "keep.txt").write_text("changed"))
    yield Case("outside through a link", _link, lambda folder: (folder / "link").write_text("changed"))
    yield Case("program", _nothing, lambda folder: subprocess.run(["true"], check=True))
    yield Case("accepted", _nothing, lambda folder: None, accepted=False)
    yield Case("refused", _nothing, _refuse, accepted=True)


def _nothing(folder: Path) -> None:
    """These need no input."""


def _link(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "outside" / "keep.txt")


def _refuse(folder: Path) -> None:
    raise CommandError(f"There is nothing in {folder.name}.")
