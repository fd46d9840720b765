"""Two writers at once, and a full disk at every file: refused in words; the next run ends with the same bytes."""

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import fsspec
import pytest
from easydata_sources import DataError, MemoryShardedSource
from easydata_tokenize import SetInUseError, open_saved, save_dataset, save_iterator
from easydata_tokenize.saved.lock import LOCK

ROWS = [{"input_ids": list(range(n % 9)), "text": f"row {n}"} for n in range(120)]
OPTIONS = {"max_shard_size": "4KB", "row_group_size": 20}


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    save_dataset(ROWS, folder, **OPTIONS)
    return files_of(folder)


# What needs room on a disk: names, and content that is not held back.
WRITING = ("open", "mkdir", "replace", "fsync", "pwrite")


class FullAt:
    """Lets so many calls of the system through, then says that the disk is full, in the middle of a file or before."""

    def __init__(self, monkeypatch, folder, at):
        self.left, self.struck = at, False
        for name in WRITING:
            monkeypatch.setattr(os, name, self.wrapped(getattr(os, name), str(folder)))

    def wrapped(self, function, folder):
        def call(*arguments, **options):
            concerns = isinstance(arguments[0], int) or str(arguments[0]).startswith(folder)
            writes = function.__name__ != "open" or bool(arguments[1] & os.O_CREAT)
            if concerns and writes:
                self.left -= 1
                if self.left < 0:
                    self.struck = True
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **options)

        return call


@pytest.mark.parametrize("write", ["set", "iterator"])
def test_a_disk_that_is_full_at_any_call_of_the_system(tmp_path, monkeypatch, whole, write):
    def run(folder):
        if write == "set":
            return save_dataset(ROWS, folder, **OPTIONS)
        return save_iterator(iter(ROWS), folder, **OPTIONS)

    at, struck, told = 0, True, list[str]()
    while struck:
        folder = tmp_path / str(at)
        with monkeypatch.context() as patched:
            full = FullAt(patched, folder, at)
            try:
                run(folder)
            except DataError as error:
                told.append(str(error))
        struck = full.struck
        if struck and folder.exists():
            with pytest.raises(DataError):
                open_saved(folder)
            run(folder)
        if folder.exists():
            assert {name: content for name, content in files_of(folder).items() if name != "_manifest.json"} == {
                name: content for name, content in whole.items() if name != "_manifest.json"
            }
        at += 1
    assert len(told) == at - 1 > 40  # shards, lengths, notes, entries, groups, the manifest twice, the lock
    assert all("cannot be written to" in text and len(text.splitlines()) < 8 for text in told)


# Forks for every try, so that a try costs no second of imports.
LIMITED = """
import os, resource, sys
import pyarrow.parquet, fsspec.implementations.local
from easydata_sources import DataError
from easydata_tokenize import save_dataset

rows = [{"input_ids": list(range(n % 9)), "text": f"row {n}"} for n in range(120)]
save_dataset(rows, "memory://warm", max_shard_size="4KB", row_group_size=20)
for line in sys.stdin:
    limit, _, folder = line.strip().partition(" ")
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        try:
            save_dataset(rows, folder, max_shard_size="4KB", row_group_size=20)
        except DataError as error:
            os._exit(3 if "cannot be written to" in str(error) else 4)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_files_that_no_room_is_left_for(tmp_path, whole):
    """Every file is cut off at its last byte by the system itself, in the order of their sizes, the least first."""
    sizes = sorted({len(content) for content in whole.values()})
    limits = [0, 10, 100, *(size - 1 for size in sizes), sizes[-1] + 1_000_000]
    with subprocess.Popen([sys.executable, "-c", LIMITED], stdin=-1, stdout=-1, text=True) as nursery:
        for number, limit in enumerate(limits):
            folder = tmp_path / str(number)
            answers = []
            for room in (limit, resource.RLIM_INFINITY if limit == limits[-1] else 10**9):
                nursery.stdin.write(f"{room} {folder}\n")
                nursery.stdin.flush()
                answers.append(int(nursery.stdout.readline()))
            assert answers == [0 if limit == limits[-1] else 3, 0]
            assert files_of(folder) == whole
        nursery.stdin.close()


REFUSED = threading.Event()


def while_another_is_refused(row):
    REFUSED.wait(timeout=60)
    REFUSED.set()  # if nobody was, the test fails soon
    return row


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_two_writers_at_once_leave_one_set(tmp_path, where):
    folder = str(tmp_path / "set") if where == "disk" else "memory://two/set"
    outcomes, barrier = [], threading.Barrier(2)
    REFUSED.clear()

    def write():
        barrier.wait()
        try:
            source = MemoryShardedSource(ROWS).map(while_another_is_refused)
            outcomes.append(save_dataset(source, folder, **OPTIONS).num_examples)
        except SetInUseError as error:
            outcomes.append(str(error))
            REFUSED.set()

    try:
        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 120 in outcomes
        assert any("is being written to by process" in str(outcome) for outcome in outcomes)
        assert list(open_saved(folder, verify=True).rows()) == ROWS
    finally:
        if fsspec.filesystem("memory").exists("/two"):
            fsspec.filesystem("memory").rm("/two", recursive=True)


HOLDS = """
import sys, time
from easydata_sources import MemoryShardedSource
from easydata_tokenize import save_dataset

