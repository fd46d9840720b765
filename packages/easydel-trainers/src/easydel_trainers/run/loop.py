"""The training loop: take a prepared step, run it, settle what came back.

Results are settled two steps late, so the host never waits for the device it has just given work. Only a
checkpoint, an evaluation and the end wait for everything.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, final

import jax

from easydel_trainers.data.steps import PreparedStep
from easydel_trainers.run.throughput import Throughput
from easydel_trainers.step.compiled import Compiled
from easydel_trainers.step.metrics import MetricWindow, means
from easydel_trainers.step.objective import Batch
from easydel_trainers.step.step import StepResult, TrainState

Record = dict[str, float]
_LATE = 2  # steps in flight before the oldest is settled
_SURE = 4  # a step's time is that many times longer than what is not known of its end


@dataclass(slots=True, kw_only=True)
class RunState:
    """Where a run stands: everything a checkpoint holds, apart from versions.

    Attributes:
        state: parameters, optimizer state, step.
        step: steps taken, on the host.
        data_state: position behind the last step taken.
        batch: number of the last batch taken, from 1; more than `step` where batches were skipped.
        num_tokens: real tokens trained on so far.
        evaluated: step of the last evaluation; `None` = there was none.
        window: metrics since the last log.
        overall: metrics of the whole run.
    """

    state: TrainState
    step: int = 0
    data_state: dict[str, Any] | None = None
    batch: int = 0
    num_tokens: int = 0
    evaluated: int | None = None
    window: MetricWindow = field(default_factory=MetricWindow)
    overall: MetricWindow = field(default_factory=MetricWindow)


@dataclass(slots=True, kw_only=True)
class Hooks:
    """What happens beside the steps."""

    annotate: Callable[[Batch], Batch]
    """Called on every batch right before its step; may add arrays that a step needs beside the rows."""
    on_result: Callable[[int, PreparedStep, float, float], None]
    """Given every step's number, input, loss and gradient norm when they are known, in order; may raise."""
    is_logged: Callable[[int], bool]
    """Whether there is to be a record of a step."""
    on_record: Callable[[Record], None]
    """Given each of these records."""


@dataclass(slots=True)
class _InFlight:
    step: int
    prepared: PreparedStep
    result: StepResult
    ended: Future[tuple[float, float]]
    waited: float
    beside_compiling: bool


def _moment_of(result: StepResult, given: float) -> tuple[float, float]:
    """When a result was there, and by how much that may be too late: nothing if it was waited for."""
    norm: Any = result.grad_norm  # its annotations leave `is_ready` out
    unsure = time.perf_counter() - given if norm.is_ready() else 0.0
    jax.block_until_ready(result)
    return time.perf_counter(), unsure


