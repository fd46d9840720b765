"""Folders that hold one thing whole, or say by what is missing that they do not.

New files are written beside the folder. Only when all are there do they take the places of the old ones, by renames:
the file by which readers know the folder is taken away first and comes back last. A kill or a full disk leaves what
was there, what is new, or a folder that no reader takes for either.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from easydel_models.errors import WeightsError


@contextmanager
def whole_folder(path: str | os.PathLike[str], *, key: str, replaces: Sequence[str]) -> Iterator[Path]:
    """Gives a fresh folder to write to; on leaving without an error its files become those of `path`.

    Args:
        path: The folder; made where it is not there. Files in it that are not replaced stay.
        key: The file without which nobody takes the folder for whole, such as config.json.
        replaces: Patterns of files that belong together with the new ones, and go where there is no new one.

    Raises:
        WeightsError: If another process is writing the same folder.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.part")
    with _only_writer(scratch):
        # What a process that was killed has left.
        shutil.rmtree(scratch / "files", ignore_errors=True)
        try:
            fresh = scratch / "files"
            fresh.mkdir()
            yield fresh
            _sync(fresh)
            _move_into_place(fresh, target, key, replaces)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _only_writer(scratch: Path) -> Iterator[None]:
    if scratch.is_symlink():
        raise WeightsError(f"{scratch} is a symbolic link, which is not written through; remove it.")
    scratch.mkdir(exist_ok=True)
    descriptor = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise WeightsError(
            f"Another process is writing the same folder (it holds {scratch}). Wait for it, or choose another folder."
        ) from None
    finally:
        os.close(descriptor)


def _move_into_place(fresh: Path, target: Path, key: str, replaces: Sequence[str]) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    (target / key).unlink(missing_ok=True)
    for stale in {file for pattern in replaces for file in target.glob(pattern)}:
        _remove(stale)
    for file in sorted(fresh.iterdir(), key=lambda file: file.name == key):
        if file.is_dir() and (target / file.name).exists():
            _remove(target / file.name)
        file.replace(target / file.name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
