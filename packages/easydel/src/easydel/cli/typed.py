"""From a tree of settings to a config dataclass, refusing what does not fit.

The dataclass is the only description of what may be written: its field names are the keys, its annotations
the types, nested dataclasses are sections, which may stay away where `None` is allowed too. A key nobody knows is
refused with the nearest known one, a value of another type with what was found and what was expected, both with the
place in the file.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar

from easydel_trainers.trl.names import name_here, reason_to_refuse

from easydel.cli.errors import CommandError, is_for_users
from easydel.cli.settings import Setting
from easydel.cli.twins import section_of, twin_of

Config = TypeVar("Config")


def build_config(kind: type[Config], settings: Setting, *, absent: Any = MISSING) -> Config:
    """Build a dataclass of type `kind` from `settings`.

    Args:
        kind: a dataclass; fields that are dataclasses themselves are read from sections of their name.
        settings: the tree to read.
        absent: what a required field that nobody set is filled with. Left out, such a field is an error.

    Raises:
        CommandError: if a key is unknown, a value has another type or is out of range, or a required one is
            missing.
    """
    return checked_config(kind, unchecked_config(kind, settings, absent=absent), settings, flags=frozenset())


def unchecked_config(kind: type[Config], settings: Setting, *, absent: Any = MISSING) -> Config:
    """Read `settings` into the twin of `kind`: keys and types are checked, values are not.

    Arguments and errors are those of `build_config`.
    """
    return _Builder(kind, absent).build(kind, settings, ())


def checked_config(
    kind: type[Config], twin: Config, settings: Setting, *, flags: Collection[str], path: tuple[str, ...] = ()
) -> Config:
    """Make the config from its twin.

    Args:
        kind: the config dataclass.
        twin: its values.
        settings: the tree that the values were read from, for the places of errors.
        flags: dotted names of the values that came from flags instead. A section that may be `None` is there if the
            tree or a flag speaks of it.
        path: of the section inside the whole, for messages.

    Raises:
        CommandError: if the values do not go together; says where the one to change was written.
    """
    annotations = typing.get_type_hints(kind)
    written = settings.value if isinstance(settings.value, dict) else {}
    values: dict[str, Any] = {}
    for item in fields(kind):  # pyright: ignore[reportArgumentType]
        name, here = item.name, (*path, item.name)
        section = section_of(annotations[name])
        values[name] = getattr(twin, name)
        if section is None or values[name] is MISSING:
            continue
        inside = written.get(name, Setting(None, settings.where))
        wanted = inside.value is not None or any(flag.startswith(".".join(here) + ".") for flag in flags)
        absent = section is not annotations[name] and not wanted
        values[name] = None if absent else checked_config(section, values[name], inside, flags=flags, path=here)
    return _constructed(kind, values, Setting(written, settings.where), flags, path)


def _constructed(
    kind: type[Config], values: dict[str, Any], settings: Setting, flags: Collection[str], path: tuple[str, ...]
) -> Config:
    from easydel_trainers.errors import ConfigError

    try:
        return kind(**values)
    except ConfigError as error:
        dotted = ".".join((*path, error.field))
        origin = f"--{dotted}" if dotted in flags else settings.value.get(error.field, settings).where
        raise CommandError(f"{origin}: `{dotted}` is {error.value!r}; expected {error.expected}.") from None
    except Exception as error:
        if not is_for_users(error):
            raise
        raise CommandError(f"{settings.where}: `{'.'.join(path)}`: {error}") from None


_ABSENT = object()
"""Stands for a section that was written as null: the twin keeps its defaults, and nobody asks for them."""


class _Misfit(Exception):
    """A value does not fit a type. Raised and caught in this file only."""


class _Builder:
    def __init__(self, root: type, absent: Any):
        self._known = sorted(_dotted_names(root))
        self._absent = absent

    def build(self, kind: type[Config], settings: Setting, path: tuple[str, ...]) -> Config:
        values = self._values(kind, settings, path)
        for name in _required(kind):
            if name not in values:
                values[name] = self._missing((*path, name), settings)
        return twin_of(kind)(**values)

    def _values(self, kind: type[Any], settings: Setting, path: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(settings.value, dict):
            dotted = ".".join(path)
            raise CommandError(
                f"{settings.where}: `{dotted}` is {_found(settings)}; expected a section of further keys, "
                f"for example `{'.'.join((*path, fields(kind)[0].name))}`."
            )
        annotations = typing.get_type_hints(kind)
        values: dict[str, Any] = {}
        for key, child in settings.value.items():
            if key not in annotations:
                raise CommandError(f"{child.where}: there is no key `{'.'.join((*path, key))}`.{self._hint(path, key)}")
            values[key] = self._value(annotations[key], child, (*path, key))
        return {key: value for key, value in values.items() if value is not _ABSENT}

    def _value(self, annotation: Any, setting: Setting, path: tuple[str, ...]) -> Any:
        section = section_of(annotation)
        if section is not None:
            may_be_absent = section is not annotation and setting.value is None
            return _ABSENT if may_be_absent else self.build(section, setting, path)
        whole = _dataclass_in(annotation)
        if whole is not None and isinstance(setting.value, dict):
            return self._whole(whole, setting, path)
        if typing.get_origin(annotation) is tuple and isinstance(setting.value, list):
            item = typing.get_args(annotation)[0]
            if is_dataclass(item):
                parts = enumerate(setting.value)
                return tuple(self._whole(item, part, (*path, str(index))) for index, part in parts)
        try:
            return _converted(annotation, setting)
        except _Misfit:
            found, expected = _found(setting), _described(annotation)
            raise CommandError(f"{setting.where}: `{'.'.join(path)}` is {found}; expected {expected}.") from None

    def _whole(self, kind: Any, setting: Setting, path: tuple[str, ...]) -> Any:
        """A dataclass that flags cannot change, and that is therefore checked at once."""
        values = self._values(kind, setting, path)
        for name in _required(kind):
            if name not in values:
                raise CommandError(f"{setting.where}: the key `{'.'.join((*path, name))}` is required and missing.")
        return _constructed(kind, values, setting, (), path)

    def _missing(self, path: tuple[str, ...], settings: Setting) -> Any:
        if self._absent is MISSING:
            raise CommandError(f"{settings.where}: the key `{'.'.join(path)}` is required and missing.")
        return self._absent

    def _hint(self, path: tuple[str, ...], key: str) -> str:
        """The key that was probably meant: one of this name in another section, or one spelt alike."""
        elsewhere = [name for name in self._known if name.rpartition(".")[2] == key]
        dotted = ".".join((*path, key))
        alike = difflib.get_close_matches(dotted, self._known, n=1, cutoff=0.6)
        leaves = {name.rpartition(".")[2]: name for name in self._known}
        alike = alike or [leaves[leaf] for leaf in difflib.get_close_matches(key, leaves, n=1, cutoff=0.7)]
        native = name_here(key)
        if native is not None and native != key:
            return f" TRL's `{key}` is `{leaves.get(native, native)}` here."
        reason = reason_to_refuse(key, families=not alike)
        if reason is not None and not elsewhere:
            return f" TRL has it; here {reason}."
        for name in elsewhere or alike:
            return f" Did you mean `{name}`?"
        return " `--help` lists the keys."


def _dotted_names(kind: type, prefix: str = "") -> Iterator[str]:
    annotations = typing.get_type_hints(kind)
    for name, annotation in annotations.items():
        yield prefix + name
        section = _dataclass_in(annotation)
        if section is not None:
            yield from _dotted_names(section, f"{prefix}{name}.")


def _dataclass_in(annotation: Any) -> Any:
    kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((kind for kind in kinds if is_dataclass(kind) and isinstance(kind, type)), None)


def _required(kind: Any) -> list[str]:
    return [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]


def _converted(annotation: Any, setting: Setting) -> Any:
    """The value as `annotation` wants it; raises `_Misfit`."""
    origin, arguments, value = typing.get_origin(annotation), typing.get_args(annotation), setting.value
    if origin in (typing.Union, types.UnionType):
        return _first_fitting(arguments, setting)
    if origin in (tuple, list, Sequence) and isinstance(value, list):
        return tuple(_converted(arguments[0], item) for item in value)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _converted(arguments[1], child) for key, child in value.items()}
    if annotation is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        return _number(value)
    if _is_one_of(arguments if origin is Literal else (), value) or _is_exactly(annotation, value):
        return value
    raise _Misfit


def _is_one_of(choices: tuple[Any, ...], value: Any) -> bool:
    return any(value == choice and type(value) is type(choice) for choice in choices)


def _is_exactly(annotation: Any, value: Any) -> bool:
    return isinstance(annotation, type) and type(value) is annotation


def _first_fitting(kinds: tuple[Any, ...], setting: Setting) -> Any:
    # An exact type wins over one that has to be converted: 3 stays whole where both int and float are
    # accepted.
    for kind in sorted(kinds, key=lambda kind: kind is not type(setting.value)):
        try:
            return _converted(kind, setting)
        except _Misfit:
            continue
    raise _Misfit


def _number(value: float | str) -> float:
    """YAML reads `1e-4` as text (it wants `1.0e-4`); everybody means the number."""
    try:
        return float(value)
    except (ValueError, OverflowError):  # no number, or a whole one beyond what floats hold
        raise _Misfit from None


def _found(setting: Setting) -> str:
    match setting.value:
        case dict():
            return "a section"
        case list():
            return "a list"
        case None:
            return "null"
        case str() as text:
            return f"the text {text!r}"
        case bool() as flag:
            return str(flag).lower()
        case other:
            return f"{other!r}"


def _described(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_described(kind) for kind in arguments)
    if origin is Literal:
        choices = ", ".join(str(choice) for choice in arguments)
        return choices if len(arguments) == 1 else f"one of {choices}"
    if origin in (tuple, list, Sequence):
        return f"a list, each item {_described(arguments[0])}"
    if origin in (dict, Mapping):
        return f"a section of names, each with {_described(arguments[1])}"
    if is_dataclass(annotation):
        return "a section"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    return names.get(annotation, str(annotation))
