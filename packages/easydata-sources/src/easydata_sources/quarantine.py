"""Quarantine: a JSON-lines file of the rows that were left out, each once, however often a run is started again.

{"file": "chats/a.jsonl", "row": 17, "reason": "broken_json", "error": "A line is not a whole …", "content": "{…"}
"""

from __future__ import annotations

import json
import os
from typing import Any

from easydata_sources.errors import DataError, DataFormatError

_CONTENT_CHARACTERS = 1 << 16


class Quarantine:
    """The file, opened for each row that is added: bad rows are few.

    Rows are added with one write each, so several processes of a machine may share a file.

    Args:
        path: Where it lies, on a local disk; need not exist.

    Raises:
        DataError: If the path is an address on a network, to which nothing can be appended.
    """

    def __init__(self, path: str) -> None:
        if "://" in path:
            raise DataError(
                f"Bad rows cannot be written to {path!r}: rows are appended one by one, which only a local disk can.\n"
                "  mend: name a local file and copy it afterwards"
            )
        self._path = path
        self._known: set[tuple[str | None, int | None, str]] | None = None

    def add(self, error: Exception, *, reason: str, content: Any) -> None:
        """Write a row down, unless it is there already.

        Args:
            error: What is wrong with it; says where it is.
            reason: The name under which it is counted.
            content: The row, or its text; long ones are cut.
        """
        if self._known is None:
            self._known = self._read()
        located = isinstance(error, DataFormatError)
        file, row = (error.file, error.row) if located else (getattr(error, "filename", None), None)
        if (file, row, reason) in self._known:
            return
        entry = {"file": file, "row": row, "reason": reason, "error": str(error), **_shown(content)}
        self._append(json.dumps(entry, ensure_ascii=False) + "\n")
        self._known.add((file, row, reason))

    def _read(self) -> set[tuple[str | None, int | None, str]]:
        """Return the rows written by earlier runs; a line that a kill cut short is removed."""
        if not os.path.exists(self._path):
            os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
            return set()
        with open(self._path, "r+b") as file:
            data = file.read()
            whole = data.rfind(b"\n") + 1
            file.truncate(whole)
        entries = [json.loads(line) for line in data[:whole].splitlines()]
        return {(entry["file"], entry["row"], entry["reason"]) for entry in entries}

    def _append(self, line: str) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line.encode(errors="backslashreplace"))
        finally:
            os.close(handle)

    def __getstate__(self) -> dict[str, Any]:
        # What is in the file is read again by the process that gets this.
        return {"_path": self._path, "_known": None}


def _shown(content: Any) -> dict[str, Any]:
    if isinstance(content, bytes):
        content = content[: 4 * _CONTENT_CHARACTERS].decode(errors="backslashreplace")
    elif content is not None and not isinstance(content, str):
        content = json.dumps(content, default=repr, ensure_ascii=False)
    if content is None or len(content) <= _CONTENT_CHARACTERS:
        return {"content": content}
    return {"content": content[:_CONTENT_CHARACTERS], "content_is_cut": True}
