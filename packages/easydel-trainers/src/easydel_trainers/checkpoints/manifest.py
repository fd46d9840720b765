"""Knowing that a checkpoint is what was written: a size and checksum of every file, beside the files.

Orbax renames a finished checkpoint into place, so a kill leaves none that is half written. What that cannot see is
damage done later, or by a file system that lost what it had confirmed; and numbers read from damaged files would be
trained on. So a manifest is written as the last file before the rename, and compared before a checkpoint is used.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

MANIFEST_NAME = "manifest.json"
_CHUNK = 1 << 22


def write_manifest(checkpoint: Path) -> None:
    """Records every file of the items in `checkpoint`. Orbax's own notes beside the items may still change."""
    entries = {str(path.relative_to(checkpoint)): _entry(path) for path in _item_files(checkpoint)}
    (checkpoint / MANIFEST_NAME).write_text(json.dumps(entries), encoding="utf-8")


def damage(checkpoint: Path) -> str | None:
    """Returns what is wrong with a checkpoint's files, in words; `None` = nothing."""
    try:
        recorded = json.loads((checkpoint / MANIFEST_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"it has no {MANIFEST_NAME}"
    except ValueError:
        return f"its {MANIFEST_NAME} is not readable"
    for name, entry in recorded.items():
        path = checkpoint / name
        if not path.is_file():
            return f"its file {name} is missing"
        found = _entry(path)
        if found != entry:
            return f"its file {name} has changed ({found} now, {entry} when it was written)"
    return None


def _item_files(checkpoint: Path) -> list[Path]:
    items = sorted(path for path in checkpoint.iterdir() if path.is_dir())
    return [path for item in items for path in sorted(item.rglob("*")) if path.is_file()]


def _entry(path: Path) -> dict[str, int]:
    size = checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            checksum = zlib.crc32(chunk, checksum)
    return {"bytes": size, "crc32": checksum}
