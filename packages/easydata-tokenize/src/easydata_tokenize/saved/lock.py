"""One writer to a folder of a set: a second one would mix its files into the first one's.

On a disk the system holds the lock and takes it away with the process, however that ended. Where it cannot (buckets,
some network disks) an object says who writes, renewed while they do: another writer waits until it is old, or until
the process, if it was one of this machine, is gone.

The lock also names what the writer calls its unfinished files, so that the next one removes these and no others.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from easydata_sources.errors import DataError

from easydata_tokenize.saved.folder import SetFolder

__all__ = ["LOCK", "SetInUseError", "one_writer"]

LOCK = ".easydata-lock"
_LEASE_SECONDS = 300.0
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class SetInUseError(DataError):
    """A folder is being written to by another process."""


@contextmanager
def one_writer(folder: SetFolder) -> Iterator[None]:
    """Keeps every other writer out of the folder, and clears away what a writer left that was killed.

    Raises:
        SetInUseError: naming the other writer, if there is one.
        OSError: If the folder cannot be written to.
    """
    folder.make()
    if folder.local_path is None:
        with _lease(folder):
            yield
        return
    path = os.path.join(folder.local_path, LOCK)
    handle = _open_locked(folder, path)
    if handle is None:
        with _lease(folder):
            yield
        return
    try:
        left = _read(os.pread(handle, 1 << 16, 0), folder)
    except DataError:  # not ours, so it stays
        os.close(handle)
        raise
    try:
        folder.clear_temporary(left.get("writer"))
        content = _content(folder)
        os.ftruncate(handle, os.pwrite(handle, content, 0))
        yield
    finally:
        with suppress(OSError):
            os.unlink(path)
        os.close(handle)


def _open_locked(folder: SetFolder, path: str) -> int | None:
    """Returns the lock's file, locked; None where files cannot be locked."""
    try:
        import fcntl
    except ImportError:
        return None
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before may have removed it between our opening and locking it.
            if _is_file_at(handle, path):
                return handle
        except BlockingIOError:
            owner = _read(os.pread(handle, 1 << 16, 0), folder)
            os.close(handle)
            raise _in_use(folder, owner) from None
        except OSError as error:
            os.close(handle)
            if error.errno in _NO_LOCKS:
                return None
            raise
        os.close(handle)


def _is_file_at(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def _lease(folder: SetFolder) -> Iterator[None]:
    left = _read(folder.read(LOCK) or b"", folder)
    if left and not _is_over(left):
        raise _in_use(folder, left)
    folder.clear_temporary(left.get("writer"))
    if left:
        folder.write(LOCK, _content(folder))
    else:
        _claim(folder)
    now = _read(folder.read(LOCK) or b"", folder)
    if now.get("writer") != folder.writer:  # another came between
        raise _in_use(folder, now)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(folder, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with suppress(OSError):
            if _read(folder.read(LOCK) or b"", folder).get("writer") == folder.writer:
                folder.remove(LOCK)


def _claim(folder: SetFolder) -> None:
    """Writes the lock where there is none: of several who try at the same moment one may."""
    try:
        folder.create(LOCK, _content(folder))
    except Exception:  # noqa: BLE001 - each storage has its own for a file that is there, and for what it cannot do
        owner = _read(folder.read(LOCK) or b"", folder)
        if owner:
            raise _in_use(folder, owner) from None
        folder.write(LOCK, _content(folder))  # a storage that cannot tell new from old


def _renew(folder: SetFolder, ended: threading.Event) -> None:
    while not ended.wait(_LEASE_SECONDS / 5):
        with suppress(OSError):  # a storage that fails for good fails the work too
            folder.write(LOCK, _content(folder))


def _is_over(lock: dict[str, Any]) -> bool:
    if lock.get("host") == socket.gethostname():
        try:
            os.kill(int(lock["process"]), 0)
        except (ProcessLookupError, ValueError, KeyError, OverflowError):
            return True
        except PermissionError:
            pass
    return abs(time.time() - float(lock.get("renewed", 0))) > _LEASE_SECONDS


def _content(folder: SetFolder) -> bytes:
    owner = {"writer": folder.writer, "process": os.getpid(), "host": socket.gethostname(), "renewed": time.time()}
    return json.dumps(owner).encode()


def _read(content: bytes, folder: SetFolder) -> dict[str, Any]:
    """Returns what a lock says; nothing where a kill came before its writer had said anything."""
    if not content:
        return {}
    try:
        found = json.loads(content)
        if isinstance(found, dict) and isinstance(found.get("writer"), str):
            return found
    except ValueError:
        pass
    raise DataError(
        f"{folder.address(LOCK)} is no lock of a writer of sets, although it has its name.\n"
        "  mend: move it away, or choose another output_path"
    )


def _in_use(folder: SetFolder, owner: dict[str, Any]) -> SetInUseError:
    who = f"process {owner.get('process', 'unknown')} on {owner.get('host', 'an unknown machine')}"
    return SetInUseError(
        f"{folder} is being written to by {who}. Two writers in one folder would mix their files.\n"
        "  mend: wait for it to end, or choose another output_path"
    )
