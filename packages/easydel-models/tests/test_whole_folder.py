"""A folder is what it was, what it becomes, or not to be taken for either."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from easydel_models.errors import WeightsError
from easydel_models.files.whole_folder import whole_folder


def write(path, version, *, names=("config.json", "model.safetensors", "tokenizer.json")):
    replaces = ("model*", "tokenizer*", "merges.txt")
    with whole_folder(path, key="config.json", replaces=replaces) as fresh:
        for name in names:
            (fresh / name).write_text(version)


def contents(path):
    return {file.name: file.read_text() for file in path.iterdir()}


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "sub" / "model"
    write(target, "old", names=("config.json", "model-1.safetensors", "tokenizer.json", "merges.txt"))
    (target / "notes.txt").write_text("mine")
    return target


def test_new_files_take_the_places_of_the_old_ones_and_others_stay(folder):
    write(folder, "new")
    assert contents(folder) == dict.fromkeys(("config.json", "model.safetensors", "tokenizer.json"), "new") | {
        "notes.txt": "mine"
    }
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_failure_while_writing_leaves_the_old_folder(folder):
    before = contents(folder)

    def half():
        with whole_folder(folder, key="config.json", replaces=("model*",)) as fresh:
            (fresh / "model.safetensors").write_text("new")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        half()
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", range(12))
def test_a_kill_between_any_two_changes_leaves_nothing_mixed_that_reads_as_whole(folder, monkeypatch, at):
    """Every rename and removal is one moment; afterwards the same command goes through, and cleans up."""
    changes = [0]

    def dies_before(change):
        def changed(*arguments, **options):
            changes[0] += 1
            if changes[0] > at:
                raise Killed
            return change(*arguments, **options)

        return changed

    with monkeypatch.context() as patch:
        for name in ("replace", "rename", "unlink", "mkdir"):
            patch.setattr(Path, name, dies_before(getattr(Path, name)))
        patch.setattr(shutil, "rmtree", dies_before(shutil.rmtree))
        try:
            write(folder, "new")
        except Killed:
            pass
        else:
            assert at >= 8
    found = contents(folder)
    if "config.json" in found:
        ours = {found[name] for name in ("config.json", "tokenizer.json")}
        assert len(ours) == 1
        assert ("model.safetensors" in found) == (ours == {"new"})
    write(folder, "newer")
    assert set(contents(folder).values()) == {"newer", "mine"}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_two_writers_at_once_are_told_of_each_other(folder):
    with whole_folder(folder, key="config.json", replaces=()) as fresh:
        (fresh / "config.json").write_text("first")
        with pytest.raises(WeightsError, match="Another process is writing the same folder"):
            write(folder, "second")
    assert contents(folder)["config.json"] == "first"


def test_a_link_in_the_way_is_not_written_through(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.symlink(elsewhere, folder.parent / ".model.part")
    with pytest.raises(WeightsError, match="symbolic link"):
        write(folder, "new")
    assert not list(elsewhere.iterdir())
