"""Continuing prompts: left-padded rows, one prefill, then blocks of single-token steps over a dense KV cache.

All rows of a batch write the same cache slot at each step, because prompts are padded on the left. A block is one
compiled loop that stops early when every row is done; between blocks the host looks whether anything is left to do.
The random number for a token depends on (seed, place of its prompt among all prompts, how many tokens came before)
and on nothing else, so the same prompts give the same tokens whatever the batch or block size, ties aside.

Left out on purpose: refilling finished rows, a cache that grows, stop strings. One batch runs until its last row ends.

Axes: B rows, T prompt slots, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from easydel_models.cache import KVCache, init_cache
from easydel_models.config import DecoderConfig
from easydel_models.generation.options import FinishReason, GenerateResult, GenerationOptions, eos_tuple
from easydel_models.generation.sampling import Sampling, choose, uniforms_for
from easydel_models.parameters import Params, join_params, split_params

if TYPE_CHECKING:
    from easydel_models.heads import CausalLM

_PROMPT_BUCKET = 32
"""Prompts are padded to a multiple of this, so that prompts of similar length share a compiled prefill."""
_CACHE_BUCKET = 128
"""Likewise for the slots of the cache."""
_STOP_BUCKET = 8
"""Likewise for the number of stop tokens."""


class ModelEngine:
    """Generation in this process: the weights are the model's own arrays, so `update` costs nothing. Final."""

    def __init__(self, model: "CausalLM", *, batch_size: int = 64, block_size: int = 32):
        """Wraps a model.

        Args:
            model: The weights to begin with, of any compute dtype.
            batch_size: Most completions decoded together; bounds the memory of the cache.
            block_size: Steps between two looks at what is finished; has no effect on the result.
        """
        for name, value in {"batch_size": batch_size, "block_size": block_size}.items():
            if value < 1:
                raise ValueError(f"`{name}` must be >= 1, got {value}")
        self._model = model
        self._batch_size = batch_size
        self._block_size = block_size

    def generate(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> GenerateResult:
        """Continues each prompt; completions of one prompt lie side by side in the result.

        Raises:
            ValueError: If a prompt is empty, too long, or holds an unknown id; the prompt is named by its place.
        """
        rows = [np.asarray(prompt, np.int32).reshape(-1) for prompt in prompts]
        config = self._model.config
        _check_prompts(rows, config, options.max_new_tokens)
        rows = [row for row in rows for _ in range(options.num_return_sequences)]
        structure, params = split_params(self._model)
        plan = _Plan(structure, _sampling(options), self._block_size)
        stop_ids = _stop_ids(config, options.eos_token_ids)
        key = jax.random.key(options.seed)
        token_ids: list[list[int]] = []
        logprobs: list[list[float]] = []
        for start in range(0, len(rows), self._batch_size):
            batch = rows[start : start + self._batch_size]
            places = jnp.arange(start, start + len(batch), dtype=jnp.int32)
            request = _Request(key=key, rows=places, stop_ids=jnp.asarray(stop_ids))
            tokens, logps = _generate_batch(plan, params, batch, request, options.max_new_tokens)
            for ids, values in zip(tokens, logps, strict=True):
                length = _length_with_stop(ids, stop_ids)
                token_ids.append(ids[:length].tolist())
                logprobs.append(values[:length].tolist())
        reasons: list[FinishReason] = ["stop" if ids[-1] in stop_ids else "length" for ids in token_ids]
        return GenerateResult(token_ids=token_ids, logprobs=logprobs, finish_reasons=reasons)

    def update(self, model: "CausalLM") -> None:
        """Generates with this model's weights from now on; nothing is copied."""
        self._model = model


def generate(
    model: "CausalLM",
    prompts: Sequence[Sequence[int]] | np.ndarray | Array,
    *,
    max_new_tokens: int,
    attention_mask: np.ndarray | Array | None = None,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    num_return_sequences: int = 1,
    seed: int = 0,
    eos_token_id: int | Sequence[int] | None = None,
    batch_size: int = 64,
    block_size: int = 32,
) -> GenerateResult:
    """Continues each prompt until a stop token or the token limit.

    Args:
        model: Of any compute dtype.
        prompts: One list of token ids each; or a padded array [B, T] together with `attention_mask`.
        max_new_tokens: Most tokens to add to a prompt, at least 1.
        attention_mask: For an array: 1 = token, 0 = padding on either side. None = no padding.
        do_sample: Draw tokens instead of taking the likeliest.
        temperature: Above 0; divides the logits. Only with `do_sample`, as the next two.
        top_k: Draw from the k likeliest tokens; 0 = all.
        top_p: Draw from the fewest likeliest tokens that together have at least this share; 1 = all.
        num_return_sequences: Completions of each prompt.
        seed: Of the draws.
        eos_token_id: The stop token or tokens; None = those of the model's configuration; an empty list = none.
        batch_size: Most prompts decoded together; bounds the memory of the cache.
        block_size: Steps between two looks at what is finished; has no effect on the result.

    Returns:
        New tokens and their log-probabilities, in the order of the prompts, completions of one prompt side by side.

    Raises:
        ValueError: If an option is out of range, or a prompt is empty, too long, or holds an unknown id; the prompt is
            named by its place.
    """
    options = GenerationOptions(
        max_new_tokens=max_new_tokens,
        num_return_sequences=num_return_sequences,
        do_sample=do_sample,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        eos_token_ids=eos_tuple(eos_token_id),
    )
    engine = ModelEngine(model, batch_size=batch_size, block_size=block_size)
    return engine.generate(_token_lists(prompts, attention_mask), options)


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """What the compiled functions are specialised to, beside shapes."""

    structure: nnx.GraphDef
    sampling: Sampling | None
    block_size: int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Request:
    """What may change from call to call without a new compilation."""

    key: Key[Array, ""]
    rows: Int[Array, " B"]
    """Place of each row's prompt among all prompts."""
    stop_ids: Int[Array, " stops"]
    """Filled up with -1, which is no token, so that their number is no new shape."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Decoding:
    """Where a batch stands between two steps."""

    cache: KVCache
    last: Int[Array, " B"]
    """The newest token, not in the cache yet."""
    done: Bool[Array, " B"]
    count: Int[Array, ""]
    """Tokens generated so far in rows that are not done."""


def _generate_batch(
    plan: _Plan, params: Params, prompts: list[np.ndarray], request: _Request, max_new_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and log-probabilities [B, up to max_new_tokens]; past a row's stop token they mean nothing."""
    padded = _left_padded(prompts)
    capacity = _round_up(padded[0].shape[1] + max_new_tokens, _CACHE_BUCKET)
    state, logp = _prefill(plan, params, padded, request, capacity)
    tokens, logps = [np.asarray(state.last)[:, None]], [np.asarray(logp)[:, None]]
    left = max_new_tokens - 1
    while left > 0 and not np.asarray(state.done).all():
        steps = min(left, plan.block_size)
        state, block_tokens, block_logps = _decode_block(plan, params, state, request, jnp.int32(steps))
        tokens.append(np.asarray(block_tokens)[:, :steps])
        logps.append(np.asarray(block_logps)[:, :steps])
        left -= steps
    return np.concatenate(tokens, axis=1), np.concatenate(logps, axis=1)


@functools.partial(jax.jit, static_argnames=("plan", "capacity"))
def _prefill(
    plan: _Plan,
    params: Params,
    prompts: tuple[Int[Array, "B T"], Int[Array, "B T"]],
    request: _Request,
    capacity: int,
) -> tuple[_Decoding, Float[Array, " B"]]:
    """Enters prompts (tokens, mask) into a fresh cache; chooses the first token of every row and its log-prob."""
    model = join_params(plan.structure, params)
    tokens, mask = prompts
    cache = init_cache(model.config, batch=tokens.shape[0], capacity=capacity, dtype=model.dtype)
    hidden, cache = model.hidden(tokens, segment_ids=mask, cache=cache)
    count = jnp.zeros((), jnp.int32)
    token, logp = _next_token(plan, model, hidden, uniforms_for(request.key, request.rows, count))
    return _Decoding(cache=cache, last=token, done=jnp.isin(token, request.stop_ids), count=count + 1), logp


@functools.partial(jax.jit, static_argnames="plan", donate_argnames="state")
def _decode_block(
    plan: _Plan, params: Params, state: _Decoding, request: _Request, steps: Int[Array, ""]
) -> tuple[_Decoding, Int[Array, "B block"], Float[Array, "B block"]]:
    """Takes `steps` (at most `block_size`) steps, fewer if all rows finish; columns not reached are 0."""
    model = join_params(plan.structure, params)
    shape = (state.last.shape[0], plan.block_size)

    def unfinished(carry: tuple[Array, _Decoding, Array, Array]) -> Array:
        return (carry[0] < steps) & ~jnp.all(carry[1].done)

    def step(carry: tuple[Array, _Decoding, Array, Array]) -> tuple[Array, _Decoding, Array, Array]:
        i, state, tokens, logps = carry
        # A finished row goes on as padding, which nobody sees.
        alive = (~state.done).astype(jnp.int32)
        hidden, cache = model.hidden(state.last[:, None], segment_ids=alive[:, None], cache=state.cache)
        token, logp = _next_token(plan, model, hidden, uniforms_for(request.key, request.rows, state.count))
        done = state.done | jnp.isin(token, request.stop_ids)
        state = _Decoding(cache=cache, last=token, done=done, count=state.count + 1)
        return i + 1, state, tokens.at[:, i].set(token), logps.at[:, i].set(logp)

    start = (jnp.int32(0), state, jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32))
    return jax.lax.while_loop(unfinished, step, start)[1:]


