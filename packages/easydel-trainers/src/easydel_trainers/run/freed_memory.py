"""Memory that was freed, given back to the system.

glibc keeps freed pieces below 32 MB for itself, and the arrays of decoding's copy of a small model are such pieces:
unasked the process goes on holding them beside what training allocates elsewhere (0.45 GB of SmolLM2-135M).
"""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Ask the C library to return freed memory; nothing happens where it is not glibc."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
