"""Whether this CPU multiplies bfloat16 numbers, and what is computed in where it does not.

Without instructions for it every bfloat16 number is widened before it is multiplied, which takes longer than float32
from the start. On such CPUs what was asked for in bfloat16 is therefore computed in float32; what is kept (parameters)
keeps the type it was asked to have.
"""

import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from easydel_models.errors import ConfigError
from easydel_models.products import wide_product

SETTING = "EASYDEL_CPU_BFLOAT16"
"""Environment variable: ``auto`` looks at the CPU, ``native`` computes in bfloat16 in any case, ``float32`` never does.

Read when a model is made or cast.
"""

_CHOICES = ("auto", "native", "float32")

_INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
"""Names of the CPU's flags, on x86 and Arm, of which one is enough."""

_SWITCHED_OFF_BY = {
    "XLA_FLAGS=--xla_cpu_max_isa": ("SSE4_2", "AVX", "AVX2", "AVX512", "AVX512_VNNI"),
    "ONEDNN_MAX_CPU_ISA": (
        "SSE41",
        "AVX",
        "AVX2",
        "AVX2_VNNI",
        "AVX2_VNNI_2",
        "AVX512_CORE",
        "AVX512_CORE_VNNI",
    ),
}
"""Settings of XLA and oneDNN with the values that leave the instructions unused."""


def compute_dtype(dtype: np.dtype) -> np.dtype:
    """Returns what this machine computes in where ``dtype`` was asked for.

    Raises:
        ConfigError: If the environment variable `SETTING` holds something else than its choices.
    """
    if dtype != jnp.bfloat16 or jax.default_backend() != "cpu":
        return dtype
    setting = os.environ.get(SETTING, "auto")
    if setting not in _CHOICES:
        raise ConfigError(f"{SETTING} is {setting!r}; expected one of {', '.join(_CHOICES)}, or leave it unset.")
    native = setting == "native" or (setting == "auto" and why_not() is None)
    return dtype if native else np.dtype(np.float32)


def why_not() -> str | None:
    """Returns why products of bfloat16 numbers use no instructions of this CPU; None = they use them."""
    if not cpu_flags() & _INSTRUCTIONS:
        return "this CPU has no bfloat16 instructions"
    return switched_off(os.environ)


def switched_off(environment: Mapping[str, str]) -> str | None:
    """Returns the setting of XLA or oneDNN that leaves the instructions unused; None = there is none."""
    words = (word.partition("=") for word in environment.get("XLA_FLAGS", "").split())
    flags = {name: value for name, _, value in words}
    found = {
        "XLA_FLAGS=--xla_cpu_max_isa": flags.get("--xla_cpu_max_isa", ""),
        "ONEDNN_MAX_CPU_ISA": environment.get("ONEDNN_MAX_CPU_ISA", environment.get("DNNL_MAX_CPU_ISA", "")),
    }
    for name, value in found.items():
        if value.upper() in _SWITCHED_OFF_BY[name]:
            return f"{name}={value} leaves this CPU's bfloat16 instructions unused"
    return None


def cpu_flags() -> frozenset[str]:
    """Returns what this CPU says that it can do, by the names of Linux; nothing where that cannot be read."""
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "hw.optional.arm.FEAT_BF16"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
        except (OSError, subprocess.SubprocessError):
            answer = ""
        return frozenset({"bf16"} if answer.strip() == "1" else ())
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    listed = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(listed, "").split())


def bfloat16_advice() -> str:
    """Returns in words what bfloat16 gains on this machine; on a CPU by a measurement of a moment."""
    if jax.default_backend() != "cpu":
        return "the default compute type of this accelerator"
    speed, reason = bfloat16_speed(), why_not()
    measured = f"products take {1 / speed:.2f} times as long as in float32 (measured just now)"
    if reason is not None:
        return f"{measured}: {reason}, and dtype=bfloat16 is computed in float32"
    advice = "dtype=bfloat16 makes runs faster" if speed > 1.1 else "dtype=bfloat16 gains little"
    return f"{measured}: {advice}"


def bfloat16_speed() -> float:
    """Returns how many times as fast this machine multiplies bfloat16 numbers as float32 ones: a measurement of about
    half a second, compilation included.

    The product is that of a small model's MLP, [512, 576] by [576, 1536], added up in float32 as layers do it.
    """
    narrow, wide = (
        _runner(jax.jit(wide_product), jnp.ones((512, 576), dtype), jnp.ones((576, 1536), dtype))
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    # In turns, so that both meet the same neighbours; the least of each, since nothing makes a product faster.
    pairs = [(narrow(), wide()) for _ in range(_RUNS)]
    return min(seconds for _, seconds in pairs) / min(seconds for seconds, _ in pairs)


_RUNS = 15


def _runner(function: Callable[..., jax.Array], *arguments: jax.Array) -> Callable[[], float]:
    function(*arguments).block_until_ready()

    def run() -> float:
        began = time.perf_counter()
        function(*arguments).block_until_ready()
        return time.perf_counter() - began

    return run
