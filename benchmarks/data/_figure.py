"""How the scripts of this folder measure and print."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable


def quick() -> bool:
    """Whether the script was asked to measure little."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args().quick


def per_second(work: Callable[[], int], *, tries: int = 3) -> float:
    """Return the best rate of several tries at `work`, which returns how many things it did.

    The best, because on a machine with other tenants a slower try measures the neighbours.
    """
    best = 0.0
    for _ in range(tries):
        start = time.perf_counter()
        done = work()
        best = max(best, done / (time.perf_counter() - start))
    return best


def seconds(work: Callable[[], object], *, tries: int = 5) -> float:
    """Return the shortest time that `work` took."""
    return 1 / per_second(lambda: (work(), 1)[1], tries=tries)


def show(name: str, value: float, unit: str, *, limit: float | None = None, note: str = "") -> None:
    """Print a figure, its share of a limit measured in the same run, and what it means."""
    share = "" if limit is None else f"{value / limit:8.2f} x"
    print(f"  {name:<52} {_number(value):>12} {unit:<8}{share:>11}  {note}".rstrip(), flush=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
