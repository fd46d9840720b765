"""The one entry to attention: who may see whom is said by segment ids, positions, causality and a window.

Implementations differ in memory and speed only. What one of them cannot honour it refuses; none ignores an argument.

| name | scores held | where | refuses |
|---|---|---|---|
| ``reference`` | length² | anywhere; what the others are tested against | |
| ``blocked`` | block * length, recomputed in the backward pass | anywhere | |
| ``xla`` | length², by `jax.nn.dot_product_attention` | anywhere | softcap, sinks |
| ``cudnn`` | none; a mask of length² where there are documents | NVIDIA GPU (unverified) | softcap, sinks, float32 |
| ``splash`` | none | TPU (unverified) | positions that are not the order in the row, prefixes, sinks |

Unverified means that nobody has run `python -m easydel_models.attention.check` on such a machine yet.

Axis letters: B batch, T query tokens, S key tokens, H query heads, G key/value heads, K head_dim.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import jax
from jaxtyping import Array, Float, Int

from easydel_models.attention.blocked import blocked_attention
from easydel_models.attention.dot_product import dot_product_attention
from easydel_models.attention.mask import MaskInputs, Rule
from easydel_models.attention.reference import reference_attention
from easydel_models.attention.splash import splash_attention

Implementation = Literal["auto", "reference", "blocked", "xla", "cudnn", "splash"]

SHORT = 128
"""Queries up to which ``auto`` takes the reference: one block would hold all of them."""


def attention(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B S G K"],
    value: Float[Array, "B S G K"],
    *,
    segment_ids: Int[Array, "B T"] | None = None,
    kv_segment_ids: Int[Array, "B S"] | None = None,
    positions: Int[Array, "B T"] | None = None,
    kv_positions: Int[Array, "B S"] | None = None,
    prefix_ids: Int[Array, "B T"] | None = None,
    causal: bool = True,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Float[Array, " H"] | None = None,
    implementation: Implementation = "auto",
) -> Float[Array, "B T H K"]:
    """Scaled dot-product attention with grouped heads.

    Each query takes the mean of the values it sees, weighted by ``softmax(softcap_(scale * q·k))``, where
    ``softcap_(s) = softcap * tanh(s / softcap)``. Head h reads key/value head ``h // (H / G)``. Scores and
    softmax are float32. A query that sees nothing (padding) gives exactly 0, and passes no gradient.

    Args:
        query: Queries, rope already applied.
        key: Keys, rope already applied.
        value: Values.
        segment_ids: Document of each query; 0 = padding, which sees nothing. None = all one document.
        kv_segment_ids: Document of each key; 0 = padding, seen by nobody. None = `segment_ids`, if S == T.
        positions: Place of each query for causality and window. None = the order in the row, which lets
            ``blocked`` leave out key blocks that nobody sees; right whenever documents are contiguous.
        kv_positions: Place of each key; given together with `positions` or not at all.
        prefix_ids: Document that each query sees besides its own, such as a prompt that several answers continue; 0 =
            none. Needs `segment_ids`.
        causal: Whether a query sees only keys at its own position or before.
        window: Number of positions a query sees back, its own included; None = all. Needs `causal`.
        scale: Factor on the scores; None = 1 / sqrt(K).
        softcap: Bound on the magnitude of the scores; None = no bound.
        sinks: For each query head a score that takes part in the softmax and has no value, so that a head may look at
            nothing; None = there is none.
        implementation: One of the table above; ``"auto"`` takes ``"reference"`` for short inputs, else ``"blocked"``.

    Returns:
        One vector per query and head, in the dtype of `query`.

    Raises:
        ValueError: If the arguments contradict each other, or the implementation is unknown, not for this machine, or
            cannot honour an argument.

    References: Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762, eq. 1;
        Ainslie et al., GQA, 2023, https://arxiv.org/abs/2305.13245 (grouped heads); Gemma Team, Gemma 2,
        2024, https://arxiv.org/abs/2408.00118 (soft-capping); OpenAI, gpt-oss model card, 2025,
        https://arxiv.org/abs/2508.10925, section 2.3 (sinks).
    """
    _check_heads(query, key)
    rule = Rule(
        query_length=query.shape[1],
        kv_length=key.shape[1],
        causal=causal,
        window=window,
        in_row_order=positions is None,
        scale=query.shape[-1] ** -0.5 if scale is None else scale,
        softcap=softcap,
    )
    mask_inputs = MaskInputs(segment_ids, kv_segment_ids, positions, kv_positions, prefix_ids).checked(rule)
    if implementation == "auto":
        implementation = "reference" if query.shape[1] <= SHORT else "blocked"
    attend = _available(implementation)
    if sinks is None:
        return attend(query, key, value, rule, mask_inputs)
    if implementation not in _WITH_SINKS:
        raise ValueError(f"{implementation!r} attention knows no sinks; take one of {', '.join(_WITH_SINKS)}.")
    return attend(query, key, value, rule, mask_inputs, sinks=sinks)


def why_unavailable(implementation: str) -> str | None:
    """Returns what this machine lacks for an implementation; None = nothing."""
    needed = {"cudnn": "gpu", "splash": "tpu"}.get(implementation)
    found = jax.default_backend()
    return None if needed in (None, found) else f"needs a {needed.upper()}; this machine's backend is {found}"


def honours_prefixes(implementation: Implementation) -> bool:
    """Returns whether an implementation lets queries see a document besides their own."""
    return implementation != "splash"


_IMPLEMENTATIONS: Mapping[str, Callable[..., Array]] = {
    "reference": reference_attention,
    "blocked": blocked_attention,
    "xla": functools.partial(dot_product_attention, kernel="xla"),
    "cudnn": functools.partial(dot_product_attention, kernel="cudnn"),
    "splash": splash_attention,
}


_WITH_SINKS = ("reference", "blocked")


def _available(implementation: str) -> Callable[..., Array]:
    if implementation not in _IMPLEMENTATIONS:
        raise ValueError(f"`implementation` is {implementation!r}; expected {', '.join(get_args(Implementation))}.")
    if reason := why_unavailable(implementation):
        raise ValueError(f"{implementation!r} attention {reason}. Take 'auto'.")
    return _IMPLEMENTATIONS[implementation]


def _check_heads(query: Array, key: Array) -> None:
    if query.shape[2] % key.shape[2]:
        raise ValueError(
            f"{query.shape[2]} query heads cannot share {key.shape[2]} key/value heads evenly; "
            "the number of query heads must be a multiple."
        )
