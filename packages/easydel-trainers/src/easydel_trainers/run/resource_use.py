"""What this process has spent and holds: seconds of compiling, memory."""

from __future__ import annotations

import ctypes
import functools
import gc
import re
import resource
import sys
from pathlib import Path

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"


def compile_seconds() -> float:
    """Returns seconds spent compiling since this was first called."""
    return sum(_durations())


@functools.cache
def _durations() -> list[float]:
    """Returns one entry: the sum. JAX has no way to take a listener away again, so there is one for the whole
    process.
    """
    total = [0.0]

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if event == _EVENT:
            total[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    return total


def give_back() -> None:
    """Asks the C library to return freed memory; nothing happens where it is not glibc."""
    # glibc keeps freed pieces below 32 MB for itself, and the arrays of decoding's copy of a small model are such
    # pieces: unasked the process goes on holding them beside what training allocates (0.45 GB of SmolLM2-135M).
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def peak_memory_bytes() -> int:
    """Largest resident size this process has had."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux hands `ru_maxrss` down: a process begins with the peak of the one that started it.
    own = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    kibibytes = int(own[1]) if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes * 1024
