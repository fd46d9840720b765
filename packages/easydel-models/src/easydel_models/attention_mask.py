"""Who sees whom: the one definition of the attention mask, which every implementation slices.

Axis letters: B batch, T query tokens, S key tokens.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Visibility:
    """The rule by which queries see keys; `mask` evaluates it for one block of queries and keys."""

    query_length: int
    kv_length: int
    segment_ids: Int[Array, "B T"] | None
    kv_segment_ids: Int[Array, "B S"] | None
    positions: Int[Array, "B T"] | None
    kv_positions: Int[Array, "B S"] | None
    causal: bool
    window: int | None

    @staticmethod
    def from_arguments(
        *,
        query_length: int,
        kv_length: int,
        segment_ids: Int[Array, "B T"] | None,
        kv_segment_ids: Int[Array, "B S"] | None,
        positions: Int[Array, "B T"] | None,
        kv_positions: Int[Array, "B S"] | None,
        causal: bool,
        window: int | None,
    ) -> "Visibility":
        """Fills in what follows from the other arguments.

        Raises:
            ValueError: If the arguments contradict each other.
        """
        same_length = query_length == kv_length
        if segment_ids is not None and kv_segment_ids is None and same_length:
            kv_segment_ids = segment_ids
        if (segment_ids is None) != (kv_segment_ids is None):
            raise ValueError(
                "give `segment_ids` and `kv_segment_ids` both: queries and keys differ in number."
            )
        if (positions is None) != (kv_positions is None):
            raise ValueError("give `positions` and `kv_positions` both, or neither.")
        if positions is None and causal and not same_length:
            raise ValueError(
                f"{query_length} queries against {kv_length} keys: give `positions` and `kv_positions`, "
                "else nobody knows which key comes before which query."
            )
        if window is not None and (window < 1 or not causal):
            raise ValueError(
                f"`window` is {window} with `causal` {causal}; expected at least 1, and causal=True."
            )
        return Visibility(
            query_length=query_length,
            kv_length=kv_length,
            segment_ids=segment_ids,
            kv_segment_ids=kv_segment_ids,
            positions=positions,
            kv_positions=kv_positions,
            causal=causal,
            window=window,
        )

    @property
    def in_row_order(self) -> bool:
        """Whether causality follows the order in the row, so that unseen key blocks are known before the run."""
        return self.positions is None

    def key_range(self, start: int, stop: int) -> tuple[int, int]:
        """Returns the first key that queries start..stop-1 may see, and the one after the last."""
        if not (self.causal and self.in_row_order):
            return 0, self.kv_length
        first = 0 if self.window is None else max(0, start - self.window + 1)
        return first, stop

    def mask(
        self, start: int | Int[Array, ""], size: int, kv_start: int, kv_stop: int
    ) -> Bool[Array, "#B #T #S"]:
        """Returns which of queries start..start+size-1 see which of keys kv_start..kv_stop-1.

        ``start`` may be traced; the first axis is 1 when the rule is the same in every row.
        """
        kv = slice(kv_start, kv_stop)
        seen = jnp.ones((1, 1, 1), bool)
        if self.segment_ids is not None and self.kv_segment_ids is not None:
            queries = jax.lax.dynamic_slice_in_dim(self.segment_ids, start, size, axis=1)[:, :, None]
            keys = self.kv_segment_ids[:, None, kv]
            seen = (queries == keys) & (queries > 0)
        if self.causal:
            behind = self._distance(start, size, kv)
            seen = seen & (behind >= 0)
            if self.window is not None:
                seen = seen & (behind < self.window)
        return seen

    def _distance(self, start: int | Int[Array, ""], size: int, kv: slice) -> Int[Array, "#B T S"]:
        if self.positions is not None and self.kv_positions is not None:
            queries = jax.lax.dynamic_slice_in_dim(self.positions, start, size, axis=1)
            return queries[:, :, None] - self.kv_positions[:, None, kv]
        queries = jnp.asarray(start, jnp.int32) + jnp.arange(size, dtype=jnp.int32)
        return (queries[:, None] - jnp.arange(kv.start, kv.stop, dtype=jnp.int32)[None, :])[None]
