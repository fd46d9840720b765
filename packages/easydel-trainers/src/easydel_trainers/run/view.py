"""What callbacks, and sources of steps, may see of a run and ask of it: this and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import final

from easydel_trainers.records.sampled import Sampled
from easydel_trainers.run.loop import Loop, RunState
from easydel_trainers.step.averaging import eval_params
from easydel_trainers.step.metrics import Metric
from easydel_trainers.step.objective import Params


@final
class RunView:
    """A live run.

    Args:
        state: of the run.
        loop: that takes its steps.
        last_step: the step it ends with; `None` = unknown.
        show_sampled: shows answers sampled for a step.
        write_file: writes a file of the run's folder, given its name and text.
    """

    def __init__(
        self,
        state: RunState,
        loop: Loop,
        *,
        last_step: int | None,
        show_sampled: Callable[[int, Sequence[Sampled]], None],
        write_file: Callable[[str, str], None],
    ):
        self._state, self._loop, self._last_step = state, loop, last_step
        self._show_sampled, self._write_file = show_sampled, write_file

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._state.step

    @property
    def last_step(self) -> int | None:
        """The step the run ends with; `None` = unknown."""
        return self._last_step

    @property
    def params(self) -> Params:
        """The parameters behind the last step. The next step consumes them: use them now, do not keep them."""
        return self._state.state.params

    @property
    def eval_params(self) -> Params:
        """The parameters to evaluate: an average where the config asks for one, else `params`."""
        return eval_params(self.params, self._state.state.opt_state)

    @property
    def shapes(self) -> Counter[tuple[int, ...]]:
        """How many steps had arrays of `[micro-batches, bins, length]`; each shape is one compilation."""
        return self._loop.shapes

    @property
    def compile_seconds(self) -> float:
        """Time spent compiling steps so far."""
        return self._loop.throughput.compile_seconds

    @property
    def timed_steps(self) -> int:
        """Steps of this process that did not compile, from which its rates come."""
        return self._loop.throughput.steps

    @property
    def seconds_per_step(self) -> float | None:
        """Mean time of those; `None` = there is none yet."""
        return self._loop.throughput.seconds_per_step

    @property
    def seconds_left(self) -> float | None:
        """Expected time to the last step, without compilations and evaluations; `None` = not known."""
        return self._loop.seconds_left

    def metric(self, name: str) -> Metric | None:
        """Returns a metric of all steps that are settled, as it is joined; `None` = it was not measured."""
        return self._state.overall.get(name)

    def is_logged(self, step: int) -> bool:
        """Returns whether a step's record is logged."""
        return self._loop.is_logged(step)

    def show_sampled(self, answers: Sequence[Sampled]) -> None:
        """Shows answers that were sampled in training, wherever the run is recorded."""
        self._show_sampled(self.step, answers)

    def write_file(self, name: str, text: str) -> None:
        """Writes a file of the run's folder, whole or not at all; nothing where there is no folder.

        Raises:
            CheckpointError: if it cannot be written and `on_save_error` is `stop`.
        """
        self._write_file(name, text)

    def stop(self) -> None:
        """Ends the run behind the step just taken, as if it were the last: evaluate, save, return."""
        self._loop.stop()
