"""Whether the implementations of attention agree on this machine: `python -m easydel_models.attention.check`.

Every implementation that this machine can run is compared with the reference, forward and backward, on packed, padded,
windowed, grouped and soft-capped inputs. Kernels for GPUs and TPUs are unverified until this has passed there.

Axis letters: B batch, T tokens, H query heads, G key/value heads, K head_dim.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from easydel_models.attention import Implementation, attention, why_unavailable

_TOLERANCE = {"float32": 2e-5, "bfloat16": 4e-2}  # of the largest number; eight bits of a bfloat16 are 4e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionCheck:
    """What one implementation made of one case."""

    implementation: str
    case: str
    error: float | None
    """Largest difference of results and gradients, relative to the largest number; None = refused."""
    refused: str | None
    """Why it would not."""
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether it agrees with the reference, or said that it cannot do this."""
        return self.error is None or self.error <= self.tolerance


def check_attention(
    implementations: Sequence[Implementation] | None = None, *, length: int = 256
) -> list[AttentionCheck]:
    """Compares implementations with the reference.

    Args:
        implementations: Which; None = all that this machine can run.
        length: Tokens of a row, at least 32.
    """
    names = [name for name in get_args(Implementation) if name not in ("auto", "reference")]
    chosen = [name for name in names if why_unavailable(name) is None] if implementations is None else implementations
    return [
        compare(name, functools.partial(attention, implementation=name), case, options, length=length, heads=heads)
        for name in chosen
        for case, options, heads in cases(length)
    ]


def cases(length: int) -> Iterator[tuple[str, dict[str, Any], tuple[int, int]]]:
    """Returns name, arguments, and numbers of query and of key/value heads of every case; two rows each."""
    cuts = sorted({length // 5, length // 2, length - 9})
    packed = jnp.asarray(np.searchsorted(cuts, np.arange(length), side="right") + 1, jnp.int32)
    right, left = (
        jnp.asarray(np.arange(length) < length - 7, jnp.int32),
        jnp.asarray(np.arange(length) >= 7, jnp.int32),
    )
    rows = jnp.stack([packed, jnp.where(right > 0, packed, 0)])
    yield "plain", {}, (4, 4)
    yield "grouped", {}, (4, 2)
    yield "one key head", {}, (4, 1)
    yield "packed", {"segment_ids": rows}, (4, 2)
    yield "padded right", {"segment_ids": jnp.stack([right, jnp.ones_like(right)])}, (4, 2)
    yield "padded left", {"segment_ids": jnp.stack([left, jnp.ones_like(left)])}, (4, 2)
    yield "windowed", {"window": 17}, (4, 2)
    yield "packed and windowed", {"segment_ids": rows, "window": 17}, (4, 2)
    yield "soft-capped", {"segment_ids": rows, "softcap": 3.0}, (4, 2)
    yield "prefixed", {"segment_ids": rows, **_continued(packed)}, (4, 2)
    yield "with sinks", {"segment_ids": rows, "sinks": jnp.linspace(-1.0, 2.0, 4)}, (4, 2)
    yield "both directions", {"segment_ids": rows, "causal": False}, (4, 2)


def _continued(packed: Array) -> dict[str, Array]:
    """Returns the second and the fourth document of each row go on from the one before them."""
    number = np.asarray(packed)
    sizes = np.bincount(number)
    within = np.arange(len(number)) - np.searchsorted(number, number)
    prefix = np.where(number % 2 == 0, number - 1, 0)
    positions = jnp.asarray(np.stack([within + sizes[prefix]] * 2), jnp.int32)
    prefix_ids = jnp.asarray(np.stack([prefix] * 2), jnp.int32)
    return {"prefix_ids": prefix_ids, "positions": positions, "kv_positions": positions}


def compare(
    name: str,
    function: Callable[..., Array],
    case: str,
    options: Mapping[str, Any],
    *,
    length: int,
    heads: tuple[int, int],
    head_dim: int = 64,
) -> AttentionCheck:
    """Returns one implementation, given as a function like `attention`, on one case."""
    dtype = "bfloat16" if name == "cudnn" else "float32"
    rng = np.random.default_rng(0)
    shapes = [(2, length, count, head_dim) for count in (heads[0], heads[1], heads[1], heads[0])]
    query, key, value, weights = (jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes)

    def outcome(attend, *inputs):
        def total(*inputs):
            mixed = attend(*inputs, **options).astype(jnp.float32)
            return (mixed * weights.astype(jnp.float32)).sum(), mixed

        gradients, mixed = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(*inputs)
        return [np.asarray(array, np.float32) for array in (mixed, *gradients)]

    found = {"implementation": name, "case": case, "tolerance": _TOLERANCE[dtype]}
    with jax.default_matmul_precision("highest"):
        try:
            ours = outcome(function, query, key, value)
        except ValueError as refusal:
            return AttentionCheck(**found, error=None, refused=str(refusal))
        wide = (array.astype(jnp.float32) for array in (query, key, value))
        theirs = outcome(functools.partial(attention, implementation="reference"), *wide)
    errors = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs, strict=True)]
    return AttentionCheck(**found, error=float(np.max(errors)), refused=None)


def main() -> None:
    """Prints what agrees; exits with 1 if anything does not."""
    checks = check_attention()
    lines = []
    for check in checks:
        verdict = "refused: " + check.refused if check.refused else f"{check.error:.1e}"
        lines.append(f"{'ok  ' if check.passed else 'FAIL'}  {check.implementation:10} {check.case:20} {verdict}")
    for name in get_args(Implementation):
        if reason := why_unavailable(name):
            lines.append(f"-     {name:10} not run: {reason}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(0 if all(check.passed for check in checks) else 1)


if __name__ == "__main__":
    main()
