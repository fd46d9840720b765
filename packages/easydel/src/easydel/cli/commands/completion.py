"""`easydel completion bash`: a script that completes commands and flags in a shell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Literal, Union, final

import tyro

from easydel.cli.output.errors import EXIT_OK
from easydel.cli.settings.command_line import parse_flags
from easydel.cli.settings.help import SWITCHES, shape_of


@final
@dataclass(frozen=True, kw_only=True)
class CompletionFlags:
    """Print a completion script.

    For this shell only: `source <(easydel completion bash)`. For good, write it where the shell looks: for bash
    ~/.local/share/bash-completion/completions/easydel, for zsh a file _easydel in a folder of $fpath.
    """

    shell: Annotated[Literal["bash", "zsh", "tcsh"], tyro.conf.Positional] = "bash"
    """Which shell."""


#: commands without a config file -> the name of their flags, in the file of the command's name
_PLAIN = {
    "mix": "MixFlags",
    "tokenize": "TokenizeFlags",
    "generate": "GenerateFlags",
    "chat": "ChatFlags",
    "export": "ExportFlags",
    "doctor": "DoctorFlags",
    "completion": "CompletionFlags",
}


def run(words: Sequence[str], command: str) -> int:
    """Carries out one command line; returns the exit code."""
    flags = parse_flags(CompletionFlags, words, command=f"easydel {command}")
    print_script = ["--tyro-print-completion", flags.shell]
    try:
        tyro.cli(_all_commands(), prog="easydel", args=print_script, use_underscores=True, config=SWITCHES)
    except SystemExit as ended:  # how tyro ends once the script is printed
        return int(ended.code or EXIT_OK)
    return EXIT_OK


def _all_commands() -> Any:
    """Returns one type of which every command is a case."""
    from easydel.cli.commands.inspect import InspectFlags
    from easydel.cli.commands.train import TrainFlags
    from easydel.cli.training.configs import TRAINING_COMMANDS, SFTRun

    cases: dict[str, Any] = {name: shape_of(TrainFlags, kind.config) for name, kind in TRAINING_COMMANDS.items()}
    cases["inspect"] = shape_of(InspectFlags, SFTRun)
    cases |= {name: getattr(import_module(f"easydel.cli.commands.{name}"), flags) for name, flags in _PLAIN.items()}
    subcommands = tuple(Annotated[case, tyro.conf.subcommand(name, prefix_name=False)] for name, case in cases.items())
    return Union[subcommands]  # noqa: UP007 - of types that are known only here
