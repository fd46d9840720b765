"""A hostile input: how it is made, what reads it, and what of its end counts as a fault.

A corpus is a module beside this one with a function `cases()` that yields the same cases, in the same order, each
time it is called: a case is run in another process, which finds it by its number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SECRET = "planted-secret-7f3a"
"""Stands in the environment, and in what cases hand over as keys and passwords; must never be printed or written."""


@dataclass(frozen=True)
class Case:
    """One input.

    What `read` may do: return, raise an error of ours, exit, or print up to a screen. What it must not: see
    `bounded_process`.
    """

    name: str
    make: Callable[[Path], object]
    """Writes the input into a folder of its own, which is also the working directory."""
    read: Callable[[Path], object]
    """Hands the folder to the code under test."""
    accepted: bool | None = None
    """True: it must be read. False: it must be refused. None: either."""


def mutations(text: bytes, count: int, *, seed: int) -> list[bytes]:
    """`count` damaged copies of a file: bytes flipped, runs cut out, doubled, zeroed or replaced, ends cut off."""
    chance = random.Random(seed)
    return [_damaged(text, chance) for _ in range(count)]


def _damaged(text: bytes, chance: random.Random) -> bytes:
    data = bytearray(text)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(max(1, len(data)))
        run = chance.choice((1, 1, 2, 4, 8, 64))
        match chance.randrange(6):
            case 0:
                data[at : at + 1] = bytes([data[at] ^ (1 << chance.randrange(8))]) if at < len(data) else b""
            case 1:
                del data[at : at + run]
            case 2:
                data[at:at] = data[at : at + run]
            case 3:
                data[at : at + run] = bytes(min(run, len(data) - at))
            case 4:
                data[at : at + run] = bytes(chance.randrange(256) for _ in range(min(run, len(data) - at)))
            case _:
                del data[at:]
    return bytes(data)


ODD_VALUES: Sequence[object] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**62,
    10**400,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "text",
    "1",
    "\x1b[2J\x1b]0;title\x07",
    "a\u2028b\u202ec",
    "../outside/keep.txt",
    "x" * 100_000,
    [],
    [1],
    ["a"],
    [[]],
    [None],
    {},
    {"a": 1},
    {"__class__": "x"},
)
"""Values of every JSON type and of sizes that no field means."""


def short(value: object) -> str:
    """A value as part of a case's name."""
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python writes
        text = "huge"
    return text if len(text) <= 24 else f"{text[:20]}…"
