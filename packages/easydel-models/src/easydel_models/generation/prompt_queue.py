"""Completions waiting for a row: equal prompts side by side, each prompt read once.

The order in which they get their turn has no influence on what they become.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from easydel_models.generation.options import FinishReason
from easydel_models.generation.prefill import Prefilled, Prefiller


@dataclasses.dataclass(kw_only=True, slots=True)
class Completion:
    """One completion as it grows."""

    index: int
    """Its number among all; chooses its random numbers."""
    prompt: np.ndarray
    tokens: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    finish_reason: FinishReason | None = None
    """None = still growing, or waiting to."""


class PromptQueue:
    """First in, first out, except that completions of equal prompts come one after the other. Final."""

    def __init__(self, completions: Sequence[Completion], prefiller: Prefiller):
        """Lines them up."""
        by_prompt: dict[bytes, list[Completion]] = {}
        for completion in completions:
            by_prompt.setdefault(completion.prompt.tobytes(), []).append(completion)
        self._waiting = collections.deque(one for group in by_prompt.values() for one in group)
        self._still_needed = {prompt: len(group) for prompt, group in by_prompt.items()}
        self._prefilled: dict[bytes, Prefilled] = {}
        self._prefiller = prefiller

    def __len__(self) -> int:
        """Returns completions that wait."""
        return len(self._waiting)

    def take(self, count: int) -> list[tuple[Completion, Prefilled | None]]:
        """Removes the next completions, each with its prompt's keys and values (None for a prompt of one token)."""
        started = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        self._prefill_missing(started)
        pairs = [(one, self._prefilled.get(one.prompt.tobytes())) for one in started]
        for one in started:
            prompt = one.prompt.tobytes()
            self._still_needed[prompt] -= 1
            if not self._still_needed[prompt]:
                self._prefilled.pop(prompt, None)
        return pairs

    def _prefill_missing(self, started: list[Completion]) -> None:
        prompts = {one.prompt.tobytes(): one.prompt for one in started if len(one.prompt) > 1}
        missing = [prompt for prompt in prompts if prompt not in self._prefilled]
        results = self._prefiller([prompts[prompt] for prompt in missing])
        self._prefilled |= dict(zip(missing, results, strict=True))
