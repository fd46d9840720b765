"""What is written behind a command: a config file, `--set` overrides, flags; each outweighs those before.

Flags, their types and their help come from the command's config dataclass (tyro reads the docstring under
each field), so a field added there is a flag, a YAML key and a line of `--help` at once.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from easydel.cli.errors import CommandError
from easydel.cli.settings import Setting, read_settings, with_overrides
from easydel.cli.twins import twin_of
from easydel.cli.typed import checked_config, unchecked_config

Config = TypeVar("Config")
Shape = TypeVar("Shape", bound="Invocation[Any]")


@dataclass(frozen=True, kw_only=True)
class Invocation(Generic[Config]):
    """One parsed command line."""

    file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG.yaml")] = None
    """YAML file. Its keys are the names of the flags below; the part before a dot is a section."""

    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Change one key of the file, for example `--set training.max_length=512`. The value is YAML."""

    print_config: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the whole resulting config as YAML, and stop."""

    run: Annotated[Config, tyro.conf.FlagConversionOff, tyro.conf.arg(name="")]
    """What the command is to do."""


def parse_invocation(
    kind: type[Config],
    arguments: Sequence[str],
    *,
    command: str,
    shape: type[Shape] = Invocation,
    description: str | None = None,
) -> Shape:
    """Read the arguments of one command.

    Args:
        kind: the command's config dataclass; its docstring is the head of `--help`.
        arguments: what was written after the command's name.
        command: the command as typed, for the usage line.
        shape: `Invocation` or a generic subclass of it, with further flags.
        description: the head of `--help`. `None` = the docstring of `kind`.

    Raises:
        CommandError: if the config file or an override is wrong.
        SystemExit: with 2 for wrong flags and 0 after `--help`; what there is to say has been printed.
    """
    file, _ = _file_and_overrides(arguments)
    settings = settings_of(arguments)
    default = unchecked_config(kind, settings, absent=tyro.MISSING)
    generic: Any = shape
    invocation = tyro.cli(
        generic[twin_of(kind)],
        prog=command,
        description=description or inspect.getdoc(kind),
        args=list(arguments),
        default=generic(run=default),
        use_underscores=True,
    )
    if invocation.file != file:
        raise CommandError(f"The config file {invocation.file} must come first: `{command} {invocation.file} …`.")
    return replace(invocation, run=checked_config(kind, invocation.run, settings, flags=_flags(arguments)))


def settings_of(arguments: Sequence[str]) -> Setting:
    """The config file of a command line with its `--set` overrides, as a tree that nobody has looked at yet.

    Raises:
        CommandError: if the file or an override cannot be read.
    """
    file, overrides = _file_and_overrides(arguments)
    settings = read_settings(file) if file else Setting({}, "the command line")
    return with_overrides(settings, overrides)


def _file_and_overrides(arguments: Sequence[str]) -> tuple[Path | None, tuple[str, ...]]:
    """What has to be known before the flags are read, since it gives them their defaults."""
    if not {"-h", "--help"}.isdisjoint(arguments):
        return None, ()  # help is about the command, not about one file
    file = Path(arguments[0]) if arguments and not arguments[0].startswith("-") else None
    pairs = itertools.pairwise([*arguments, ""])
    overrides = (after if word == "--set" else word[len("--set=") :] for word, after in pairs if _is_set(word))
    return file, tuple(overrides)


def _flags(arguments: Sequence[str]) -> frozenset[str]:
    """The dotted names of the flags that were written."""
    return frozenset(word[2:].partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--"))


def _is_set(word: str) -> bool:
    return word == "--set" or word.startswith("--set=")
