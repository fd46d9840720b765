"""Quarantine: a JSON-lines file of the rows that were left out, each once, however often a run is started again.

Nothing but entries of a quarantine is ever changed: a file that holds anything else is refused.

{"file": "chats/a.jsonl", "row": 17, "reason": "broken_json", "error": "A line is not a whole …", "content": "{…"}
"""

from __future__ import annotations

import errno
import json
import os
from typing import Any, TypeAlias

from easydata_sources.errors import DataError, DataFormatError
from easydata_sources.safe_text import without_secrets

_CONTENT_CHARACTERS = 1 << 16
_FIELDS = {"file", "row", "reason", "error", "content"}
_BEGINNING = b'{"file": '

_Key: TypeAlias = tuple[str | None, int | None, str]
"""File, row and reason of an entry."""


class Quarantine:
    """The file, opened for each row that is added: bad rows are few.

    Rows are added with one write each, so several processes of a machine may share a file.

    Args:
        path: Where it lies, on a local disk; need not exist.

    Raises:
        DataError: If the path is an address on a network, to which nothing can be appended, or holds other data.
    """

    def __init__(self, path: str) -> None:
        if "://" in path:
            raise DataError(
                f"Bad rows cannot be written to {path!r}: rows are appended one by one, which only a local disk can.\n"
                "  mend: name a local file and copy it afterwards"
            )
        self._path = path
        self._known: set[_Key] | None = None
        self._entries()  # before any row is read, rather than at the first bad one

    def add(self, error: Exception, *, reason: str, content: Any) -> None:
        """Writes a row down, unless it is there already.

        Args:
            error: What is wrong with it; says where it is.
            reason: The name under which it is counted.
            content: The row, or its text; long ones are cut.
        """
        if self._known is None:
            self._known = self._read()
        located = isinstance(error, DataFormatError)
        file, row = (error.file, error.row) if located else (getattr(error, "filename", None), None)
        file = None if file is None else without_secrets(str(file))
        if (file, row, reason) in self._known:
            return
        entry = {"file": file, "row": row, "reason": reason, "error": str(error), **_shown(content)}
        self._append(json.dumps(entry, ensure_ascii=False) + "\n")
        self._known.add((file, row, reason))

    def _read(self) -> set[_Key]:
        """Returns the rows written by earlier runs; an entry that a kill cut short is removed."""
        entries, rest = self._entries()
        if not os.path.exists(self._path):
            os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
        elif _entry_in(rest) is not None:
            self._append("\n")
        elif rest:
            os.truncate(self._path, os.path.getsize(self._path) - len(rest))
        return {(entry["file"], entry["row"], entry["reason"]) for entry in entries}

    def _entries(self) -> tuple[list[dict[str, Any]], bytes]:
        """Returns the entries of the file, and what stands behind its last line's end; none if it does not exist.

        Raises:
            DataError: If it holds a line that is no entry.
        """
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return [], b""
        except OSError as error:
            raise DataError(
                f"The file for bad rows, {self._path!r}, cannot be read: {error}.\n  mend: name a file of its own"
            ) from error
        entries = []
        *lines, rest = data.split(b"\n")
        for number, line in enumerate([*lines, rest]):
            entry = _entry_in(line)
            if entry is not None:
                entries.append(entry)
            elif line and not _is_beginning_of_an_entry(line):
                raise DataError(
                    f"The file for bad rows, {self._path!r}, holds other data, which would be mixed with them.\n"
                    f"  found in line {number + 1}: {line[:60].decode(errors='replace')!r}\n"
                    "  expected: a new file, or one that bad rows have been written to\n"
                    "  mend: name a file of its own, e.g. bad_rows.jsonl"
                )
        return entries, rest

    def _append(self, line: str) -> None:
        content = line.encode(errors="backslashreplace")
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                if os.write(handle, content) < len(content):  # what is there now is taken for the rest of a kill
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(handle)
        except OSError as error:
            raise DataError(
                f"The file for bad rows, {self._path!r}, cannot be written to: {error}.\n"
                "  mend: make room, or name another file; the next run goes on with it"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        # What is in the file is read again by the process that gets this.
        return {"_path": self._path, "_known": None}


def _entry_in(line: bytes) -> dict[str, Any] | None:
    """Returns the entry that a line holds; None if it holds none, or a part of one."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and entry.keys() >= _FIELDS else None


def _is_beginning_of_an_entry(line: bytes) -> bool:
    """Returns whether a line is what a kill leaves of an entry: its beginning, and no whole JSON."""
    if not (line.startswith(_BEGINNING) or _BEGINNING.startswith(line)):
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def _shown(content: Any) -> dict[str, Any]:
    if isinstance(content, bytes):
        content = content[: 4 * _CONTENT_CHARACTERS].decode(errors="backslashreplace")
    elif content is not None and not isinstance(content, str):
        content = json.dumps(content, default=repr, ensure_ascii=False)
    if content is None or len(content) <= _CONTENT_CHARACTERS:
        return {"content": content}
    return {"content": content[:_CONTENT_CHARACTERS], "content_is_cut": True}
