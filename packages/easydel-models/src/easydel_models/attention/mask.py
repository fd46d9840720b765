"""Who sees whom: the one definition of the attention mask, which every implementation evaluates.

What is known before the run is in `Rule`; what is data, in `MaskInputs`.

Axis letters: B batch, T query tokens, S key tokens, t and s those of one block.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """The static half: how products become scores, and which keys a query may see at all."""

    query_length: int
    kv_length: int
    causal: bool
    window: int | None
    in_row_order: bool
    """Whether causality follows the order in the row, so that unseen keys are known before the run."""
    scale: float
    softcap: float | None

    def __post_init__(self) -> None:
        """Refuses a window that has no meaning.

        Raises:
            ValueError: If the window is empty, or attention is not causal.
        """
        if self.window is not None and (self.window < 1 or not self.causal):
            raise ValueError(f"`window` is {self.window} with `causal` {self.causal}; expected at least 1, and True.")

    def longest_view(self, queries: int) -> int:
        """Returns how many neighbouring keys at most so many neighbouring queries see between them."""
        if not (self.in_row_order and self.window is not None):
            return self.kv_length
        return min(self.kv_length, self.window + queries - 1)


class MaskInputs(NamedTuple):
    """The data half: where each query and key belongs; None where the rule does not ask."""

    segment_ids: Int[Array, "B T"] | None
    kv_segment_ids: Int[Array, "B S"] | None
    positions: Int[Array, "B T"] | None
    kv_positions: Int[Array, "B S"] | None
    prefix_ids: Int[Array, "B T"] | None = None
    """Of queries: the document that they see besides their own; 0 = none."""

    def checked(self, rule: Rule) -> "MaskInputs":
        """Fills in the keys' half where it equals the queries'.

        Raises:
            ValueError: If one half is given without the other, or causality cannot be decided.
        """
        kv_segment_ids, same_length = self.kv_segment_ids, rule.query_length == rule.kv_length
        if kv_segment_ids is None and same_length:
            kv_segment_ids = self.segment_ids
        if (self.segment_ids is None) != (kv_segment_ids is None):
            raise ValueError("give `segment_ids` and `kv_segment_ids` both, or neither.")
        if (self.positions is None) != (self.kv_positions is None):
            raise ValueError("give `positions` and `kv_positions` both, or neither.")
        if self.prefix_ids is not None and self.segment_ids is None:
            raise ValueError("`prefix_ids` name documents: give `segment_ids` too.")
        if self.positions is None and rule.causal and not same_length:
            raise ValueError(
                f"{rule.query_length} queries against {rule.kv_length} keys: give `positions` and "
                "`kv_positions`, else nobody knows which key comes before which query."
            )
        return self._replace(kv_segment_ids=kv_segment_ids)


class Span(NamedTuple):
    """``size`` neighbours from ``start`` on; ``start`` may be traced."""

    start: int | Int[Array, ""]
    size: int


def visible(rule: Rule, mask_inputs: MaskInputs, queries: Span, keys: Span) -> Bool[Array, "#B #t #s"]:
    """Returns which of ``queries`` see which of ``keys``; an axis is 1 where the answer does not depend on it."""
    seen = jnp.ones((1, 1, 1), bool)
    if mask_inputs.segment_ids is not None and mask_inputs.kv_segment_ids is not None:
        of_query, of_key = _cut(mask_inputs.segment_ids, queries), _cut(mask_inputs.kv_segment_ids, keys)
        seen = of_query[:, :, None] == of_key[:, None, :]
        if mask_inputs.prefix_ids is not None:
            prefix = _cut(mask_inputs.prefix_ids, queries)
            seen = seen | ((prefix[:, :, None] == of_key[:, None, :]) & (prefix > 0)[:, :, None])
        seen = seen & (of_query > 0)[:, :, None]
    if rule.causal:
        behind = _distance(mask_inputs, queries, keys)
        seen = seen & (behind >= 0)
        if rule.window is not None:
            seen = seen & (behind < rule.window)
    return seen


def _distance(mask_inputs: MaskInputs, queries: Span, keys: Span) -> Int[Array, "#B t s"]:
    if mask_inputs.positions is not None and mask_inputs.kv_positions is not None:
        return _cut(mask_inputs.positions, queries)[:, :, None] - _cut(mask_inputs.kv_positions, keys)[:, None, :]
    return (_numbers(queries)[:, None] - _numbers(keys)[None, :])[None]


def _cut(array: Int[Array, "B T"], span: Span) -> Int[Array, "B t"]:
    return jax.lax.dynamic_slice_in_dim(array, span.start, span.size, axis=1)


def _numbers(span: Span) -> Int[Array, " t"]:
    return jnp.asarray(span.start, jnp.int32) + jnp.arange(span.size, dtype=jnp.int32)