@final
class Loop:
    """Takes steps until the input ends, `last_step` is reached or someone calls `stop`.

    Args:
        run: where it stands; changed by every step.
        train_step: the compiled step.
        hooks: what happens beside.
        throughput: told how long steps took.
        last_step: the step to end with; `None` = the input's last.
    """

    def __init__(
        self, run: RunState, train_step: Compiled, hooks: Hooks, throughput: Throughput, *, last_step: int | None
    ):
        self._run, self._train_step, self._hooks, self._last_step = run, train_step, hooks, last_step
        self.shapes: Counter[tuple[int, ...]] = Counter()
        """How many steps had arrays of `[micro-batches, bins, length]`."""
        self._in_flight: deque[_InFlight] = deque()
        self._clock = ThreadPoolExecutor(1, thread_name_prefix="step clock")
        self._free_since = 0.0
        self._untimed: list[_InFlight] = []
        self._waited = 0.0
        self._stopping = False
        self._unlogged: Record | None = None
        self.throughput = throughput

    def dispatched(self, steps: Iterable[PreparedStep]) -> Generator[PreparedStep, None, None]:
        """Dispatches the steps one by one, each yielded when it is the device's.

        Whoever evaluates or saves between two of them calls `settle` before and `resume_clock` behind that. To be
        closed, which ends the thread that looks at the clock.

        Raises:
            DivergedError: when a loss or gradient norm is not finite.
        """
        with self._clock:
            self.resume_clock()
            for prepared in self._timed(iter(steps)):
                self._take(prepared)
                yield prepared
            self.settle()

    def finish(self) -> None:
        """Logs what was not logged yet: the last step of rows of unknown number, say."""
        self.settle()
        if self._unlogged is not None:
            self._log()

    def stop(self) -> None:
        """Takes no further step."""
        self._stopping = True

    def is_logged(self, step: int) -> bool:
        """Returns whether there is to be a record of a step."""
        return self._hooks.is_logged(step)

    @property
    def is_ending(self) -> bool:
        """Whether it is known that no step follows."""
        return self._stopping or (self._last_step is not None and self._run.step >= self._last_step)

    def settle(self) -> None:
        """Waits for all steps in flight and takes in their results."""
        while self._in_flight:
            self._settle_oldest()

    def resume_clock(self) -> None:
        """What was done since the last `settle` (an evaluation, say) is no part of the next step's time."""
        self._untimed.clear()
        self._free_since = time.perf_counter()

    @property
    def seconds_left(self) -> float | None:
        """Expected time to the last step, without compilations; `None` = not known."""
        seconds = self.throughput.seconds_per_step
        return None if seconds is None or self._last_step is None else seconds * (self._last_step - self._run.step)

    def totals(self) -> Record:
        """Returns figures of this process's whole run; no speed where every step compiled."""
        speed = self.throughput.tokens_per_second
        return {
            **({} if speed is None else {"train_tokens_per_second": speed}),
            "compilations": self._train_step.compilations,
            "compile_seconds": self.throughput.compile_seconds,
        }

    def _timed(self, steps: Iterator[PreparedStep]) -> Iterator[PreparedStep]:
        while not self.is_ending:
            began = time.perf_counter()
            prepared = next(steps, None)
            self._waited = time.perf_counter() - began
            if prepared is None:
                return
            yield prepared

    def _take(self, prepared: PreparedStep) -> None:
        run, before, began = self._run, self._train_step.compilations, time.perf_counter()
        running = [one for one in self._in_flight if not one.ended.done()]
        batch = self._hooks.annotate(prepared.arrays)
        run.state, result = self._train_step(run.state, batch)
        self.shapes[batch["input_ids"].shape] += 1
        compiled = self._train_step.compilations > before
        if compiled:
            self.throughput.compiled(time.perf_counter() - began)
            for one in running:  # where the host is the device, the compiler took its time from them
                one.beside_compiling = True
        run.step += 1
        run.data_state, run.batch = prepared.data_state, prepared.batch
        # A thread looks when the result is there: the loop itself looks late, and then at several at once.
        ended = self._clock.submit(_moment_of, result, time.perf_counter())
        self._in_flight.append(_InFlight(run.step, prepared, result, ended, self._waited, compiled))
        if len(self._in_flight) > _LATE:
            self._settle_oldest()

    def _settle_oldest(self) -> None:
        oldest, run = self._in_flight.popleft(), self._run
        step, prepared = oldest.step, oldest.prepared
        result = jax.device_get(oldest.result)  # at once: each transfer has a price of its own
        numbers = {"grad_norm": float(result.grad_norm), "learning_rate": float(result.learning_rate)}
        self._hooks.on_result(step, prepared, means(result.ratios)["loss"], numbers["grad_norm"])
        run.num_tokens += prepared.tokens
        for measured in (result.ratios, prepared.measured):
            run.window.add(measured)
            run.overall.add(measured)
        self._time(oldest)
        self._unlogged = {"step": step, "epoch": prepared.epoch, **numbers}
        if self._hooks.is_logged(step):
            self._log()

    def _time(self, oldest: _InFlight) -> None:
        moment, unsure = oldest.ended.result()
        if oldest.beside_compiling:
            self._untimed.clear()
            self._free_since = moment
            return
        self._untimed.append(oldest)
        # Seen so late that its time would be made up: it shares that of the step behind it.
        if moment - self._free_since < _SURE * unsure:
            return
        seconds = (moment - self._free_since) / len(self._untimed)
        for one in self._untimed:
            self.throughput.finished_step(one.prepared, seconds=seconds, waited=one.waited)
        self._untimed.clear()
        self._free_since = moment

    def _log(self) -> None:
        assert self._unlogged is not None
        record = {
            **self._unlogged,
            **self._run.window.means(),
            "num_tokens": self._run.num_tokens,
            **self.throughput.take(),
            "compilations": self._train_step.compilations,
        }
        self._unlogged = None
        self._run.window.clear()
        self._hooks.on_record(record)
