"""Command lines without a config file: positional words and flags, straight into a dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TypeVar

import tyro

Flags = TypeVar("Flags")


def parse_flags(kind: type[Flags], arguments: Sequence[str], *, command: str) -> Flags:
    """Read the arguments of one command.

    Args:
        kind: a dataclass; its docstring is the head of `--help`, those of its fields are the lines of it.
        arguments: what was written behind the command's name.
        command: the command as typed, for the usage line.

    Raises:
        SystemExit: with 2 for wrong flags and 0 after `--help`; what there is to say has been printed.
    """
    return tyro.cli(kind, prog=command, description=inspect.getdoc(kind), args=list(arguments), use_underscores=True)
