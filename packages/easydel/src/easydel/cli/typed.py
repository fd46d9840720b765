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
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar

from easydel.cli.errors import CommandError
from easydel.cli.settings import Setting

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
    return _Builder(kind, absent).build(kind, settings, ())


class _Misfit(Exception):
    """A value does not fit a type. Raised and caught in this file only."""


class _Builder:
    def __init__(self, root: type, absent: Any):
        self._known = sorted(_dotted_names(root))
        self._absent = absent

    def build(self, kind: type[Config], settings: Setting, path: tuple[str, ...]) -> Config:
        if not isinstance(settings.value, dict):
            dotted = ".".join(path)
            raise CommandError(
                f"{settings.where}: `{dotted}` is {_found(settings)}; expected a section of further keys, "
                f"for example `{'.'.join((*path, fields(kind)[0].name))}`."  # pyright: ignore[reportArgumentType]
            )
        annotations = typing.get_type_hints(kind)
        values: dict[str, Any] = {}
        for key, child in settings.value.items():
            if key not in annotations:
                raise CommandError(f"{child.where}: there is no key `{'.'.join((*path, key))}`.{self._hint(path, key)}")
            values[key] = self._value(annotations[key], child, (*path, key))
        for name in _required(kind):
            if name not in values:
                values[name] = self._missing((*path, name), settings)
        return self._construct(kind, values, settings, path)

    def _value(self, annotation: Any, setting: Setting, path: tuple[str, ...]) -> Any:
        section = _section_of(annotation)
        if section is not None and (section is annotation or setting.value is not None):
            return self.build(section, setting, path)
        try:
            return _converted(annotation, setting)
        except _Misfit:
            found, expected = _found(setting), _described(annotation)
            raise CommandError(f"{setting.where}: `{'.'.join(path)}` is {found}; expected {expected}.") from None

    def _missing(self, path: tuple[str, ...], settings: Setting) -> Any:
        if self._absent is MISSING:
            raise CommandError(f"{settings.where}: the key `{'.'.join(path)}` is required and missing.")
        return self._absent

    def _construct(
        self, kind: type[Config], values: dict[str, Any], settings: Setting, path: tuple[str, ...]
    ) -> Config:
        from easydel_models.errors import LoraError
        from easydel_trainers.errors import ConfigError

        try:
            return kind(**values)
        except ConfigError as error:
            origin = settings.value.get(error.field, settings).where
            dotted = ".".join((*path, error.field))
            raise CommandError(f"{origin}: `{dotted}` is {error.value!r}; expected {error.expected}.") from None
        except LoraError as error:
            raise CommandError(f"{settings.where}: `{'.'.join(path)}`: {error}") from None

    def _hint(self, path: tuple[str, ...], key: str) -> str:
        """The key that was probably meant: one of this name in another section, or one spelt alike."""
        elsewhere = [name for name in self._known if name.rpartition(".")[2] == key]
        dotted = ".".join((*path, key))
        alike = difflib.get_close_matches(dotted, self._known, n=1, cutoff=0.6)
        leaves = {name.rpartition(".")[2]: name for name in self._known}
        alike = alike or [leaves[leaf] for leaf in difflib.get_close_matches(key, leaves, n=1, cutoff=0.7)]
        for name in elsewhere or alike:
            return f" Did you mean `{name}`?"
        return " `--help` lists the keys."


def _dotted_names(kind: type, prefix: str = "") -> Iterator[str]:
    annotations = typing.get_type_hints(kind)
    for name, annotation in annotations.items():
        yield prefix + name
        section = _section_of(annotation)
        if section is not None:
            yield from _dotted_names(section, f"{prefix}{name}.")


def _section_of(annotation: Any) -> Any:
    """The dataclass that a section is read into; `None` where the annotation is, or may be, none."""
    kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((kind for kind in kinds if is_dataclass(kind) and isinstance(kind, type)), None)


def _required(kind: Any) -> list[str]:
    return [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]


def _converted(annotation: Any, setting: Setting) -> Any:
    """The value as `annotation` wants it; raises `_Misfit`."""
    origin, arguments, value = typing.get_origin(annotation), typing.get_args(annotation), setting.value
    if origin in (typing.Union, types.UnionType):
        return _first_fitting(arguments, setting)
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
    elif origin in (tuple, list, Sequence) and isinstance(value, list):
        return tuple(_converted(arguments[0], item) for item in value)
    elif annotation is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        return _number(value)
    elif annotation is type(None) and value is None:
        return None
    elif isinstance(annotation, type) and type(value) is annotation:
        return value
    raise _Misfit


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
    except ValueError:
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
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if origin in (tuple, list, Sequence):
        return f"a list, each item {_described(arguments[0])}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    return names.get(annotation, str(annotation))
