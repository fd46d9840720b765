"""The gated delta rule: a linear attention whose state forgets, and corrects what it says about a key.

For one head, with the state S [K, V] before it, a token reads and writes

    S  <-  exp(g) S + beta k (v - exp(g) S^T k)^T        y = S^T q / sqrt(K)

`delta_rule_step` is that. `delta_rule` computes all tokens of a row in chunks instead: inside a chunk the corrections
solve a triangular system, and the state passes from chunk to chunk. A document starts with an empty state wherever it
lies in its row, and padding leaves the state as it is.

Axis letters: B batch, T tokens, H heads, K key width, V value width, N chunks, C tokens of a chunk.

References: Yang, Kautz & Hatamizadeh, Gated Delta Networks, 2024, https://arxiv.org/abs/2412.06464, eqs. 8-10;
    Yang et al., Parallelizing Linear Transformers with the Delta Rule, 2024, https://arxiv.org/abs/2406.06484, sec. 3.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from easydel_models.recurrent.documents import Documents

CHUNK = 64


def delta_rule(
    query: Float[Array, "B T H K"],
    key: Float[Array, "B T H K"],
    value: Float[Array, "B T H V"],
    *,
    log_decay: Float[Array, "B T H"],
    beta: Float[Array, "B T H"],
    documents: Documents,
    state: Float[Array, "B H K V"],
) -> tuple[Float[Array, "B T H V"], Float[Array, "B H K V"]]:
    """Reads and writes the state token by token, in chunks of `CHUNK`; float32 throughout.

    Args:
        query: Of length 1, as `unit_length` makes them; so is ``key``.
        key: See ``query``.
        value: What is written.
        log_decay: g, at most 0.
        beta: How much of a correction is written, in [0, 1].
        documents: Of the tokens. Padding reads something nobody looks at and writes nothing.
        state: Before the first token, of the document ``documents.before``.

    Returns:
        What every token read, and the state behind the last one.
    """
    length = query.shape[1]
    size = min(CHUNK, length)
    kept = documents.real[..., None]
    log_decay = jnp.where(kept, log_decay, jnp.float32(0))
    beta = jnp.where(kept, beta, jnp.float32(0))
    missing = -length % size
    # Behind the row there is more padding of its last document.
    ids = jnp.pad(documents.ids, ((0, 0), (0, missing)), mode="edge")
    chunks = tuple(_in_chunks(array, size) for array in (query, key, value, log_decay, beta))
    ids = ids.reshape(ids.shape[0], -1, size).swapaxes(0, 1)
    before = jnp.concatenate([documents.before[None], ids[:-1, :, -1]])
    final, read = jax.lax.scan(_chunk_step, state.astype(jnp.float32), (*chunks, ids, before))
    # [N, B, H, C, V] -> [B, T, H, V]
    read = jnp.moveaxis(read, 0, 2).reshape(*read.shape[1:3], -1, read.shape[-1])
    return read.swapaxes(1, 2)[:, :length], final


def delta_rule_step(
    query: Float[Array, "B H K"],
    key: Float[Array, "B H K"],
    value: Float[Array, "B H V"],
    *,
    log_decay: Float[Array, "B H"],
    beta: Float[Array, "B H"],
    state: Float[Array, "B H K V"],
) -> tuple[Float[Array, "B H V"], Float[Array, "B H K V"]]:
    """Returns one token of the rule: what it reads, and the state behind it; see `delta_rule`."""
    state = state * jnp.exp(log_decay)[..., None, None]
    known = jnp.einsum("bhkv,bhk->bhv", state, key)
    written = state + jnp.einsum("bhk,bhv->bhkv", key, beta[..., None] * (value - known))
    return jnp.einsum("bhkv,bhk->bhv", written, query) * _scale(query), written


def unit_length(x: Float[Array, "... K"]) -> Float[Array, "... K"]:
    """Divides by the length over the last axis, in float32; zeros stay zeros."""
    wide = x.astype(jnp.float32)
    return wide * jax.lax.rsqrt((wide * wide).sum(axis=-1, keepdims=True) + jnp.float32(1e-6))


def _chunk_step(state: Array, chunk: tuple[Array, ...]) -> tuple[Array, Array]:
    query, key, value, log_decay, beta, documents, before = chunk
    total = _sums_within(log_decay, documents)
    # What a token still sees of another one, and of the state: nothing across the border of a document.
    lower = jnp.tril(jnp.ones((total.shape[2], total.shape[2]), bool))
    seen = lower[None] & (documents[:, :, None] == documents[:, None, :])
    between = jnp.where(seen[:, None], total[..., :, None] - total[..., None, :], -jnp.inf)
    decay = jnp.exp(between)
    of_state = jnp.where((documents == before[:, None])[:, None], jnp.exp(total), jnp.float32(0))
    to_end = jnp.exp(jnp.where((documents == documents[:, -1:])[:, None], total[..., -1:] - total, -jnp.inf))

    weighted = key * beta[..., None]
    system = jnp.einsum("bhik,bhjk->bhij", weighted, key) * decay
    known = jnp.einsum("bhik,bhkv->bhiv", weighted * of_state[..., None], state)
    corrections = jax.lax.linalg.triangular_solve(
        system, value * beta[..., None] - known, left_side=True, lower=True, unit_diagonal=True
    )
    query = query * _scale(query)
    attention = jnp.einsum("bhik,bhjk->bhij", query, key) * decay
    read = jnp.einsum("bhik,bhkv->bhiv", query * of_state[..., None], state)
    read = read + jnp.einsum("bhij,bhjv->bhiv", attention, corrections)
    state = state * of_state[..., -1][..., None, None]
    return state + jnp.einsum("bhik,bhiv->bhkv", key * to_end[..., None], corrections), read


def _sums_within(log_decay: Float[Array, "B H C"], documents: Int[Array, "B C"]) -> Float[Array, "B H C"]:
    """Returns running sums that begin anew with every document."""
    # Differences of longer ones would lose digits.
    begins = jnp.diff(documents, axis=1, prepend=documents[:, :1]) != 0
    begins = jnp.broadcast_to(begins[:, None], log_decay.shape)

    def joined(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
        return jnp.where(right[1], right[0], left[0] + right[0]), left[1] | right[1]

    return jax.lax.associative_scan(joined, (log_decay, begins), axis=2)[0]


def _in_chunks(array: Array, size: int) -> Array:
    """[B, T, H, ...] -> [N, B, H, C, ...] in float32, zeros behind the row."""
    array = jnp.pad(array.astype(jnp.float32), ((0, 0), (0, -array.shape[1] % size), *((0, 0),) * (array.ndim - 2)))
    array = array.reshape(array.shape[0], -1, size, *array.shape[2:])
    return jnp.moveaxis(array, 1, 0).swapaxes(2, 3)


def _scale(query: Array) -> Array:
    return jnp.float32(query.shape[-1] ** -0.5)
