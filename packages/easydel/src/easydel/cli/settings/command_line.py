"""What is written behind a command: flags and plain words, or a config file with `--set` overrides and flags.

Every flag is a setting like a key of a file, under its dotted name; it is typed and judged by the same code, so that a
field of a config is a YAML key, a flag and a line of `--help` at once. A flag outweighs `--set`, which outweighs the
file.
"""

from __future__ import annotations

import typing
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from easydel.cli.output.errors import CommandError
from easydel.cli.settings.build import build_config, dotted_types, hint_for, section_of
from easydel.cli.settings.conversion import is_switch, is_yes_or_no, takes_many
from easydel.cli.settings.help import print_help
from easydel.cli.settings.tree import Setting, Words, read_settings, with_flags, with_overrides

Flags = TypeVar("Flags")
Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class FileFlags:
    """The flags of every command that reads a config file, beside the config's own keys. Commands add theirs."""

    file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG.yaml")] = None
    """YAML file. Its keys are the names of the flags below; the part before a dot is a section."""

    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Change one key of the file, for example `--set training.max_length=512`. The value is YAML."""

    print_config: bool = False
    """Print the whole resulting config as YAML, and stop."""


def parse_flags(kind: type[Flags], words: Sequence[str], *, command: str) -> Flags:
    """Reads a command line without a config file.

    Args:
        kind: a dataclass; its docstring is the head of `--help`, those of its fields are the lines of it. A field
            marked as `tyro.conf.Positional` is a plain word, or several; flags in a section of their own, marked as
            `tyro.conf.arg(name="")`, are written as if they stood beside it.
        words: what was written behind the command's name.
        command: the command as typed.

    Raises:
        CommandError: if a flag is unknown, or a word does not fit.
        SystemExit: with 0 behind `--help`.
    """
    if _asks_for_help(words):
        print_help(kind, command=command)
    types = {name: annotation for name, annotation in _types_of_flags(kind).items() if section_of(annotation) is None}
    dotted = {name.rpartition(".")[2]: name for name in types}
    plain, flags = _split(words, {flag: types[name] for flag, name in dotted.items()})
    placed = Setting(_placed(kind, plain, command), command)
    return build_config(kind, with_flags(placed, {dotted[flag]: setting for flag, setting in flags.items()}))


def parse_run(
    flags: type[Flags], config: type[Config], words: Sequence[str], *, command: str, description: str | None = None
) -> tuple[Flags, Config]:
    """Reads a command line whose first word may be a config file.

    Args:
        flags: the command's own flags, a `FileFlags`.
        config: the config that file, overrides and further flags make; its docstring is the head of `--help`.
        words: what was written behind the command's name.
        command: the command as typed.
        description: the head of `--help`. `None` = the docstring of `config`.

    Raises:
        CommandError: if the config file, an override or a flag is wrong; says where it stands.
        SystemExit: with 0 behind `--help`.
    """
    if _asks_for_help(words):
        print_help(flags, config, command=command, description=description)
    own = _types_of_flags(flags)
    plain, written = _split(words, dict(dotted_types(config)) | own)
    if len(plain) > 1 or (plain and plain[0] != words[0]):
        raise CommandError(f"A config file must come first: `{command} {plain[-1]} …`; found {plain[-1]!r} behind.")
    file = {"file": Setting(Words(plain), command)} if plain else {}
    of_command = {name: setting for name, setting in written.items() if name in own}
    of_config = {name: setting for name, setting in written.items() if name not in own}
    settings = _laid_over(plain, written.get("set"), of_config)
    return build_config(flags, Setting(file | of_command, command)), build_config(config, settings)


def untyped_settings(words: Sequence[str]) -> Setting:
    """File, overrides and flags of a command line before it is known what config they are for.

    Raises:
        CommandError: if the file or an override cannot be read.
    """
    if _asks_for_help(words):
        return Setting({}, "the command line")  # help is about the command, not about one file
    file = words[:1] if words and not _is_flag(words[0]) else []
    _, flags = _split(words[len(file) :], None)
    return _laid_over(file, flags.pop("set", None), flags)


def _asks_for_help(words: Sequence[str]) -> bool:
    return not {"-h", "--help"}.isdisjoint(words)


def _laid_over(file: Sequence[str], overrides: Setting | None, flags: Mapping[str, Setting]) -> Setting:
    settings = read_settings(Path(file[0])) if file else Setting({}, "the command line")
    return with_flags(with_overrides(settings, () if overrides is None else overrides.value), flags)


def _split(words: Sequence[str], types: Mapping[str, Any] | None) -> tuple[list[str], dict[str, Setting]]:
    """Returns plain words, and what stands behind each flag, by the flag's dotted name; the last of two alike counts.

    Args:
        words: behind the command.
        types: of all flags there are; how many words belong to a flag depends on it. `None` = all up to the next flag.
    """
    plain: list[str] = []
    flags: dict[str, Setting] = {}
    rest = deque(words)
    while rest:
        word = rest.popleft()
        if word == "--":
            return [*plain, *rest], flags
        if not _is_flag(word):
            plain.append(word)
            continue
        written, equals, value = word.partition("=")
        name = written.lstrip("-").replace("-", "_")
        if types is not None and (name not in types or not written.startswith("--")):
            raise CommandError(f"{written}: there is no such flag.{hint_for(name, sorted(types))}")
        if name == "set":
            before = flags[name].value if name in flags else ()
            behind = [*before, value if equals else "".join(_next_words(rest, 1))]
        else:
            behind = [value] if equals else _behind(rest, None if types is None else types[name])
        flags[name] = Setting(Words(behind), f"--{name}")
    return plain, flags


def _is_flag(word: str) -> bool:
    return word.startswith("--") or (word[:1] == "-" and word[1:2].isalpha())


def _behind(rest: deque[str], annotation: Any) -> list[str]:
    """Takes the words that belong to a flag of this type."""
    if annotation is None or takes_many(annotation):
        return _next_words(rest, len(rest))
    if not is_switch(annotation):
        return _next_words(rest, 1)
    return _next_words(rest, 1) if rest and is_yes_or_no(rest[0]) else []


def _next_words(rest: deque[str], most: int) -> list[str]:
    behind: list[str] = []
    while rest and len(behind) < most and not rest[0].startswith("--"):
        behind.append(rest.popleft())
    return behind


def _positional(kind: Any) -> dict[str, Any]:
    """Returns the fields that are plain words, with their types."""
    hints = typing.get_type_hints(kind, include_extras=True)
    marked = {name for name, hint in hints.items() if tyro.conf.Positional in getattr(hint, "__metadata__", ())}
    return {name: annotation for name, annotation in typing.get_type_hints(kind).items() if name in marked}


def _types_of_flags(kind: Any) -> dict[str, Any]:
    return {name: annotation for name, annotation in dotted_types(kind) if name not in _positional(kind)}


def _placed(kind: Any, plain: list[str], command: str) -> dict[str, Setting]:
    """Returns plain words under the names of the fields they are for."""
    placed: dict[str, Setting] = {}
    rest = deque(plain)
    required = {field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING}
    for name, annotation in _positional(kind).items():
        words = list(rest) if takes_many(annotation) else [rest.popleft()] if rest else []
        if takes_many(annotation):
            rest.clear()
        if words:
            placed[name] = Setting(Words(words), command)
        elif name in required:
            raise CommandError(f"`{command}` wants {name.upper()} behind it; `{command} --help` says what that is.")
    if rest:
        raise CommandError(f"`{command}` does not know what {rest[0]!r} is for; `{command} --help` says what it takes.")
    return placed
