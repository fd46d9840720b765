"""Calling reward functions, and holding what they return to its word.

A reward function gets `prompts`, `completions` and `completion_ids`, every other column of the data, each a list with
one entry for each completion, and, if it asks for them, `trainer_state`, `log_metric` and `log_extra`. One that names
its arguments gets only those that it names. It returns one number, or `None`, for each completion.

Functions run one after the other, coroutine functions all at once, each under a time limit: one that hangs ends the run
with an error instead of holding it for ever. Where there is none, functions run in the caller's own thread.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any, final

import numpy as np
from jaxtyping import Float

from easydel_trainers.algorithms.grpo.reward_threads import CallThread, CoroutineLoop, GaveUpError
from easydel_trainers.errors import ConfigError, RewardError

RewardFunction = Callable[..., Any]

#: names, or first parts of names, of what the trainer itself logs
RESERVED = frozenset(
    {
        *("step", "epoch", "loss", "grad_norm", "learning_rate", "num_tokens", "compilations", "updates_rounded_away"),
        *("tokens_per_second", "padded_tokens_per_second", "model_flops_per_second", "mfu", "data_wait_share"),
        *("reward", "reward_std", "frac_reward_zero_std", "rewards", "completions", "sampling", "rollout", "update"),
        *("time_share", "steps_off_policy", "entropy", "kl", "clip_ratio", "cispo_clip_ratio"),
    }
)

_OWN = ("prompts", "completions", "completion_ids")
_SERVICES = ("trainer_state", "log_metric", "log_extra")
_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_IN_A_THREAD = (
    "(It was called in the thread 'reward functions', which a time limit or sampling ahead needs. What works in the "
    "main thread alone, such as signals, works with reward_timeout=None and steps_off_policy=0.)"
)
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
class RewardInputs:
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

    def only(self, number: int) -> RewardInputs:
        """Returns one completion alone."""
        return RewardInputs(
            prompts=[self.prompts[number]],
            completions=[self.completions[number]],
            completion_ids=[self.completion_ids[number]],
            columns={name: [values[number]] for name, values in self.columns.items()},
            state=self.state,
        )


@dataclass(slots=True)
class RewardLog:
    """What reward functions said beside rewards, through `log_metric` and `log_extra`.

    Attributes:
        metrics: sum and count by name.
        extras: columns for the table of completions.
    """

    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    extras: dict[str, list[Any]] = field(default_factory=dict)

    def log_metric(self, name: str, value: float) -> None:
        """Adds a number to the mean of this name.

        Raises:
            RewardError: if the name is one that the trainer logs itself, or the value no finite number.
        """
        if not isinstance(name, str) or name in RESERVED or name.partition("/")[0] in RESERVED:
            raise RewardError(
                f"log_metric({name!r}, …): the trainer logs something of this name itself. Give yours another, such as "
                f"{'my/' + str(name)!r}."
            )
        if not isinstance(value, Real) and getattr(value, "ndim", None) != 0:
            raise RewardError(f"log_metric({name!r}, …) was given {_shown(value)}; expected a number.")
        total, count = self.metrics.get(name, (0.0, 0.0))
        self.metrics[name] = (total + float(value), count + 1.0)

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        """Adds a column to the table of completions: one entry for each."""
        self.extras[column] = list(values)


@final
class RewardFunctions:
    """Several reward functions.

    Args:
        functions: each with a name of its own, else it gets a number.
        timeout: seconds that one may take; `None` = for ever.
        threaded: whether functions are called in a thread of their own even without a time limit: where the caller is
            not always the same thread.
    """

    def __init__(self, functions: Sequence[RewardFunction], *, timeout: float | None, threaded: bool = False):
        self._functions, self._timeout = tuple(functions), timeout
        self._thread = CallThread(timeout) if threaded or timeout is not None else None
        self._loop = CoroutineLoop(timeout)
        self.names = _distinct([_name(function) for function in functions])

    def require_columns(self, columns: Collection[str]) -> None:
        """Refuses a function that asks for what it will never be given.

        Raises:
            ConfigError: naming the function, the argument, and what there is.
        """
        offered = {*_OWN, *_SERVICES, *columns}
        for name, function in zip(self.names, self._functions, strict=True):
            for parameter in _parameters(function):
                needed = parameter.kind not in _COLLECTING and parameter.default is parameter.empty
                if needed and parameter.name not in offered:
                    raise ConfigError(
                        "reward_funcs",
                        name,
                        f"a function of what there is: it takes `{parameter.name}`, and the first rows have no such "
                        f"column. There are {', '.join(sorted(offered))}. Give the argument one of these names, or a "
                        "default, if only later rows have it",
                    )

    def score(self, inputs: RewardInputs, log: RewardLog) -> Float[np.ndarray, "R F"]:
        """Returns rewards of every completion by every function; NaN where it returned `None`.

        Raises:
            RewardError: naming the function, and the completion if there is one to name.
        """
        rewards = np.empty((len(inputs.prompts), len(self._functions)), np.float32)
        waiting = [number for number, function in enumerate(self._functions) if _is_async(function)]
        for number, function in enumerate(self._functions):
            if number not in waiting:
                rewards[:, number] = self._checked(number, self._call(number, function, inputs, log), inputs)
        for number, returned in zip(waiting, self._gathered(waiting, inputs, log), strict=True):
            rewards[:, number] = self._checked(number, returned, inputs)
        return rewards

    def _call(self, number: int, function: RewardFunction, inputs: RewardInputs, log: RewardLog) -> Any:
        name = self.names[number]
        try:
            return self._run(lambda: function(**_arguments(function, inputs, log)))
        except GaveUpError:
            raise self._too_slow(name) from None
        except RewardError:
            raise  # ours, which names the function already
        except Exception as error:  # of a user's code: it is named, with the completion it fails for
            raise self._failed(number, function, inputs, error) from error

    def _gathered(self, numbers: Sequence[int], inputs: RewardInputs, log: RewardLog) -> list[Any]:
        """Returns what coroutine functions return, all run at once."""
        if not numbers:
            return []
        waiting = [partial(_awaited, self._functions[number], inputs, log) for number in numbers]
        try:
            returned = self._loop.gather(waiting)
        except GaveUpError:
            raise self._too_slow(", ".join(self.names[number] for number in numbers)) from None
        for number, value in zip(numbers, returned, strict=True):
            if isinstance(value, GaveUpError):
                raise self._too_slow(self.names[number])
            if isinstance(value, RewardError):
                raise value
            if isinstance(value, BaseException):
                raise self._failed(number, self._functions[number], inputs, value) from value
        return returned

    def _checked(self, number: int, returned: Any, inputs: RewardInputs) -> list[float]:
        name, wanted = self.names[number], len(inputs.prompts)
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
        return [self._number(name, row, value, inputs) for row, value in enumerate(returned)]

    def _number(self, name: str, row: int, value: Any, inputs: RewardInputs) -> float:
        if value is None:
            return math.nan
        if getattr(value, "ndim", None) == 0:
            value = value.item()
        if isinstance(value, Real) and not math.isinf(value):
            return float(value)
        raise RewardError(
            f"The reward function `{name}` returned {_shown(value)} for completion {row} "
            f"({_excerpt(inputs.completions[row])}). Expected is a finite number, or None.",
            row=row,
        )

    def _failed(self, number: int, function: RewardFunction, inputs: RewardInputs, error: BaseException) -> RewardError:
        """Returns the error of one function, with the first completion that it fails for alone."""
        said = f"The reward function `{self.names[number]}` raised {type(error).__name__}: {error}."
        if self._thread is not None and not _is_async(function):
            said += f" {_IN_A_THREAD}"
        row = self._first_failing(function, inputs)
        if row is None:
            return RewardError(
                f"{said} No completion was found that it fails for alone, so look at what it does with a list of "
                f"{len(inputs.prompts)}."
            )
        return RewardError(
            f"{said} It does so for completion {row} alone: {_excerpt(inputs.completions[row])} to the prompt "
            f"{_excerpt(inputs.prompts[row])}. Return None for completions that it cannot judge.",
            row=row,
        )

    def _first_failing(self, function: RewardFunction, inputs: RewardInputs) -> int | None:
        """Returns the first completion that the function fails for when it is called with no other."""

        def alone(row: int) -> Any:
            return function(**_arguments(function, inputs.only(row), RewardLog()))

        def search() -> int | None:
            for row in range(len(inputs.prompts)):
                try:
                    alone(row)
                except Exception:  # noqa: BLE001 - whatever the user's code raises: the question is whether it does
                    return row
            return None

        async def search_in_loop() -> int | None:
            for row in range(len(inputs.prompts)):
                try:
                    await alone(row)
                except Exception:  # noqa: BLE001 - as above
                    return row
            return None

        try:
            found = self._loop.gather([search_in_loop])[0] if _is_async(function) else self._run(search)
        except GaveUpError:
            return None
        return found if isinstance(found, int) else None

    def _run(self, call: Callable[[], Any]) -> Any:
        return call() if self._thread is None else self._thread(call)

    def _too_slow(self, name: str) -> RewardError:
        return RewardError(
            f"The reward function `{name}` took longer than reward_timeout={self._timeout:g} seconds. Make it faster, "
            "let it give up by itself and return None, or raise `reward_timeout`."
        )


def _arguments(function: RewardFunction, inputs: RewardInputs, log: RewardLog) -> dict[str, Any]:
    """Returns what the function takes of all there is; everything, if it takes any keyword."""
    offered = {
        **inputs.columns,
        "trainer_state": inputs.state,
        "log_metric": log.log_metric,
        "log_extra": log.log_extra,
        "prompts": list(inputs.prompts),
        "completions": list(inputs.completions),
        "completion_ids": [list(ids) for ids in inputs.completion_ids],
    }
    parameters = _parameters(function)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return offered
    named = {parameter.name for parameter in parameters}
    return {name: value for name, value in offered.items() if name in named}


def function_logs(function: Any) -> bool:
    """Returns whether a reward function may log metrics of its own, of whatever names."""
    if not callable(function) or isinstance(function, str):
        return False
    return any(p.name == "log_metric" or p.kind is inspect.Parameter.VAR_KEYWORD for p in _parameters(function))


def _parameters(function: RewardFunction) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


async def _awaited(function: Callable[..., Awaitable[Any]], inputs: RewardInputs, log: RewardLog) -> Any:
    return await function(**_arguments(function, inputs, log))


def _is_async(function: RewardFunction) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _name(function: RewardFunction) -> str:
    inner = getattr(function, "func", function)  # of a functools.partial
    return getattr(inner, "__name__", type(inner).__name__)


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names of their own: a second `score` is `score_2`."""
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
