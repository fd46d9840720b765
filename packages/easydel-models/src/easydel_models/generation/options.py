"""What is asked of a generation engine, and what it answers: the same for ours and for a server's."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from easydel_models.errors import OptionsError

FinishReason = Literal["stop", "length"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GenerationOptions:
    """How each prompt is continued; refused when built if a value is out of range."""

    max_new_tokens: int
    """Most tokens to add to a prompt, at least 1."""
    num_return_sequences: int = 1
    """Completions of each prompt."""
    do_sample: bool = False
    """Draw tokens instead of taking the likeliest."""
    temperature: float = 1.0
    """Above 0; divides the logits. Only with `do_sample`, as `top_k`, `top_p` and `min_p`."""
    top_k: int = 0
    """Draw from the k likeliest tokens; 0 = all."""
    top_p: float = 1.0
    """Draw from the fewest likeliest tokens that together have at least this share; 1 = all."""
    min_p: float = 0.0
    """Draw from the tokens at least this many times as likely as the likeliest; 0 = all."""
    repetition_penalty: float = 1.0
    """Above 0; divides the positive logits of tokens that the prompt or the completion has, multiplies the negative."""
    min_new_tokens: int = 0
    """No stop token before so many tokens; stop strings are not held back."""
    seed: int = 0
    """Of the draws."""
    stop_strings: tuple[str, ...] = ()
    """A completion ends with the token that completes one of them; in process this needs a ``decode``."""
    eos_token_ids: tuple[int, ...] | None = None
    """Tokens that end a completion; None = those the model names."""

    def __post_init__(self) -> None:
        """Refuses values that have no meaning.

        Raises:
            OptionsError: Naming the field, its value and the range.
        """
        for name in ("max_new_tokens", "num_return_sequences"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), ">= 1")
        if not 0 < self.temperature < math.inf:
            raise OptionsError(f"`temperature` must be > 0, got {self.temperature}; for greedy, set do_sample=False")
        _require(self.top_k >= 0, "top_k", self.top_k, ">= 0 (0 = off)")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1] (1 = off)")
        _require(0 <= self.min_p <= 1, "min_p", self.min_p, "in [0, 1] (0 = off)")
        _require(self.repetition_penalty > 0, "repetition_penalty", self.repetition_penalty, "> 0 (1 = off)")
        least, most = self.min_new_tokens, self.max_new_tokens
        _require(0 <= least <= most, "min_new_tokens", least, f"in [0, max_new_tokens={most}]")
        _require(all(self.stop_strings), "stop_strings", self.stop_strings, "texts of at least one character")
        idle = {name: getattr(self, name) for name, off in _OF_SAMPLING.items() if getattr(self, name) != off}
        if idle and not self.do_sample:
            given = ", ".join(f"{name}={value}" for name, value in idle.items())
            raise OptionsError(f"{given}: no effect without sampling; set do_sample=True or leave this out")


_OF_SAMPLING = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GenerateResult:
    """What was generated, without the prompts: one entry for each completion, those of one prompt side by side."""

    token_ids: list[list[int]]
    """The new tokens; the stop token is the last one, unless `max_new_tokens` came first."""
    logprobs: list[list[float]]
    """Natural log-probability of each of them under the model's distribution at the sampling temperature (greedy: at
    1), before anything that narrows or changes that distribution (top-k, top-p, min-p, a
    repetition penalty, a minimum length)."""
    finish_reasons: list[FinishReason]
    """``stop`` for a completion that ended by itself, ``length`` for one cut at `max_new_tokens`."""


def eos_tuple(eos_token_id: int | Sequence[int] | None) -> tuple[int, ...] | None:
    """Returns the two spellings users know, as `GenerationOptions` keeps them."""
    if eos_token_id is None:
        return None
    return tuple(np.atleast_1d(np.asarray(eos_token_id, int)).tolist())


def _require(condition: bool, field: str, value: object, expected: str) -> None:
    if not condition:
        raise OptionsError(f"`{field}` must be {expected}, got {value}")
