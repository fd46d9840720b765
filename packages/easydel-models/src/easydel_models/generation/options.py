"""What is asked of a generation engine, and what it answers: the same for ours and for a server's."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

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
    """Above 0; divides the logits. Only with `do_sample`, as `top_k` and `top_p`."""
    top_k: int = 0
    """Draw from the k likeliest tokens; 0 = all."""
    top_p: float = 1.0
    """Draw from the fewest likeliest tokens that together have at least this share; 1 = all."""
    seed: int = 0
    """Of the draws."""
    eos_token_ids: tuple[int, ...] | None = None
    """Tokens that end a completion; None = those the model names."""

    def __post_init__(self) -> None:
        """Refuses values that have no meaning.

        Raises:
            ValueError: Naming the field, its value and the range.
        """
        for name in ("max_new_tokens", "num_return_sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}")
        if not self.temperature > 0:
            raise ValueError(f"`temperature` must be > 0, got {self.temperature}; for greedy, set do_sample=False")
        if self.top_k < 0:
            raise ValueError(f"`top_k` must be >= 0 (0 = off), got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"`top_p` must be in (0, 1] (1 = off), got {self.top_p}")
        if not self.do_sample and (self.temperature, self.top_k, self.top_p) != (1.0, 0, 1.0):
            raise ValueError(
                f"temperature={self.temperature}, top_k={self.top_k}, top_p={self.top_p} have no effect without "
                "sampling; set do_sample=True or leave them out"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GenerateResult:
    """What was generated, without the prompts: one entry for each completion, those of one prompt side by side."""

    token_ids: list[list[int]]
    """The new tokens; the stop token is the last one, unless `max_new_tokens` came first."""
    logprobs: list[list[float]]
    """Natural log-probability of each of them under the model's distribution at the sampling temperature (greedy: at
    1), before anything that narrows or bends that distribution (top-k, top-p)."""
    finish_reasons: list[FinishReason]
    """``stop`` for a completion that ended by itself, ``length`` for one cut at `max_new_tokens`."""


def eos_tuple(eos_token_id: int | Sequence[int] | None) -> tuple[int, ...] | None:
    """The two spellings users know, as `GenerationOptions` keeps them."""
    if eos_token_id is None:
        return None
    return (int(eos_token_id),) if isinstance(eos_token_id, int) else tuple(int(token) for token in eos_token_id)
