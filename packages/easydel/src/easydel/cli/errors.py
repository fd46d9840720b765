"""What the command line does with an error: ours are shown on one screen, anything else keeps its traceback.

The packages raise their own exception classes for what a user can mend, and write messages that say how. So
the class's home decides: defined in one of our packages, the message is all a user needs; defined elsewhere,
it is a defect of ours (or of the machine), and the traceback is what we need.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_GOAL_MISSED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_PIPE = 141  # 128 + SIGPIPE

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
    """Whether `error` was written for users: its class, or a base of it, lives in one of our packages."""
    return any(kind.__module__.partition(".")[0] in OUR_PACKAGES for kind in type(error).__mro__)


def show_error(error: BaseException) -> int:
    """Print `error` as one panel on standard error.

    Returns:
        the exit code that goes with it.
    """
    from rich.console import Console  # here, since an overview should not wait for it
    from rich.panel import Panel
    from rich.text import Text

    missed = isinstance(error, GoalMissedError)
    notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
    title = "goal missed" if missed else "cannot go on"
    message = Text(f"{error}{notes}")
    Console(stderr=True, soft_wrap=False).print(Panel(message, title=title, title_align="left", border_style="red"))
    return EXIT_GOAL_MISSED if missed else EXIT_USAGE
