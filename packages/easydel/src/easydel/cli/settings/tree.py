"""YAML files, `--set KEY=VALUE` and flags as one tree of settings, each of which knows where it was written.

Only YAML's plain data is read: no tags that build objects, no aliases. A key given twice is refused, since
one of the two values would be lost without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import yaml

from easydel.cli.output.errors import CommandError

_MOST_CHARACTERS = 1 << 20
_DEEPEST = 32
_SHOWN = 80  # characters of a value in an error


@final
class Words(tuple[str, ...]):
    """What was written behind a flag: text, to which only the type that is wanted gives a meaning."""

    __slots__ = ()


@final
@dataclass(frozen=True, slots=True)
class Setting:
    """A value and its origin.

    Attributes:
        value: a scalar, a list of settings, a dict of settings, or the words behind a flag.
        where: the origin, as an error message would name it: `run.yaml, line 12`, `--set training.seed=1` or
            `--training.seed`.
    """

    value: Any
    where: str


def read_settings(path: Path) -> Setting:
    """Reads a YAML file.

    Raises:
        CommandError: if the file is missing, is not YAML, or holds anything but a mapping of keys to values.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CommandError(f"The config file {path} does not exist (looked in {Path.cwd()}).") from None
    except (OSError, ValueError) as error:  # also a name that no file has, and bytes that are no text
        raise CommandError(f"The config file {path} cannot be read: {error}.") from None
    setting = _parse(text, str(path), lines=True)
    if setting.value is None:
        return Setting({}, str(path))
    if not isinstance(setting.value, dict):
        raise CommandError(f"The config file {path} holds {setting.value!r}; expected lines of the form `key: value`.")
    return setting


def with_overrides(settings: Setting, overrides: Sequence[str]) -> Setting:
    """Lays `key=value` texts over `settings`; keys are dotted, values are YAML.

    Raises:
        CommandError: if a text is not of that form, or goes through a key that holds a plain value.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        where = f"--set {text}"
        if not equals or not all(key.split(".")):
            raise CommandError(f"`{where}` is not of the form --set key=value, for example --set training.seed=1.")
        leaf = Setting(_parse(value, where, lines=False).value, where)
        settings = _replaced(settings, key.split("."), leaf)
    return settings


def with_flags(settings: Setting, flags: Mapping[str, Setting]) -> Setting:
    """Lays flags, by their dotted names, over `settings`."""
    for key, leaf in flags.items():
        settings = _replaced(settings, key.split("."), leaf)
    return settings


def _replaced(setting: Setting, keys: list[str], leaf: Setting) -> Setting:
    if not keys:
        return leaf
    # A plain value on the way is replaced by a section; what it should have been is for the typed reading to
    # say.
    section = setting.value if isinstance(setting.value, dict) else {}
    child = _replaced(section.get(keys[0], Setting(None, leaf.where)), keys[1:], leaf)
    return Setting({**section, keys[0]: child}, setting.where)


def _parse(text: str, name: str, *, lines: bool) -> Setting:
    try:
        _check_events(text, name)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return Setting(None, name) if node is None else _Reader(name, lines).setting(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark and lines else name
        raise CommandError(f"{where}: not valid YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise CommandError(f"{name}: not valid YAML: {error}.") from None


def _check_events(text: str, name: str) -> None:
    """Refuses what would grow without bounds when it is built; the events come one by one, before anything is."""
    if len(text) > _MOST_CHARACTERS:
        raise CommandError(f"{name} has {len(text):,} characters; a config has at most {_MOST_CHARACTERS:,}.")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise CommandError(f"{name} uses a YAML alias (`*name`); write the value out instead.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise CommandError(f"{name} nests sections and lists deeper than {_DEEPEST} levels.")


@final
class _Reader:
    """Turns YAML's node tree into settings."""

    def __init__(self, name: str, lines: bool):
        self._name = name
        self._lines = lines
        self._scalars = yaml.SafeLoader("")

    def setting(self, node: yaml.Node, origin: yaml.Node | None = None) -> Setting:
        where = self._where(origin or node)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return Setting(self._section(node), where)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return Setting([self.setting(child) for child in node.value], where)
        try:
            return Setting(self._scalars.construct_object(node), where)  # refuses tags that are not plain data
        except ValueError as error:  # a date that is none, a number of thousands of digits
            raise CommandError(f"{where}: {str(node.value)[:_SHOWN]!r} is no value that YAML knows: {error}.") from None

    def _section(self, node: yaml.MappingNode) -> dict[str, Setting]:
        section: dict[str, Setting] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str):
                raise CommandError(f"{self._where(key_node)}: a key must be a plain word.")
            if key in section:
                first = section[key].where
                raise CommandError(f"{self._where(key_node)}: `{key[:_SHOWN]}` is given twice (first at {first}).")
            section[key] = self.setting(value_node, origin=key_node)
        return section

    def _where(self, node: yaml.Node) -> str:
        return f"{self._name}, line {node.start_mark.line + 1}" if self._lines else self._name
