"""`easydel completion bash`: a script that completes commands and flags in a shell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Literal, Union

import tyro

from easydel.cli.errors import EXIT_OK
from easydel.cli.flags import parse_flags


@dataclass(frozen=True, kw_only=True)
class CompletionFlags:
    """Print a completion script.

    For this shell only: `source <(easydel completion bash)`. For good, write it where the shell looks: for bash
    ~/.local/share/bash-completion/completions/easydel, for zsh a file _easydel in a folder of $fpath.
    """

    shell: Annotated[Literal["bash", "zsh", "tcsh"], tyro.conf.Positional] = "bash"
    """Which shell."""


#: commands without a config file -> the module and the name of their flags
_PLAIN = {
    "mix": ("easydel.cli.mix", "MixFlags"),
    "tokenize": ("easydel.cli.tokenize", "TokenizeFlags"),
    "generate": ("easydel.cli.generate", "GenerateFlags"),
    "chat": ("easydel.cli.chat", "ChatFlags"),
    "export": ("easydel.cli.export", "ExportFlags"),
    "doctor": ("easydel.cli.doctor", "DoctorFlags"),
    "completion": ("easydel.cli.completion", "CompletionFlags"),
}


def run(arguments: Sequence[str], command: str) -> int:
    """Carry out one command line; returns the exit code."""
    flags = parse_flags(CompletionFlags, arguments, command=f"easydel {command}")
    try:
        tyro.cli(_all_commands(), prog="easydel", args=["--tyro-print-completion", flags.shell], use_underscores=True)
    except SystemExit as ended:  # how tyro ends once the script is printed
        return int(ended.code or EXIT_OK)
    return EXIT_OK


def _all_commands() -> Any:
    """One type of which every command is a case."""
    from easydel.cli.inspect import InspectInvocation
    from easydel.cli.sft import SFTRun
    from easydel.cli.training import TRAINING_COMMANDS, TrainingInvocation
    from easydel.cli.twins import twin_of

    cases: dict[str, Any] = {name: TrainingInvocation[twin_of(kind.config)] for name, kind in TRAINING_COMMANDS.items()}
    cases["inspect"] = InspectInvocation[twin_of(SFTRun)]
    cases |= {name: getattr(import_module(module), flags) for name, (module, flags) in _PLAIN.items()}
    subcommands = tuple(Annotated[case, tyro.conf.subcommand(name, prefix_name=False)] for name, case in cases.items())
    return Union[subcommands]  # noqa: UP007 - of types that are known only here
