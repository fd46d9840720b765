"""Files of a run's folder: lines of JSON that are appended to, and texts that are replaced as a whole.

A kill or a full disk may leave half a line. It is no record, and takes no other one with it. Symbolic links are not
followed: what a folder of others calls its log is no way to write elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

_Line = dict[str, Any]


def read_lines(path: Path) -> list[_Line]:
    """Returns the objects in a file of JSON lines that know their `step`; none where there is no file."""
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    # Only "\n" ends a line: other line ends of Unicode may stand in texts.
    found = (_parsed(line) for line in content.split("\n")[:-1])
    return [line for line in found if isinstance(line, dict) and isinstance(line.get("step"), int)]


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Appends one object; it is on disk when this returns."""
    with _opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as file:
        size = file.seek(0, os.SEEK_END)
        half = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        _write_all(file, (b"\n" if half else b"") + _encoded(line))


def keep_lines(path: Path, keep: Callable[[_Line], bool]) -> list[_Line]:
    """Takes lines out of a file, broken ones too; what is left is returned."""
    kept = [line for line in read_lines(path) if keep(line)]
    if path.exists():
        write_lines(path, kept)
    return kept


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Makes these objects the file, whole or not at all."""
    _replace(path, b"".join(_encoded(line) for line in lines))


def write_whole(path: Path, text: str) -> None:
    """Makes a text the file, whole or not at all."""
    _replace(path, text.encode("utf-8", errors="backslashreplace"))


def _encoded(line: Mapping[str, Any]) -> bytes:
    # Half of a surrogate pair, which rows may hold and UTF-8 may not, becomes the escape that JSON has for it.
    return (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", errors="backslashreplace")


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)  # of a process that was killed
    try:
        with _opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
            _write_all(file, content)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_all(file: FileIO, content: bytes) -> None:
    """Writes without a buffer."""
    # One would be given to the system later, and by whoever closes the file.
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _opened(path: Path, flags: int) -> FileIO:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    return FileIO(descriptor, "r+" if flags & os.O_RDWR else "w")
