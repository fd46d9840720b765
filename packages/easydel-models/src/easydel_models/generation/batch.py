"""The rows that are decoded together: filled from the queue, emptied and filled again between blocks.

This is the host's half. It keeps one `Completion` and a few numbers for each row, makes the cache larger when a row
needs more slots, and drops rows when most of them have nothing left to do.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from easydel_models.generation.block import BlockPlan, BlockResult, Request, Rows, decode_block
from easydel_models.generation.options import GenerationOptions
from easydel_models.generation.prefill import Prefilled, prefilled_width
from easydel_models.generation.prompt_queue import Completion, PromptQueue
from easydel_models.generation.shapes import at_least, cache_step
from easydel_models.generation.slot_cache import Store, admit, empty_store, forget, grow, pick_rows, settle, slot_bytes
from easydel_models.generation.stops import Decode, length_at_stop_string
from easydel_models.generation.weights import DecodeWeights
from easydel_models.random_keys import key_of_seed

OnTokens = Callable[[int, list[int]], None]
"""Called with a completion's number and its newest tokens."""

_SHRINK = 4
"""Rows are dropped when so many times fewer would do: each number of rows is a program of its own."""
_REFILL_SHARE = 8
"""While others wait, a block ends as soon as one row in so many is done."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What stays the same from the first block to the last."""

    plan: BlockPlan
    weights: DecodeWeights
    options: GenerationOptions
    stop_ids: np.ndarray
    decode: Decode | None
    on_tokens: OnTokens | None


