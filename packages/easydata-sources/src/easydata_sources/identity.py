"""What the rows of a source depend on, in plain values that can be stored and compared.

Two sources of equal identity give equal rows in an equal order. So whoever keeps something that was made of rows, such
as a checkpoint or a set of tokens, keeps their identity beside it, and a file that was edited to equal size, a list in
another order or a function with another body is not taken for the old one. Where something lies does not count.

What cannot be known is named under `UNIDENTIFIED`, so that the user can be told.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from easydata_sources.rows import Row
from easydata_sources.server_faults import told_in_our_words

if TYPE_CHECKING:
    import pyarrow as pa

    from easydata_sources.files import DataFile

UNIDENTIFIED = "unidentified"
"""The key of a text that says what of an identity is not known."""

Identity: TypeAlias = dict[str, Any]
"""JSON-able; it may hold identities of other things."""

_WHOLE_BYTES = 1 << 26  # of a local file that are read to its end: a tenth of a second
_SAMPLES, _SAMPLE_BYTES = 256, 1 << 14  # of a larger one
_DIGEST_BYTES = 16
_SLICE_ROWS = 1024
_SAMPLED_SLICES = 64
#: What servers say of a file that changes with its content, in the words of several of them.
_VERSION_KEYS = ("etag", "ETag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime")


def unidentified(identity: Any) -> Iterator[str]:
    """Yield what an identity says is not known."""
    if isinstance(identity, Mapping):
        for key, value in identity.items():
            if key == UNIDENTIFIED:
                yield str(value)
            else:
                yield from unidentified(value)
    elif isinstance(identity, list | tuple):
        for value in identity:
            yield from unidentified(value)


def identity_digest(identity: Any) -> str:
    """Return a short name for an identity."""
    return _digest([json.dumps(identity, sort_keys=True).encode()])


def file_identity(file: DataFile) -> Identity:
    """Return what identifies the content of one file: a checksum, or of large and remote files what stands for one.

    A large local file is known by its size, its time, and samples over its length; a remote one by what its server
    says.
    """
    filesystem, path = file.located()
    if file.remote:
        with told_in_our_words(file.url, file.storage_options):
            info = filesystem.info(path)
        versions = {key: str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None}
        known = {"bytes": info.get("size"), **versions}
        return known if versions else {**known, UNIDENTIFIED: "whether a file of equal size is the same one"}
    info = filesystem.info(path)
    size = info["size"]
    if size <= _WHOLE_BYTES:
        with file.open() as opened:
            return {"bytes": size, "content": _digest(iter(lambda: opened.read(1 << 20), b""))}
    with file.open() as opened:
        steps = range(0, size - _SAMPLE_BYTES + 1, (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
        samples = (opened.read(_SAMPLE_BYTES) for at in [*steps, size - _SAMPLE_BYTES] if opened.seek(at) >= 0)
        return {"bytes": size, "samples": _digest(samples), "changed": str(info["mtime"])}


def rows_digest(rows: Sequence[Row]) -> str:
    """Return a digest of rows in memory: their keys and values, in order."""
    return _digest(json.dumps(row, default=_as_plain, ensure_ascii=False).encode(errors="replace") for row in rows)


def table_identity(rows: int, take: Callable[[int, int], pa.Table], *, nbytes: int) -> Identity:
    """Return what identifies the content of a table.

    Args:
        rows: Its length.
        take: Returns the rows from a number to another one.
        nbytes: Its size; of large tables evenly spaced rows stand for all.
    """
    starts = range(0, rows, _SLICE_ROWS)
    whole = nbytes <= _WHOLE_BYTES
    if not whole:
        starts = [*starts[:: max(1, len(starts) // _SAMPLED_SLICES)], max(0, rows - _SLICE_ROWS)]
    content = _digest(
        batch.serialize().to_pybytes()
        for start in starts
        for batch in take(start, min(start + _SLICE_ROWS, rows)).combine_chunks().to_batches()
    )
    return {"rows": rows, "content" if whole else "samples": content}


def settings_identity(settings: Mapping[str, Any]) -> Identity:
    """Return the identities of the values that something was made with, by name."""
    return {name.lstrip("_"): _value_identity(value, ()) for name, value in sorted(settings.items())}


def function_identity(function: Any) -> Identity:
    """Return what identifies a callable: its code, and the values that it was made with."""
    return _function_identity(function, seen=())


def _function_identity(function: Any, seen: tuple[Any, ...]) -> Identity:
    described: Callable[[], Identity] | None = getattr(function, "identity", None)
    if callable(described) and not isinstance(function, type):
        return described()
    if isinstance(function, partial):
        held = [_value_identity(value, seen) for value in (*function.args, *sorted(function.keywords.items()))]
        return {"partial": _function_identity(function.func, seen), "values": held}
    if isinstance(function, FunctionType):
        return _code_identity(function, (*seen, function))
    name = f"{type(function).__module__}.{type(function).__qualname__}"
    call = inspect.getattr_static(type(function), "__call__", None)
    if isinstance(function, type) or not isinstance(call, FunctionType):
        return {"callable": getattr(function, "__qualname__", name)}  # of a library: its version is not ours to know
    code = _function_identity(call, seen)
    if is_dataclass(function):
        held = {field.name: _value_identity(getattr(function, field.name), seen) for field in fields(function)}
        return {"callable": name, "code": code, "fields": held}
    return {"callable": name, "code": code, UNIDENTIFIED: f"what the {name} holds"}


def _code_identity(function: FunctionType, seen: tuple[Any, ...]) -> Identity:
    outside = {name: function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    outside |= {name: cell.cell_contents for name, cell in cells}
    defaults = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
    held = {name: _value_identity(value, seen) for name, value in sorted(outside.items()) if value not in seen}
    return {
        "function": function.__qualname__,
        "code": _digest(_code_parts(function.__code__)),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        **({"defaults": _value_identity(defaults, seen)} if defaults else {}),
        **({"uses": held} if held else {}),
    }


def _names(code: CodeType) -> list[str]:
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return [*code.co_names, *(name for part in inner for name in _names(part))]


def _code_parts(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars)).encode()
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _code_parts(const)
        else:
            yield (repr(sorted(const, key=repr)) if isinstance(const, frozenset) else repr(const)).encode()


def _value_identity(value: Any, seen: tuple[Any, ...]) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            found: Any = value
        case ModuleType():
            found = {"module": value.__name__}
        case Mapping():
            found = {str(key): _value_identity(part, seen) for key, part in value.items()}
        case list() | tuple():
            found = [_value_identity(part, seen) for part in value]
        case set() | frozenset():
            found = sorted((_value_identity(part, seen) for part in value), key=repr)
        case re.Pattern():
            found = str(value.pattern)
        case PurePath():
            found = str(value)
        case _:
            found = _object_identity(value, seen)
    return found


def _object_identity(value: Any, seen: tuple[Any, ...]) -> Identity:
    if isinstance(value, bytes) or hasattr(value, "tobytes"):
        return {"content": _digest([_as_plain(value).encode()])}
    if callable(value) or hasattr(value, "identity"):
        return _function_identity(value, seen)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _value_identity(getattr(value, field.name), seen) for field in fields(value)}
    return {UNIDENTIFIED: f"the value of a {type(value).__module__}.{type(value).__qualname__}"}


def _as_plain(value: Any) -> str:
    """Return text for a value of a row that JSON has no word for."""
    if hasattr(value, "tobytes"):
        return f"{value.dtype}{list(value.shape)}{value.tobytes().hex()}"
    return value.hex() if isinstance(value, bytes) else f"{type(value).__qualname__} {value!r}"


def _digest(parts: Any) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
