"""What a callable depends on: its code, the values it was made with, and what it uses of the modules around it.

Code of libraries counts by its name and the version of the library, that of the user by itself. Texts that a function
uses are kept as digests, since they may be secrets. What cannot be known is named (`UNIDENTIFIED`).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cached_property, partial
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from easydata_sources.types import Identity

__all__ = ["UNIDENTIFIED", "digest", "function_identity", "settings_identity", "settings_of"]

UNIDENTIFIED = "unidentified"
"""The key of a text that says what of an identity is not known."""

_DIGEST_BYTES = 16
_MOST_VALUES = 20_000  # that one function uses; a model in its closure is not walked through
_OURS = ("easydata_", "easydel")


def function_identity(function: Any) -> Identity:
    """Returns what identifies a callable."""
    return _Walk(texts=False).value(function)


def settings_identity(settings: Mapping[str, Any]) -> Identity:
    """Returns the identities of the values that something was made with, by name."""
    return {name.lstrip("_"): _Walk(texts=True).value(value) for name, value in sorted(settings.items())}


def digest(parts: Any) -> str:
    """Returns a digest of some bytes in order; where one part ends counts."""
    made = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        made.update(len(part).to_bytes(8, "little"))
        made.update(part)
    return made.hexdigest()


class _Walk:
    """A walk through what one value refers to.

    Args:
        texts: Whether texts are shown as they are; those that functions use never are.
    """

    def __init__(self, *, texts: bool) -> None:
        self._texts = texts
        self._path: list[int] = []
        self._known: dict[int, tuple[Any, Any]] = {}  # with the value, so that its number is not given anew

    def value(self, value: Any) -> Any:  # noqa: PLR0911 - one for each kind of value
        """Returns what identifies any value."""
        if value is None or isinstance(value, bool | int):
            return int(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else repr(float(value))
        if isinstance(value, str):
            return str(value) if self._texts else {"text": digest([value.encode(errors="surrogatepass")])}
        if id(value) in self._known:
            return self._known[id(value)][1]
        if id(value) in self._path:
            return {"again": len(self._path) - self._path.index(id(value))}
        if len(self._known) >= _MOST_VALUES:
            return _unknown(value)
        self._path.append(id(value))
        try:
            found = self._inside(value)
        finally:
            self._path.pop()
        self._known[id(value)] = value, found
        return found

    def _inside(self, value: Any) -> Any:  # noqa: PLR0911, PLR0912 - one for each kind of value
        match value:
            case ModuleType():
                return {"module": value.__name__, **_version(value.__name__)}
            case Mapping():
                return {_key(key): self.value(part) for key, part in value.items()}
            case list() | tuple():
                return [self.value(part) for part in value]
            case set() | frozenset():
                return sorted((self.value(part) for part in value), key=json.dumps)
            case re.Pattern():
                return {"pattern": str(value.pattern), "flags": value.flags}
            case PurePath():
                return self.value(str(value))
            case Enum():
                return f"{type(value).__qualname__}.{value.name}"
            case bytes() | bytearray():
                return {"content": digest([bytes(value)])}
            case partial():
                held = [self.value([*value.args, *sorted(value.keywords.items())])]
                return {"partial": self.value(value.func), "values": held}
            case MethodType():
                return {"method": self._function(value.__func__), "of": self.value(value.__self__)}
            case FunctionType():
                return self._function(value)
            case type():
                return self._class(value)
            case _:
                return self._object(value)

    def _object(self, value: Any) -> Identity:  # noqa: PLR0911 - one for each kind of object
        described: Callable[[], Identity] | None = getattr(value, "identity", None)
        if callable(described) and _is_ours(type(value)):
            return described()
        backend = getattr(value, "backend_tokenizer", None)
        if backend is not None:  # a fast tokenizer of `transformers`: its Rust side prints all its rules
            return {"tokenizer": _tokenizer(value, backend)}
        if hasattr(value, "tobytes") and hasattr(value, "dtype"):
            if value.dtype.kind == "O":
                return {"values": self.value(value.tolist())}
            return {"content": digest([f"{value.dtype}{value.shape}".encode(), value.tobytes()])}
        if hasattr(value, "__wrapped__") and not hasattr(value, "__dict__"):
            return {"wraps": self.value(value.__wrapped__)}
        if isinstance(value, BuiltinFunctionType):
            owner = value.__self__
            return {"function": value.__qualname__, "of": None if owner is None else self.value(owner)}
        if is_dataclass(value):
            held = {field.name: self.value(getattr(value, field.name)) for field in fields(value)}
            return {**self._class(type(value)), "fields": held}
        kind = type(value)
        if _is_ours(kind) and hasattr(value, "__dict__"):
            # Containers in it are caches, which fill as rows are read; a class that holds rules in one has identity().
            held = {name: part for name, part in settings_of(value).items() if not isinstance(part, dict | list | set)}
            return {"object": _name(kind), "settings": {name: self.value(part) for name, part in held.items()}}
        if not _is_library(kind.__module__, None) and hasattr(value, "__dict__") and not hasattr(kind, "__slots__"):
            return {**self._class(kind), "holds": {name: self.value(part) for name, part in settings_of(value).items()}}
        wrapped = getattr(value, "__wrapped__", None)
        return {"wraps": self.value(wrapped)} if wrapped is not None else self._reduced(value)

    def _reduced(self, value: Any) -> Identity:
        """Returns what pickle would make an object of again."""
        try:
            made = value.__reduce_ex__(2)
        except Exception:  # noqa: BLE001 - whatever it says, it does not tell what it is
            return _unknown(value)
        if isinstance(made, str):
            return {"name": made}
        parts = [part for part in made[1] if not isinstance(part, type)]
        state = [*made[2:]] if made[2:] and made[2] is not None else []
        if (not parts and not state) or any(isinstance(part, Iterator) for part in state):
            return _unknown(value)
        return {"object": _name(type(value)), "values": self.value([*parts, *state])}

    def _class(self, kind: type) -> Identity:
        """Returns a class: one of the user's by the code of its methods too, of itself and of what it inherits."""
        own = [part for part in kind.__mro__ if not _is_library(part.__module__, None)]
        if not own:
            return {"class": _name(kind), **_version(kind.__module__)}
        members = {f"{part.__qualname__}.{name}": member for part in own for name, member in _members(part)}
        return {"class": _name(kind), "code": {name: self.value(member) for name, member in sorted(members.items())}}

    def _function(self, function: FunctionType) -> Identity:
        code, module = function.__code__, function.__module__ or ""
        if _is_library(module, code.co_filename) and "<locals>" not in function.__qualname__:
            return {"function": f"{module}.{function.__qualname__}", **_version(module)}
        outside = dict(self._outside(function))
        defaults = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
        plain = _Walk(texts=False)
        plain._path, plain._known = self._path, self._known
        return {
            "function": function.__qualname__,
            "code": digest(_code_parts(code)),
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            **({"defaults": plain.value(defaults)} if defaults else {}),
            **({"uses": {name: plain.value(held) for name, held in sorted(outside.items())}} if outside else {}),
        }

    def _outside(self, function: FunctionType) -> Iterator[tuple[str, Any]]:
        """Yields what a function uses of its module, of other modules of the user's, and of functions around it."""
        names = _names(function.__code__)
        for name in names:
            value = function.__globals__.get(name, _ABSENT)
            if isinstance(value, ModuleType) and not _is_library(value.__name__, getattr(value, "__file__", None)):
                used = ((inner, getattr(value, inner, _ABSENT)) for inner in names)
                yield from ((f"{name}.{inner}", held) for inner, held in used if held is not _ABSENT)
            elif value is not _ABSENT:
                yield name, value
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not bound yet
                yield name, None


