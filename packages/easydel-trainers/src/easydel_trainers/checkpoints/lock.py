"""One run to a folder: a second one would overwrite the first one's checkpoints."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import ExitStack
from pathlib import Path

from easydel_trainers.errors import CheckpointError

LOCK_NAME = ".lock"


def lock_folder(folder: Path, resources: ExitStack) -> None:
    """Keeps every other run out of `folder` until `resources` close.

    The system takes the lock away with the process that held it, however it ended, so a killed run leaves none.

    Raises:
        CheckpointError: naming the other run's process, if there is one.
        OSError: if the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    file = resources.enter_context(os.fdopen(descriptor, "a+", encoding="utf-8"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        raise CheckpointError(
            f"`{folder}` is in use by another run ({owner}). Two runs in one folder would overwrite each other's "
            "checkpoints: wait for it to end, or choose another save_directory."
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
