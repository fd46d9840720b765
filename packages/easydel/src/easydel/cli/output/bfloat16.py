"""What bfloat16 would gain on this machine, in a sentence."""

from __future__ import annotations


def bfloat16_here() -> str:
    """What bfloat16 gains here; on a CPU by a measurement of a moment."""
    import jax

    if jax.default_backend() != "cpu":
        return "the default compute type of this accelerator"
    from easydel_models.cpu_bfloat16 import bfloat16_speed, why_not

    speed, reason = bfloat16_speed(), why_not()
    measured = f"products take {1 / speed:.2f} times as long as in float32 (measured just now)"
    if reason is not None:
        return f"{measured}: {reason}, and dtype=bfloat16 is computed in float32"
    advice = "dtype=bfloat16 makes runs faster" if speed > 1.1 else "dtype=bfloat16 gains little"
    return f"{measured}: {advice}"
