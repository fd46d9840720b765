"""The process of the command `easydel`; also `python -m easydel.cli`, for where scripts are not on the path."""

import sys

from easydel.cli.huge_pages import start_again_with_huge_pages
from easydel.cli.main import MENU, main

_COMPUTING = {*MENU["Train"], *MENU["Use a model"], "doctor"}


def start() -> int:
    """Runs the command line that this process was started with; returns its exit code."""
    if sys.argv[1:2] and sys.argv[1] in _COMPUTING:
        start_again_with_huge_pages()
    return main()


if __name__ == "__main__":
    sys.exit(start())
