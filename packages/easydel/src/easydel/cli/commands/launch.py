"""`easydel launch`: the processes of a run that spans several, started, watched and ended together."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from easydel.cli.output.errors import CommandError
from easydel.cli.process_group import ProcessGroup, free_port
from easydel.cli.settings.command_line import parse_flags

_SEPARATOR = "--"
_GRACE = 15.0  # seconds that the others have to end by themselves once one has failed


@final
@dataclass(frozen=True, kw_only=True)
class LaunchFlags:
    """Run one command as several processes: `easydel launch --processes 2 -- sft config.yaml`.

    With --processes alone all of them run on this machine. With --coordinator and --process_id as well, only that one
    does: run the same line, with another number, on the other machines. With --auto this one finds its place by
    itself, as SLURM, Open MPI, GKE and Cloud TPU tell it. What stands behind `--` is an easydel command, or any
    program that calls easydel_trainers.join_processes().

    A signal reaches every process. When one fails the others are ended too, and its exit code is that of launch (128 +
    the signal's number where a signal ended it, 69 where it lost another process).
    """

    processes: int | None = None
    """Processes of the whole run."""
    coordinator: str | None = None
    """host:port of process 0, which all others can reach. `None` = a free port of this machine."""
    process_id: int | None = None
    """Number of the one process to run here, from 0. `None` = all of them run here."""
    auto: bool = False
    """Run one process whose place JAX finds out from the scheduler."""
    devices_per_process: int | None = None
    """Simulated CPU devices of each process. `None` = what there is."""


def run(words: Sequence[str], command: str) -> int:
    """Launches the processes and waits for them.

    Returns:
        0, or the exit code of the first process that failed.
    """
    split = words.index(_SEPARATOR) if _SEPARATOR in words else len(words)
    flags = parse_flags(LaunchFlags, words[:split], command=f"easydel {command}")
    program = _program(list(words[split + 1 :]))
    environments = _environments(flags)
    with ProcessGroup(grace_seconds=_GRACE) as group:
        for label, environment in environments:
            group.start(program, label=label, environment=os.environ | environment)
        return group.wait()


def _program(words: list[str]) -> list[str]:
    if not words:
        raise CommandError("Nothing to launch: write it behind `--`, as in `launch --processes 2 -- sft config.yaml`.")
    from easydel.cli.main import COMMANDS

    return [sys.executable, "-m", "easydel.cli", *words] if words[0] in COMMANDS else words


def _environments(flags: LaunchFlags) -> list[tuple[str, dict[str, str]]]:
    """Returns a label for its output and the environment of every process to run here."""
    devices = flags.devices_per_process
    shared = {"PYTHONUNBUFFERED": "1"} | ({} if devices is None else {"JAX_NUM_CPU_DEVICES": str(devices)})
    if flags.auto:
        if flags.processes is not None or flags.process_id is not None:
            raise CommandError("--auto leaves the number of processes and their numbers to the scheduler: drop them.")
        return [("", shared | {"EASYDEL_PROCESSES": "auto"})]
    if flags.processes is None or flags.processes < 1:
        raise CommandError("How many processes? `--processes 2`, or `--auto` where a scheduler says it.")
    if (flags.process_id is None) != (flags.coordinator is None):
        raise CommandError("Processes on several machines need both --coordinator and --process_id.")
    if flags.process_id is not None and not 0 <= flags.process_id < flags.processes:
        raise CommandError(f"There is no process {flags.process_id} of {flags.processes}; they count from 0.")
    coordinator = flags.coordinator or f"127.0.0.1:{free_port()}"
    here = range(flags.processes) if flags.process_id is None else [flags.process_id]
    return [(f"[{number}] ", shared | _identity(coordinator, flags.processes, number)) for number in here]


def _identity(coordinator: str, processes: int, number: int) -> dict[str, str]:
    return {
        "EASYDEL_COORDINATOR": coordinator,
        "EASYDEL_PROCESSES": str(processes),
        "EASYDEL_PROCESS_ID": str(number),
    }
