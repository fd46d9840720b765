"""Time that this process has spent compiling, whoever asked for it."""

from __future__ import annotations

import functools

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"


def compile_seconds() -> float:
    """Seconds spent compiling since this was first called."""
    return sum(_durations())


@functools.cache
def _durations() -> list[float]:
    """One entry: the sum. JAX has no way to take a listener away again, so there is one for the whole process."""
    total = [0.0]

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if event == _EVENT:
            total[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    return total
