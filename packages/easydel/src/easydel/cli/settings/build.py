"""From a tree of settings to a config, refusing what does not fit.

The config's dataclass is the only description of what may be written: its field names are the keys, its annotations
the types, nested dataclasses are sections, which may stay away where `None` is allowed too. A key nobody knows is
refused with the nearest known one, a value of another type with what was found and what was expected, one out of range
in the config's own words; each with the place where it stands.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Callable, Collection, Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import partial
from typing import Any, TypeVar, final

from easydel_trainers.trl.names import name_here, reason_to_refuse

from easydel.cli.output.errors import CommandError, is_for_users
from easydel.cli.settings.conversion import MisfitError, converted, described, found, kinds_of
from easydel.cli.settings.tree import Setting

Config = TypeVar("Config")


def build_config(kind: type[Config], settings: Setting) -> Config:
    """Builds a dataclass of type `kind` from `settings`.

    Args:
        kind: a dataclass; fields that are dataclasses themselves are read from sections of their name.
        settings: the tree to read.

    Raises:
        CommandError: if a key is unknown, a value has another type or is out of range, or a required one is
            missing.
    """
    return _Builder(kind).build(kind, settings, ())


def dotted_types(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every key of a config under its dotted name, with its type; sections before what is in them."""
    for name, annotation in typing.get_type_hints(kind).items():
        yield prefix + name, annotation
        section = section_of(annotation)
        if section is not None:
            yield from dotted_types(section, f"{prefix}{name}.")


def hint_for(dotted: str, known: Collection[str]) -> str:
    """Returns what to say behind a key that does not exist: the one that was probably meant, or why there is none.

    One of the same name in another section comes first, then one spelt alike.
    """
    key = dotted.rpartition(".")[2]
    elsewhere = [name for name in known if name.rpartition(".")[2] == key]
    alike = difflib.get_close_matches(dotted, known, n=1, cutoff=0.6)
    leaves = {name.rpartition(".")[2]: name for name in known}
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


@final
class _Builder:
    def __init__(self, root: type):
        self._root = root

    def build(self, kind: Any, settings: Setting, path: tuple[str, ...], base: Any = None) -> Any:
        """Returns a dataclass from a section; what the section leaves out is as in `base`, if there is one."""
        if not isinstance(settings.value, dict):  # an item of a list of sections
            raise CommandError(
                f"{settings.where}: `{'.'.join(path)}` is {found(settings)}; expected a section of further keys, "
                f"for example `{'.'.join((*path, fields(kind)[0].name))}`."
            )
        annotations = typing.get_type_hints(kind)
        defaults = {field.name: field.default for field in fields(kind)}
        values: dict[str, Any] = {}
        for key, child in settings.value.items():
            here = (*path, key)
            if key not in annotations:
                dotted = ".".join(here)
                hint = hint_for(dotted, sorted(name for name, _ in dotted_types(self._root)))
                raise CommandError(f"{child.where}: there is no key `{dotted}`.{hint}")
            values[key] = self._value(annotations[key], child, here, defaults[key])
        for field in fields(kind):
            required = base is None and field.default is MISSING and field.default_factory is MISSING
            if required and field.name not in values:
                dotted = ".".join((*path, field.name))
                raise CommandError(f"{settings.where}: the key `{dotted}` is required and missing.")
        return _constructed(kind if base is None else partial(replace, base), values, settings, path)

    def _value(self, annotation: Any, setting: Setting, path: tuple[str, ...], default: Any) -> Any:
        section = section_of(annotation)
        if section is not None and isinstance(setting.value, dict):
            return self.build(section, setting, path, default if isinstance(default, section) else None)
        if isinstance(setting.value, list) and typing.get_origin(annotation) is tuple:
            item = typing.get_args(annotation)[0]
            if is_dataclass(item):
                parts = enumerate(setting.value)
                return tuple(self.build(item, part, (*path, str(index))) for index, part in parts)
        try:
            return converted(annotation, setting)
        except MisfitError:
            expected = described(annotation)
            if section is not None and str not in kinds_of(annotation):
                expected = f"a section of further keys, for example `{'.'.join((*path, fields(section)[0].name))}`"
            raise CommandError(
                f"{setting.where}: `{'.'.join(path)}` is {found(setting)}; expected {expected}."
            ) from None


def section_of(annotation: Any) -> Any:
    """Returns the dataclass that a section of this type is made of; `None` if it can be no section."""
    return next((kind for kind in kinds_of(annotation) if is_dataclass(kind) and isinstance(kind, type)), None)


def _constructed(make: Callable[..., Any], values: dict[str, Any], settings: Setting, path: tuple[str, ...]) -> Any:
    from easydel_trainers.errors import ConfigError

    try:
        return make(**values)
    except ConfigError as error:
        dotted = ".".join((*path, error.field))
        where = settings.value.get(error.field, settings).where
        raise CommandError(f"{where}: `{dotted}` is {error.value!r}; expected {error.expected}.") from None
    except Exception as error:
        if not is_for_users(error):
            raise
        raise CommandError(f"{settings.where}: `{'.'.join(path)}`: {error}") from None
