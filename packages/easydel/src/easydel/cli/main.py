"""`easydel COMMAND …`: finds the command, runs it, turns its end into an exit code.

A command's module is imported only when the command is used, so `easydel --help` answers at once.
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from easydata_sources.safe_text import readable
from easydel_trainers.run.interruption import StopAtOnce

from easydel.cli.output.console import ReaderGoneError, guarded_streams
from easydel.cli.output.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PIPE,
    OUR_PACKAGES,
    CommandError,
    is_for_users,
    show_error,
    show_refusal,
    show_unexpected,
)

#: heading -> command -> (file in `commands/`, what the overview says about it)
MENU = {
    "Train": {
        "sft": ("train", "Fine-tune a model on text, conversations or prompts with completions."),
        "dpo": ("train", "Train on chosen and rejected answers, against a reference model."),
        "orpo": (
            "train",
            "Train on chosen and rejected answers by odds ratios, without a reference.",
        ),
        "cpo": ("train", "Train on chosen and rejected answers without a reference (CPO, SimPO)."),
        "kto": ("train", "Train on answers labelled good or bad."),
        "bco": ("train", "Train on answers labelled good or bad, as a classifier."),
        "grpo": ("train", "Train on the model's own answers, judged by reward functions."),
        "reward": ("train", "Train a model that scores answers."),
        "launch": (
            "launch",
            "Run one of these as several processes, on this machine or on several.",
        ),
    },
    "Look at and prepare data": {
        "tokenize": ("tokenize", "Tokenize rows once, into files that training reads quickly."),
        "mix": ("mix", "`mix simulate`: what a mixture will give, without reading it."),
        "inspect": (
            "inspect",
            "Show the rows of a training token by token, with masks, cuts and packing.",
        ),
    },
    "Use a model": {
        "generate": ("generate", "Answer prompts."),
        "chat": ("chat", "Talk to a model."),
        "export": (
            "export",
            "Write a model or a run's checkpoint as a Hugging Face or PEFT folder.",
        ),
    },
    "This machine": {
        "doctor": ("doctor", "Versions, devices, extras, and a short self-test."),
        "completion": ("completion", "Print a script that completes these commands in a shell."),
    },
}

COMMANDS = {name: entry for commands in MENU.values() for name, entry in commands.items()}

_OVERVIEW = """\
usage: easydel COMMAND [CONFIG.yaml] [--set KEY=VALUE ...] [--FLAG VALUE ...]
{commands}

  easydel COMMAND --help    every flag and config key of a command, each explained
  easydel --version         the version

exit codes: 0 done, 1 the goal set in the config was missed, 2 wrong flags, config, data or model,
69 lost another process of the run, 75 asked to stop (Ctrl-C, SIGTERM, SIGUSR1, preemption) and saved: the same
command goes on, 130 stopped at once by a second Ctrl-C, 141 the reader of the output closed it. An unexpected error
ends with 1; its traceback is in a file that is named.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        arguments: the words after `easydel`. `None` = those the process was started with.

    Returns:
        the exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with guarded_streams():
            _show_logs()
            return _ended(words)
    except (BrokenPipeError, ReaderGoneError):
        # Whoever read the output has seen enough. What is still in the buffer would fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE


def _ended(words: list[str]) -> int:
    """Returns the exit code of a command line, whatever its end."""
    try:
        return _dispatch(words)
    except KeyboardInterrupt:
        print(
            "\nStopped. The same command goes on from the last checkpoint, if one was written.",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    except (BrokenPipeError, ReaderGoneError):
        raise
    except Exception as error:  # noqa: BLE001 - the top of the program: whatever it is, it is told on one screen
        if not is_for_users(error):
            return show_refusal(error) if isinstance(error, OSError) and error.errno else show_unexpected(error)
        code = show_error(error)
        if type(error).__name__ == "ProcessLostError":
            from easydel_trainers.processes import end_lost

            end_lost()
        return code


class _OneScreen(logging.Formatter):
    """Names and texts of files and servers stand in logs too."""

    def format(self, record: logging.LogRecord) -> str:
        return readable(super().format(record))


def _show_logs() -> None:
    """What the packages have to say goes to standard error as plain lines; other libraries only warn there."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneScreen("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # transformers, which we use for its tokenizers, would start every run by missing PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    for package in OUR_PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_OVERVIEW.format(commands=_listed()), end="")
        return EXIT_OK
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"easydel {version('easydel')}")
        return EXIT_OK
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"Did you mean `easydel {near[0]}`?" if near else f"There are: {', '.join(COMMANDS)}."
        raise CommandError(f"There is no command `{words[0]}`. {hint}")
    if words[0] != "launch":
        _join_processes()
    file = COMMANDS[words[0]][0]
    with StopAtOnce(enabled=file == "train" and "EASYDEL_PROCESSES" not in os.environ):
        return import_module(f"easydel.cli.commands.{file}").run(words[1:], words[0])


def _join_processes() -> None:
    """Becomes one of several processes, where the environment says so. Only the first one prints results."""
    if "EASYDEL_PROCESSES" not in os.environ:
        return
    from easydel_trainers.processes import is_main_process, join_processes

    join_processes()
    if not is_main_process():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open as long as the process lives


def _listed() -> str:
    lines: list[str] = []
    for heading, commands in MENU.items():
        lines += ["", heading]
        lines += [f"  {name:<12}{summary}" for name, (_, summary) in commands.items()]
    return "\n".join(lines)
