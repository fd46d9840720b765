"""The data layer's figures, each beside the limit it can be compared with in the same run.

    uv run python benchmarks/data.py [NAME …] [--quick]

One file of `benchmarks/data/` is one figure (or a few that share their set-up) and runs in a process of its own, so
that its peak memory is its own. To add one, write a script there that prints with `_figure.show`; NAME is a file's name
without `.py`. `--quick` measures little and shows only that every figure can be had.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).with_suffix("")


def main() -> None:
    known = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)}; all of them if none")
    parser.add_argument("--quick", action="store_true", help="measure little")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"there is no figure {', '.join(unknown)}; there are {', '.join(known)}")
    failed = [name for name in options.names or known if not run(name, quick=options.quick)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run(name: str, *, quick: bool) -> bool:
    """Run one figure's script; False if it failed."""
    print(f"\n{name}", flush=True)
    command = [sys.executable, str(FOLDER / f"{name}.py"), *(["--quick"] if quick else [])]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    main()