def _next_token(
    plan: _Plan, model: "CausalLM", hidden: Float[Array, "B T D"], uniforms: Float[Array, " B"]
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    head = model.head_weights().astype(hidden.dtype)
    logits = jnp.einsum("bd,vd->bv", hidden[:, -1], head, preferred_element_type=jnp.float32)
    return choose(logits, uniforms, plan.sampling)


def _length_with_stop(ids: np.ndarray, stop_ids: np.ndarray) -> int:
    stops = np.flatnonzero(np.isin(ids, stop_ids))
    return int(stops[0]) + 1 if len(stops) else len(ids)


def _left_padded(prompts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    width = _round_up(max(len(prompt) for prompt in prompts), _PROMPT_BUCKET)
    tokens = np.zeros((len(prompts), width), np.int32)
    mask = np.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    return tokens, mask


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _token_lists(
    prompts: Sequence[Sequence[int]] | np.ndarray | Array, attention_mask: np.ndarray | Array | None
) -> list[list[int]]:
    if attention_mask is None:
        return [np.asarray(prompt, np.int32).reshape(-1).tolist() for prompt in prompts]
    tokens, mask = np.asarray(prompts), np.asarray(attention_mask).astype(bool)
    if tokens.ndim != 2 or tokens.shape != mask.shape:
        raise ValueError(
            f"`attention_mask` of shape {mask.shape} must have the shape of `prompts`, [rows, slots], "
            f"which is {tokens.shape}"
        )
    return [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]


def _sampling(options: GenerationOptions) -> Sampling | None:
    if not options.do_sample:
        return None
    return Sampling(temperature=options.temperature, top_k=options.top_k, top_p=options.top_p)


def _stop_ids(config: DecoderConfig, eos_token_ids: tuple[int, ...] | None) -> np.ndarray:
    ids = config.eos_token_ids if eos_token_ids is None else eos_token_ids
    for token in ids:
        if not 0 <= token < config.vocab_size:
            raise ValueError(f"`eos_token_id` {token} is outside the vocabulary of {config.vocab_size}")
    filled = np.full(max(_round_up(len(ids), _STOP_BUCKET), _STOP_BUCKET), -1, np.int32)
    filled[: len(ids)] = ids
    return filled


def _check_prompts(rows: list[np.ndarray], config: DecoderConfig, max_new_tokens: int) -> None:
    for number, row in enumerate(rows):
        if len(row) == 0:
            raise ValueError(f"prompt {number} is empty; give it at least one token, the BOS token for instance")
        if len(row) + max_new_tokens > config.max_positions:
            raise ValueError(
                f"prompt {number} has {len(row)} tokens; with max_new_tokens={max_new_tokens} that is more than the "
                f"{config.max_positions} positions of the model: shorten the prompt or lower max_new_tokens"
            )
        if row.min() < 0 or row.max() >= config.vocab_size:
            bad = int(row[(row < 0) | (row >= config.vocab_size)][0])
            raise ValueError(f"prompt {number} holds the token {bad}, outside the vocabulary of {config.vocab_size}")
