"""A rollout: the completions of one step, as the arrays that are trained on, with what is to be told of them.

It is plain data on the host, so that a checkpoint can hold it: a run that was stopped between two iterations, or while
the next rollout was ready, goes on with the same completions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from easydel_transforms import IGNORE_INDEX

from easydel_trainers.data.layout import Arrays
from easydel_trainers.data.step_rows import StepRow
from easydel_trainers.records.sampled import Sampled
from easydel_trainers.step.metrics import Maximum, Metrics, Minimum, Ratios, metrics_from_json, metrics_to_json

_ROWS = "rows"


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One sampled answer.

    Attributes:
        prompt_ids: what was continued.
        token_ids: the new tokens, a stop token included. At least one.
        logps: log-probability of each, as the engine said that sampled it.
        ended: whether it stopped by itself and not for its length.
    """

    prompt_ids: Sequence[int]
    token_ids: Sequence[int]
    logps: Sequence[float]
    ended: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """Completions of one step.

    Attributes:
        number: among the run's batches, from 1.
        epoch: that the last prompt belongs to.
        position: of the prompts, before them.
        sampled_at: optimizer steps that the parameters had seen which sampled it.
        arrays: `[micro-batches, bins, length]` of tokens, and those of completions under `rows`.
        measured: metrics, told once.
        shown: some of the completions.
    """

    number: int
    epoch: int
    position: dict[str, Any] | None
    sampled_at: int
    arrays: Arrays
    measured: Metrics
    shown: Sequence[Sampled] = ()

    def with_arrays(self, **more: Any) -> Self:
        """Returns the same with further arrays of positions."""
        return dataclasses.replace(self, arrays={**self.arrays, **more})

    def meta(self) -> dict[str, Any]:
        """Returns all but the arrays, as plain JSON values."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "arrays"}
        return plain | {
            "measured": metrics_to_json(self.measured),
            "shown": [dataclasses.asdict(shown) for shown in self.shown],
        }

    def flat_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Returns the arrays on the host, each under a name of its own."""
        tokens = {f"{prefix}.{name}": array for name, array in self.arrays.items() if name != _ROWS}
        rows = {f"{prefix}.{_ROWS}.{name}": array for name, array in self.arrays[_ROWS].items()}
        return {name: np.asarray(array) for name, array in {**tokens, **rows}.items()}

    @classmethod
    def restored(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], prefix: str) -> Self:
        """Returns the rollout that gave `meta()` and `flat_arrays(prefix)`."""
        mine = {
            name.removeprefix(f"{prefix}."): array for name, array in arrays.items() if name.startswith(f"{prefix}.")
        }
        rows = {name.removeprefix(f"{_ROWS}."): array for name, array in mine.items() if name.startswith(f"{_ROWS}.")}
        tokens = {name: array for name, array in mine.items() if not name.startswith(f"{_ROWS}.")}
        plain = dict(meta) | {
            "measured": metrics_from_json(meta["measured"]),
            "shown": [Sampled(**shown) for shown in meta["shown"]],
        }
        return cls(**plain, arrays={**tokens, _ROWS: rows})


def completion_step_rows(
    completions: Sequence[Completion], advantages: Sequence[float], *, mask_truncated: bool
) -> list[StepRow]:
    """Returns completions as single sequences with what a step needs of them.

    Args:
        completions: in order.
        advantages: of each.
        mask_truncated: whether completions that did not end take no part.
    """
    step_rows = []
    for completion, advantage in zip(completions, advantages, strict=True):
        prompt, answer = len(completion.prompt_ids), list(completion.token_ids)
        counts = completion.ended or not mask_truncated
        sequence = {
            "input_ids": np.asarray([*completion.prompt_ids, *answer], np.int32),
            "labels": np.asarray(
                [IGNORE_INDEX] * prompt + (answer if counts else [IGNORE_INDEX] * len(answer)), np.int32
            ),
            "engine_logps": np.asarray([0.0] * prompt + list(completion.logps), np.float32),
        }
        step_rows.append(StepRow(sequences=(sequence,), values={"advantages": float(advantage)}, prompt=prompt - 1))
    return step_rows


def completion_metrics(completions: Sequence[Completion]) -> Ratios:
    """Returns lengths and how many were truncated, under TRL's names."""
    lengths = [len(completion.token_ids) for completion in completions]
    ended = [len(completion.token_ids) for completion in completions if completion.ended]
    return {
        **_lengths("length", lengths),
        **_lengths("terminated_length", ended),
        "completions/clipped_ratio": (float(len(lengths) - len(ended)), float(len(lengths))),
    }


def _lengths(name: str, lengths: Sequence[int]) -> Ratios:
    there_are = float(bool(lengths))
    return {
        f"completions/mean_{name}": (float(sum(lengths)), float(len(lengths))),
        f"completions/min_{name}": Minimum(float(min(lengths, default=0)), there_are),
        f"completions/max_{name}": Maximum(float(max(lengths, default=0)), there_are),
    }
