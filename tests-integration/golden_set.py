"""Where the golden numbers lie, for the tests beside this file."""

from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