rows = [{"input_ids": list(range(n % 9)), "text": f"row {n}"} for n in range(120)]

def slow(row):
    if row["text"] == "row 70":
        print("half", flush=True)
        time.sleep(100)
    return row

save_dataset(MemoryShardedSource(rows).map(slow), sys.argv[1], max_shard_size="4KB", row_group_size=20)
"""


def test_a_writer_that_was_killed_holds_nothing_and_leaves_nothing(tmp_path, whole):
    folder = tmp_path / "set"
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], stdout=-1, text=True) as other:
        assert other.stdout.readline() == "half\n"
        writer = json.loads((folder / LOCK).read_text())["writer"]
        mine = [folder / f".writing-{writer}-0123", folder / "_work" / f".writing-{writer}-01"]
        theirs = [folder / ".writing-of-others", folder / "_work" / ".writing-0123456789abcdef0123456789abcdef"]
        for path in mine + theirs:
            path.write_text("half")
        before = files_of(folder)
        for overwrite in (False, True):
            with pytest.raises(SetInUseError, match=f"process {other.pid} on "):
                save_dataset(ROWS, folder, overwrite=overwrite, **OPTIONS)
        assert files_of(folder) == before
        other.send_signal(signal.SIGKILL)
    save_dataset(MemoryShardedSource(ROWS).map(dict), folder, assume_same=True, **OPTIONS)
    assert [path.exists() for path in mine + theirs] == [False, False, True, True]
    names = {name for name in files_of(folder) if ".writing-" not in name}
    assert names == set(whole)


@pytest.mark.parametrize("content", ["mine", "[]", '{"a": 1}'])
def test_a_file_with_the_locks_name_is_kept(tmp_path, content):
    (tmp_path / LOCK).write_text(content)
    with pytest.raises(DataError, match="is no lock of a writer of sets"):
        save_dataset(ROWS, tmp_path)
    assert (tmp_path / LOCK).read_text() == content


class Dies(Exception):
    pass


def dying_at(limit):
    def until(row):
        if row["text"] == f"row {limit}":
            raise Dies
        return row

    return MemoryShardedSource(ROWS).map(until)


def damages(path, chance):
    """Ways to damage a file."""
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[chance.randrange(len(content))] ^= 1 + chance.randrange(255)
    return [bytes(flipped), content[: chance.randrange(len(content))], b"", None]


@pytest.mark.parametrize("state", ["groups", "shards", "whole"])
def test_whatever_is_damaged_is_told_or_written_again(tmp_path, state):
    options = {**OPTIONS, "max_shard_size": "1MB"} if state == "groups" else OPTIONS
    before = tmp_path / "before"
    with suppress(Dies):
        save_dataset(dying_at(100 if state == "whole" else 70), before, **options)
    if state == "whole":
        save_dataset(dying_at(-1), before, assume_same=True, **options)
    chance, told = random.Random(0), 0
    for name in sorted(files_of(before)):
        for number, damage in enumerate(damages(before / name, chance)):
            folder = tmp_path / f"{number} {name.replace('/', ' ')}"
            shutil.copytree(before, folder)
            if damage is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(damage)
            try:
                save_dataset(dying_at(-1), folder, assume_same=True, **options)
                rows = list(open_saved(folder, verify=True).rows())
            except DataError as error:
                told += 1
                assert len(str(error).splitlines()) < 20  # noqa: PT017 - some damage is mended, some is told
            else:
                assert rows == ROWS
            shutil.rmtree(folder)
    assert told > 3