_ABSENT = object()
_MEMBERS = (FunctionType, staticmethod, classmethod, property, bool, int, float, str, tuple, list, dict, set, frozenset)


def _tokenizer(tokenizer: Any, backend: Any) -> Identity:
    rules = json.loads(backend.to_str())
    rules |= {"truncation": None, "padding": None}  # what an earlier call left behind
    return {
        "rules": digest([json.dumps(rules).encode()]),
        "chat_template": digest([str(tokenizer.chat_template or "").encode(errors="surrogatepass")]),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def settings_of(value: Any) -> dict[str, Any]:
    """Returns what an object was made with; what it computes once and keeps is none of it."""
    kind = type(value)
    held = sorted(vars(value).items())
    return {name: part for name, part in held if not isinstance(getattr(kind, name, None), cached_property)}


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(kind).items():
        if name.startswith("__") and not isinstance(member, FunctionType):
            continue  # what Python itself keeps there
        if isinstance(member, staticmethod | classmethod):
            yield name, member.__func__
        elif isinstance(member, property):
            yield name, [part for part in (member.fget, member.fset) if part is not None]
        elif isinstance(member, _MEMBERS):
            yield name, member


def _names(code: CodeType) -> list[str]:
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return list(dict.fromkeys([*code.co_names, *(name for part in inner for name in _names(part))]))


def _code_parts(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars)).encode()
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _code_parts(const)
        else:
            text = repr(sorted(const, key=repr)) if isinstance(const, frozenset) else repr(const)
            yield text.encode(errors="surrogatepass")


def _is_ours(kind: type) -> bool:
    return any(part.__module__.startswith(_OURS) for part in kind.__mro__)


def _is_library(module: str, file: str | None) -> bool:
    """Returns whether code is that of the standard library or of an installed package."""
    root = module.partition(".")[0]
    if (root in sys.stdlib_module_names and root != "__main__") or module.startswith(_OURS):
        return True
    path = str(file or getattr(sys.modules.get(module), "__file__", None) or "")
    return "site-packages" in path or "dist-packages" in path


def _version(module: str) -> Identity:
    root = module.partition(".")[0]
    version = getattr(sys.modules.get(root), "__version__", None)
    return {"version": version} if isinstance(version, str) and not root.startswith(_OURS) else {}


def _key(key: Any) -> str:
    return key if isinstance(key, str) else f"{type(key).__name__} {key!r}"


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _unknown(value: Any) -> Identity:
    return {UNIDENTIFIED: f"the value of a {_name(type(value))}"}
