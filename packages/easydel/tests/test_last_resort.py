"""Whatever a command ends with is told on one screen, and what it prints moves no cursor and holds no secret."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from easydel.cli import main
from easydel.cli.output import console, errors
from easydel.cli.training.config_yaml import config_as_yaml
from rich.text import Text

SECRET = "hidden-5c1f"


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """A command that does what it is given; returns its exit code and what it printed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def command(do):
        monkeypatch.setitem(sys.modules, "easydel.cli.commands.stand_in", SimpleNamespace(run=lambda words, name: do()))
        monkeypatch.setitem(sys.modules["easydel.cli.main"].COMMANDS, "doctor", ("stand_in", ""))
        code = main(["doctor"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def raising(error):
    def do():
        raise error

    return do


def test_an_unexpected_error_says_where_its_traceback_is(command, tmp_path):
    code, _, err = command(raising(ZeroDivisionError(f"x\x1b[2J https://u:{SECRET}@host " + "w" * 100_000)))
    assert code == 1
    assert "unexpected error" in err
    assert "Traceback" not in err
    assert len(err) < 4000
    assert len(err.splitlines()) < 24
    assert "\x1b" not in err
    (kept,) = tmp_path.glob("easydel-*.traceback.txt")
    assert kept.name in "".join(err.replace("│", "").split())
    assert "raising" in kept.read_text() or "ZeroDivisionError" in kept.read_text()
    assert SECRET not in kept.read_text() + err


def test_what_the_system_refuses_is_told_by_its_file(command):
    code, _, err = command(lambda: Path("/dev/null/folder").mkdir())
    assert code == 2
    assert "/dev/null/folder: Not a directory." in err


def test_a_traceback_that_cannot_be_kept_is_no_second_error(command, monkeypatch):
    monkeypatch.setattr(errors.tempfile, "mkstemp", lambda **how: raising(OSError(28, "No space left on device"))())
    code, _, err = command(raising(KeyError("a")))
    assert code == 1
    assert "could not be written" in err


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_is_printed_to_a_pipe_is_harmless(command, stream):
    text = f"row \x1b[2J\x07 \u202e https://u:{SECRET}@host"
    _, *outs = command(lambda: print(text, file=getattr(sys, stream)) or 0)
    out = outs[stream == "stderr"]
    assert out == "row \\x1b[2J\\x07 \\u202e https://…@host\n"


def test_a_table_escapes_what_it_shows_and_keeps_its_colours(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    terminal = console.harmless_console()
    with terminal.capture() as captured:
        terminal.print(Text("a\x1b[2Jb", style="bold"))
    assert "a\\x1b[2Jb" in captured.get()
    assert "\x1b[1m" in captured.get()


def test_json_stays_json_whatever_it_holds(capsys):
    value = {"text": "a\x1b[2J\u2028\u202e\x9b\u200d\U000e0001 ü"}
    console.print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert out.rstrip("\n").isprintable()


def test_run_yaml_holds_no_password():
    from easydel.cli.training.configs import SFTRun

    config = SFTRun(model="m", train_dataset=f"https://u:{SECRET}@host/a.jsonl?sig={SECRET}&n=1")
    text = config_as_yaml(config)
    assert SECRET not in text
    assert "https://…@host/a.jsonl?sig=…&n=1" in text


@pytest.mark.parametrize("words", [["--help"], ["doctor", "--help"]])
def test_a_reader_that_goes_away_is_141(words):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "easydel.cli", *words]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_whole_number_of_bad_rows_stays_one(tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text("model: m\ntrain_dataset: a.jsonl\ntraining: {bad_rows_budget: 1}\n")
    assert main(["sft", str(config), "--print_config"]) == 0
    assert "bad_rows_budget: 1\n" in capsys.readouterr().out
    assert main(["sft", str(config), "--print_config", "--training.bad_rows_budget", "2"]) == 0
    assert "bad_rows_budget: 2\n" in capsys.readouterr().out
    assert main(["sft", str(config), "--print_config", "--set", "training.bad_rows_budget=0.5"]) == 0
    assert "bad_rows_budget: 0.5\n" in capsys.readouterr().out
