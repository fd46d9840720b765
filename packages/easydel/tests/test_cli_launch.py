"""`easydel launch` starts processes that know their place, tells their output apart, and ends them together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from easydel.cli.commands.launch import run
from easydel.cli.output.errors import CommandError

SHOW_PLACE = "import os; print(*(os.environ[f'EASYDEL_{name}'] for name in ('COORDINATOR', 'PROCESSES', 'PROCESS_ID')))"


def launch(*words: str) -> int:
    return run(words, "launch")


def python(code: str) -> list[str]:
    return ["--", sys.executable, "-c", code]


def test_every_process_is_told_its_place_and_labelled(capfd):
    assert launch("--processes", "3", *python(SHOW_PLACE)) == 0
    lines = sorted(capfd.readouterr().out.splitlines())
    labels, addresses, counts, numbers = zip(*(line.split() for line in lines), strict=True)
    assert labels == ("[0]", "[1]", "[2]")
    assert len(set(addresses)) == 1
    assert addresses[0].startswith("127.0.0.1:")
    assert (set(counts), numbers) == ({"3"}, ("0", "1", "2"))


def test_one_process_of_several_machines(capfd):
    words = ("--processes", "4", "--coordinator", "node-0:99", "--process_id", "2")
    assert launch(*words, *python(SHOW_PLACE)) == 0
    assert capfd.readouterr().out == "[2] node-0:99 4 2\n"


def test_auto_leaves_the_place_to_jax(capfd):
    assert launch("--auto", *python("import os; print(os.environ['EASYDEL_PROCESSES'])")) == 0
    assert capfd.readouterr().out == "auto\n"


def test_devices_are_simulated_where_asked(capfd):
    code = "import os; print(os.environ['JAX_NUM_CPU_DEVICES'])"
    assert launch("--processes", "1", "--devices_per_process", "4", *python(code)) == 0
    assert capfd.readouterr().out == "[0] 4\n"


def test_when_one_fails_the_others_end_and_its_code_is_kept(capfd, monkeypatch):
    monkeypatch.setattr("easydel.cli.commands.launch._GRACE", 0.5)
    code = "import os, sys, time\nif os.environ['EASYDEL_PROCESS_ID'] == '1': sys.exit(7)\ntime.sleep(300)"
    began = time.monotonic()
    assert launch("--processes", "2", *python(code)) == 7
    assert time.monotonic() - began < 60
    said = capfd.readouterr().err
    assert "process [1] ended with exit code 7; the others are ended too" in said
    assert "[0] does not end by itself and is killed" in said


def test_a_killed_process_counts_as_128_and_its_signal(capfd, monkeypatch):
    monkeypatch.setattr("easydel.cli.commands.launch._GRACE", 0.5)
    assert launch("--processes", "1", *python("import os; os.kill(os.getpid(), 9)")) == 128 + 9
    assert "process [0] was ended by SIGKILL" in capfd.readouterr().err


def test_a_signal_reaches_all_as_sigterm():
    code = (
        "import signal, time, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\nprint('up')\ntime.sleep(300)"
    )
    words = [sys.executable, "-m", "easydel.cli", "launch", "--processes", "2", *python(code)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        assert {process.stdout.readline(), process.stdout.readline()} == {"[0] up\n", "[1] up\n"}
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 75


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--processes", "2"], "Nothing to launch"),
        (python("pass"), "How many processes"),
        (["--processes", "2", "--process_id", "0", *python("pass")], "both --coordinator and --process_id"),
        (
            ["--processes", "2", "--process_id", "2", "--coordinator", "a:1", *python("pass")],
            "no process 2 of 2; they count from 0",
        ),
        (["--auto", "--processes", "2", *python("pass")], "to the scheduler"),
    ],
)
def test_impossible_launches_are_refused(words, message):
    with pytest.raises(CommandError, match=message):
        launch(*words)


LISTENING = """
import os, socket
from easydel_trainers import join_processes
join_processes()
if os.environ["EASYDEL_PROCESS_ID"] == "0":
    own = {os.path.realpath(f"/proc/self/fd/{number}").rpartition("/")[2] for number in os.listdir("/proc/self/fd")}
    for table in ("tcp", "tcp6"):
        for line in open(f"/proc/self/net/{table}").readlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in own:
                print("listens", words[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc who listens")
def test_the_processes_of_one_machine_listen_to_nobody_else(capfd):
    assert launch("--processes", "2", *python(LISTENING)) == 0
    addresses = [line.split()[-1] for line in capfd.readouterr().out.splitlines() if "listens" in line]
    assert addresses
    loopback = ("0100007F:", "0000000000000000FFFF00000100007F:", "00000000000000000000000001000000:")
    assert all(address.startswith(loopback) for address in addresses), addresses