class Batch:
    """Rows and their cache. Final."""

    def __init__(self, work: Work, rows: int):
        """Begins with ``rows`` empty rows."""
        self._work = work
        self._key = key_of_seed(work.options.seed)
        self._completions: list[Completion | None] = [None] * rows
        self._lengths, self._last = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
        plan = work.plan
        self._store = self._empty(capacity=1)  # of the size that is needed once it is known
        self._present: Array | None = None
        if plan.repetition_penalty != 1:
            self._present = jnp.zeros((rows, plan.config.vocab_size), bool)

    @property
    def busy(self) -> list[int]:
        """Rows that have a completion to go on with."""
        return [row for row, completion in enumerate(self._completions) if completion is not None]

    def fill(self, queue: PromptQueue) -> None:
        """Gives empty rows to whoever waits."""
        first, empty = not self.busy, [row for row, one in enumerate(self._completions) if one is None]
        admitted = [_Admitted(row, *pair) for row, pair in zip(empty, queue.take(len(empty)), strict=False)]
        self._lengths, self._last = self._lengths.copy(), self._last.copy()
        for row, completion, _ in admitted:
            self._completions[row] = completion
            self._lengths[row], self._last[row] = len(completion.prompt) - 1, completion.prompt[-1]
        if not admitted:
            return
        # For the block that follows too: growing a second time would copy what was just written.
        block = int(self._lengths[self.busy].max()) + self._work.plan.block_size
        self._make_room(max(block, *(prefilled_width(one.completion.prompt) for one in admitted)), anew=first)
        self._copy_prefilled(admitted)
        if self._present is not None:
            rows, vocab = jnp.array([one.row for one in admitted]), self._present.shape[1]
            present = jnp.array([_present_in(one.completion.prompt, vocab) for one in admitted])
            self._present = self._present.at[rows].set(present)

    def shrink(self) -> None:
        """Drops empty rows if few have something left to do."""
        rows, busy = len(self._completions), self.busy
        while busy and rows // _SHRINK >= len(busy):
            rows //= _SHRINK
        if rows == len(self._completions):
            return
        empty = (row for row, completion in enumerate(self._completions) if completion is None)
        kept = np.asarray([*busy, *itertools.islice(empty, rows - len(busy))], np.int32)
        self._completions = [self._completions[row] for row in kept]
        self._lengths, self._last = self._lengths[kept], self._last[kept]
        self._store = pick_rows(self._store, jnp.array(kept))
        if self._present is not None:
            self._present = self._present[kept]

    def advance(self, *, more_wait: bool) -> list[Completion]:
        """Runs one block and returns the completions it finished, whose rows are empty now."""
        plan, options, busy = self._work.plan, self._work.options, self.busy
        self._make_room(int(self._lengths[busy].max()) + plan.block_size)
        left = max(options.max_new_tokens - len(one.tokens) for one in self._completions if one is not None)
        done = len(self._completions) - len(busy)
        enough = done + max(len(self._completions) // _REFILL_SHARE, 1) if more_wait else len(self._completions)
        request = Request(
            key=self._key,
            stop_ids=jnp.array(self._work.stop_ids),
            min_new_tokens=jnp.int32(options.min_new_tokens),
            max_new_tokens=jnp.int32(options.max_new_tokens),
            steps=jnp.int32(min(left, plan.block_size)),
            enough_done=jnp.int32(min(enough, len(self._completions))),
        )
        result = decode_block(plan, self._work.weights, self._store, self._rows(), request)
        self._store = settle(self._store, result.recent, jnp.array(self._lengths), result.steps)
        self._present = result.present
        return self._collect(busy, result)

    def _collect(self, busy: list[int], result: BlockResult) -> list[Completion]:
        tokens, logps, new, steps = jax.device_get((result.tokens, result.logps, result.new, result.steps))
        # A new array each time: what was handed to the device may still be read there.
        self._lengths = self._lengths.copy()
        self._lengths[busy] += steps
        self._last = tokens[:, steps - 1].copy()
        finished = []
        for row in busy:
            completion = self._completions[row]
            assert completion is not None
            self._extend(completion, tokens[row, : new[row]].tolist(), logps[row, : new[row]].tolist())
            if completion.finish_reason is not None:
                finished.append(completion)
                self._completions[row] = None
        return finished

    def _extend(self, completion: Completion, tokens: list[int], logps: list[float]) -> None:
        options, before = self._work.options, len(completion.tokens)
        completion.tokens += tokens
        completion.logprobs += logps
        length = length_at_stop_string(completion.tokens, before, options.stop_strings, self._work.decode)
        if length is not None:
            del completion.tokens[length:], completion.logprobs[length:]
        if length is not None or completion.tokens[-1] in self._work.stop_ids:
            completion.finish_reason = "stop"
        elif len(completion.tokens) >= options.max_new_tokens:
            completion.finish_reason = "length"
        if self._work.on_tokens is not None:
            self._work.on_tokens(completion.index, completion.tokens[before:])

    def _rows(self) -> Rows:
        counts = [0 if one is None else len(one.tokens) for one in self._completions]
        indices = [0 if one is None else one.index for one in self._completions]
        return Rows(
            last=jnp.array(self._last),
            lengths=jnp.array(self._lengths),
            counts=jnp.array(counts, jnp.int32),
            indices=jnp.array(indices, jnp.int32),
            done=jnp.array([one is None for one in self._completions]),
            present=self._present,
        )

    def _copy_prefilled(self, admitted: "list[_Admitted]") -> None:
        unread = [row for row, _, prefilled in admitted if prefilled is None]
        if unread and any(layer.by_row for layer in self._store.layers):
            rows = np.zeros(len(self._completions), np.int32)
            rows[: len(unread)] = unread
            self._store = forget(self._store, jnp.array(rows), jnp.int32(len(unread)))
        read_together: dict[int, list[tuple[Prefilled, int]]] = {}
        for row, _, prefilled in admitted:
            if prefilled is not None:
                read_together.setdefault(id(prefilled.memories), []).append((prefilled, row))
        for group in read_together.values():
            prompts, rows = np.zeros((2, len(self._completions)), np.int32)
            prompts[: len(group)] = [prefilled.number for prefilled, _ in group]
            rows[: len(group)] = [row for _, row in group]
            memories, count = group[0][0].memories, jnp.int32(len(group))
            self._store = admit(self._store, memories, jnp.array(prompts), jnp.array(rows), count)

    def _make_room(self, slots: int, *, anew: bool = False) -> None:
        if slots <= self._store.capacity:
            return
        capacity = at_least(slots, self._step(len(self._completions)))
        self._store = self._empty(capacity) if anew else grow(self._store, capacity)

    def _step(self, rows: int) -> int:
        weights = sum(array.nbytes for array in jax.tree.leaves(self._work.weights.layers))
        return cache_step(rows, slot_bytes(self._work.plan.config, self._dtype), weights)

    def _empty(self, capacity: int) -> Store:
        return empty_store(self._work.plan.config, rows=len(self._completions), capacity=capacity, dtype=self._dtype)

    @property
    def _dtype(self) -> np.dtype:
        return self._work.weights.head.dtype


class _Admitted(NamedTuple):
    row: int
    completion: Completion
    prefilled: Prefilled | None


def _present_in(prompt: np.ndarray, vocab: int) -> np.ndarray:
    present = np.zeros(vocab, bool)
    present[prompt] = True
    return present
