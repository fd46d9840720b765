"""What the command line does with an error: each is shown on one screen.

The packages raise their own exception classes for what a user can mend, and write messages that say how. So
the class's home decides: defined in one of our packages, the message is all a user needs; what the system refuses
is told by its file and reason; anything else is a defect of ours, and its traceback is kept in a file.
"""

from __future__ import annotations

import tempfile
import traceback
from pathlib import Path

from easydata_sources.safe_text import readable, without_secrets

EXIT_OK = 0
EXIT_GOAL_MISSED = 1
EXIT_DEFECT = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_PIPE = 141  # 128 + SIGPIPE

_SAID = 600  # characters of an unexpected error's own text

OUR_PACKAGES = frozenset(
    {
        "easydel",
        "easydel_trainers",
        "easydel_models",
        "easydel_transforms",
        "easydata_tokenize",
        "easydata_mix",
        "easydata_sources",
    }
)


class CommandError(Exception):
    """Something about the command, its config file or the files it names that the user can mend."""


class GoalMissedError(Exception):
    """The run worked, but did not reach what its config demanded."""


def is_for_users(error: BaseException) -> bool:
    """Returns whether `error` was written for users: its class, or a base of it, lives in one of our packages."""
    return any(kind.__module__.partition(".")[0] in OUR_PACKAGES for kind in type(error).__mro__)


def show_error(error: BaseException) -> int:
    """Prints `error` as one panel on standard error.

    Returns:
        the exit code that goes with it.
    """
    missed = isinstance(error, GoalMissedError)
    notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
    _print_panel(f"{error}{notes}", "goal missed" if missed else "cannot go on")
    return EXIT_GOAL_MISSED if missed else EXIT_USAGE


def show_refusal(error: OSError) -> int:
    """Prints what the system refused, a file that cannot be written for instance, as one panel.

    Returns:
        the exit code that goes with it.
    """
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    reason = error.strerror or str(error) or type(error).__name__
    _print_panel(f"{' and '.join(names)}: {reason}." if names else f"{reason}.", "cannot go on")
    return EXIT_USAGE


def show_unexpected(error: BaseException) -> int:
    """Returns the last resort: print on one screen what happened and where, and keep the traceback in a file.

    Returns:
        the exit code that goes with it.
    """
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    said = readable(str(error))
    _print_panel(
        f"{type(error).__name__}{where}: {said[:_SAID]}\n{_kept(error)}\n"
        "This is a defect of easydel, or of this machine: no input should lead here. Please report it.",
        "unexpected error",
    )
    return EXIT_DEFECT


def _kept(error: BaseException) -> str:
    """Returns where the traceback was written."""
    text = without_secrets("".join(traceback.format_exception(error)))
    try:
        handle, path = tempfile.mkstemp(prefix="easydel-", suffix=".traceback.txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as refusal:
        return f"Its traceback could not be written ({refusal.strerror})."
    return f"The traceback is in {path}."


def _print_panel(text: str, title: str) -> None:
    from rich.console import Console  # here, since an overview should not wait for it
    from rich.panel import Panel
    from rich.text import Text

    panel = Panel(Text(readable(text)), title=title, title_align="left", border_style="red")
    Console(stderr=True, soft_wrap=False).print(panel)
