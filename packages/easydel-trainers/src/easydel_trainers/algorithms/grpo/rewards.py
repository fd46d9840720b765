"""Calling reward functions, and holding what they return to its word.

A reward function gets `prompts`, `completions` and `completion_ids`, every other column of the data, each a list with
one entry for each completion, and, if it asks for them, `trainer_state`, `log_metric` and `log_extra`. One that names
its arguments gets only those that it names. It returns one number, or `None`, for each completion.

Functions run one after the other, coroutine functions all at once, each under a time limit: one that hangs ends the run
with an error instead of holding it for ever.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, final

import numpy as np
from jaxtyping import Float

from easydel_trainers.algorithms.grpo.errors import RewardError

RewardFunction = Callable[..., Any]

_OWN = ("prompts", "completions", "completion_ids")
_EXCERPT = 120  # characters of a completion in messages


@dataclass(frozen=True, slots=True)
class TrainerState:
    """What a reward function may know of the run.

    Attributes:
        global_step: optimizer steps taken before this rollout was begun.
        max_steps: of the whole run; `None` = unknown.
    """

    global_step: int
    max_steps: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """Completions of a rollout as reward functions see them: lists with one entry for each completion.

    Attributes:
        prompts: strings or message lists, as the rows had them.
        completions: in the same form.
        completion_ids: their tokens.
        columns: what else the rows had.
        state: of the run.
    """

    prompts: Sequence[Any]
    completions: Sequence[Any]
    completion_ids: Sequence[Sequence[int]]
    columns: Mapping[str, Sequence[Any]]
    state: TrainerState

    def only(self, number: int) -> Answered:
        """One completion alone."""
        return Answered(
            prompts=[self.prompts[number]],
            completions=[self.completions[number]],
            completion_ids=[self.completion_ids[number]],
            columns={name: [values[number]] for name, values in self.columns.items()},
            state=self.state,
        )


@dataclass(slots=True)
class Told:
    """What reward functions said beside rewards, through `log_metric` and `log_extra`.

    Attributes:
        metrics: sum and count by name.
        extras: columns for the table of completions.
    """

    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    extras: dict[str, list[Any]] = field(default_factory=dict)

    def log_metric(self, name: str, value: float) -> None:
        """Add a number to the mean of this name."""
        total, count = self.metrics.get(name, (0.0, 0.0))
        self.metrics[name] = (total + float(value), count + 1.0)

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        """Add a column to the table of completions: one entry for each."""
        self.extras[column] = list(values)


@final
class RewardFunctions:
    """Several reward functions.

    Args:
        functions: each with a name of its own, else it gets a number.
        timeout: seconds that one may take; `None` = for ever.
    """

    def __init__(self, functions: Sequence[RewardFunction], *, timeout: float | None):
        self._functions, self._timeout = tuple(functions), timeout
        self.names = _distinct([_name(function) for function in functions])

    def score(self, answered: Answered, told: Told) -> Float[np.ndarray, "R F"]:
        """Rewards of every completion by every function; NaN where it returned `None`.

        Raises:
            RewardError: naming the function, and the completion if there is one to name.
        """
        rewards = np.empty((len(answered.prompts), len(self._functions)), np.float32)
        waiting = [number for number, function in enumerate(self._functions) if _is_async(function)]
        for number, function in enumerate(self._functions):
            if number not in waiting:
                rewards[:, number] = self._checked(number, self._call(number, function, answered, told), answered)
        for number, returned in zip(waiting, self._gathered(waiting, answered, told), strict=True):
            rewards[:, number] = self._checked(number, returned, answered)
        return rewards

    def _call(self, number: int, function: RewardFunction, answered: Answered, told: Told) -> Any:
        name = self.names[number]
        try:
            return _in_time(lambda: function(**_arguments(function, answered, told)), self._timeout)
        except _GaveUp:
            raise self._too_slow(name) from None
        except Exception as error:  # of a user's code: it is named, with the completion it fails for
            raise self._failed(number, function, answered, error) from error

    def _gathered(self, numbers: Sequence[int], answered: Answered, told: Told) -> list[Any]:
        """What coroutine functions return, all run at once."""
        if not numbers:
            return []

        async def one(number: int) -> Any:
            function = self._functions[number]
            return await asyncio.wait_for(_awaited(function, answered, told), self._timeout)

        async def together() -> list[Any]:
            return await asyncio.gather(*(one(number) for number in numbers), return_exceptions=True)

        # A thread of its own, since a notebook's already runs a loop; and a coroutine that blocks must not hang us.
        try:
            returned = _in_time(lambda: asyncio.run(together()), None if self._timeout is None else self._timeout + 1)
        except _GaveUp:
            raise self._too_slow(", ".join(self.names[number] for number in numbers)) from None
        for number, value in zip(numbers, returned, strict=True):
            if isinstance(value, TimeoutError):
                raise self._too_slow(self.names[number])
            if isinstance(value, BaseException):
                raise self._failed(number, self._functions[number], answered, value) from value
        return returned

    def _checked(self, number: int, returned: Any, answered: Answered) -> list[float]:
        name, wanted = self.names[number], len(answered.prompts)
        if isinstance(returned, str) or not hasattr(returned, "__len__"):
            raise RewardError(
                f"The reward function `{name}` returned {_shown(returned)}. Expected is a list of {wanted} numbers, "
                "one for each completion; None in it means that it has nothing to say of that one."
            )
        if len(returned) != wanted:
            raise RewardError(
                f"The reward function `{name}` returned {len(returned)} rewards for {wanted} completions. Expected is "
                "exactly one for each, in their order; return None for those that it has nothing to say of."
            )
        return [self._number(name, row, value, answered) for row, value in enumerate(returned)]

    def _number(self, name: str, row: int, value: Any, answered: Answered) -> float:
        if value is None:
            return math.nan
        if getattr(value, "ndim", None) == 0:
            value = value.item()
        if isinstance(value, Real) and not math.isinf(value):
            return float(value)
        raise RewardError(
            f"The reward function `{name}` returned {_shown(value)} for completion {row} "
            f"({_excerpt(answered.completions[row])}). Expected is a finite number, or None.",
            row=row,
        )

    def _failed(self, number: int, function: RewardFunction, answered: Answered, error: BaseException) -> RewardError:
        """The error of one function, with the first completion that it fails for alone."""
        said = f"The reward function `{self.names[number]}` raised {type(error).__name__}: {error}."
        row = self._first_failing(function, answered)
        if row is None:
            return RewardError(
                f"{said} No completion was found that it fails for alone, so look at what it does with a list of "
                f"{len(answered.prompts)}."
            )
        return RewardError(
            f"{said} It does so for completion {row} alone: {_excerpt(answered.completions[row])} to the prompt "
            f"{_excerpt(answered.prompts[row])}. Return None for completions that it cannot judge.",
            row=row,
        )

    def _first_failing(self, function: RewardFunction, answered: Answered) -> int | None:
        """The first completion that the function fails for when it is called with no other."""

        def alone(row: int) -> Any:
            arguments = _arguments(function, answered.only(row), Told())
            return asyncio.run(function(**arguments)) if _is_async(function) else function(**arguments)

        def search() -> int | None:
            for row in range(len(answered.prompts)):
                try:
                    alone(row)
                except Exception:  # noqa: BLE001 - whatever the user's code raises: the question is whether it does
                    return row
            return None

        try:
            return _in_time(search, self._timeout)
        except _GaveUp:
            return None

    def _too_slow(self, name: str) -> RewardError:
        return RewardError(
            f"The reward function `{name}` took longer than reward_timeout={self._timeout:g} seconds. Make it faster, "
            "let it give up by itself and return None, or raise `reward_timeout`."
        )


def _arguments(function: RewardFunction, answered: Answered, told: Told) -> dict[str, Any]:
    """What the function takes of all there is; everything, if it takes any keyword."""
    offered = {
        **answered.columns,
        "trainer_state": answered.state,
        "log_metric": told.log_metric,
        "log_extra": told.log_extra,
        "prompts": list(answered.prompts),
        "completions": list(answered.completions),
        "completion_ids": [list(ids) for ids in answered.completion_ids],
    }
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return offered
    return {name: value for name, value in offered.items() if name in parameters}


async def _awaited(function: Callable[..., Awaitable[Any]], answered: Answered, told: Told) -> Any:
    return await function(**_arguments(function, answered, told))


class _GaveUp(TimeoutError):
    """We stopped waiting; not an error of the function's own."""


def _in_time(call: Callable[[], Any], seconds: float | None) -> Any:
    """What `call` returns or raises, unless it takes too long; then its thread is left behind."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - not swallowed: raised to the caller below
            failure.append(error)

    thread = threading.Thread(target=run, name="reward function", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise _GaveUp
    if failure:
        raise failure[0]
    return outcome[0]


def _is_async(function: RewardFunction) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _name(function: RewardFunction) -> str:
    inner = getattr(function, "func", function)  # of a functools.partial
    return getattr(inner, "__name__", type(inner).__name__)


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names of their own: a second `score` is `score_2`."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return tuple(distinct)


def _shown(value: Any) -> str:
    return f"{value!r:.60} ({type(value).__name__})"


def _excerpt(text: Any) -> str:
    shown = repr(text)
    return shown if len(shown) <= _EXCERPT else shown[:_EXCERPT] + "…"
