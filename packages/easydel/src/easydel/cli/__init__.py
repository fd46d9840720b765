"""The command line `easydel`: every command is one file here, and none does more than call the packages."""

from easydel.cli.main import main as main

__all__ = ["main"]
