"""The order of rollouts and steps, and what of it a checkpoint must hold.

On policy, a rollout is sampled by the parameters behind the step before it. One step off policy, it is sampled by a
thread while the step before it is taken, by a copy of the parameters before that step. Either way what is sampled
depends on parameters, prompts and seeds alone, never on which of two threads was faster; so a run that was stopped
anywhere goes on with the same numbers, if the rollout that is trained on and the one that was being sampled are kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import jax
import numpy as np
from jax.sharding import Mesh

from easydel_trainers.algorithms.grpo.prompts import PromptReader, Prompts
from easydel_trainers.algorithms.grpo.rollout import Rollout
from easydel_trainers.data.steps import PreparedStep, count_attended, count_held, count_tokens
from easydel_trainers.step.device_mesh import put_batch
from easydel_trainers.step.metrics import Ratios, means
from easydel_trainers.step.objective import Params

if TYPE_CHECKING:
    from easydel_trainers.run.view import RunView

_CURRENT, _NEXT = "current", "next"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What a checkpoint holds of rollouts.

    Attributes:
        current: trained on, not yet as often as it shall be; `None` = there is none.
        steps_on_current: how often it was.
        following: sampled ahead of its steps; `None` = there is none.
    """

    current: Rollout | None = None
    steps_on_current: int = 0
    following: Rollout | None = None

    def meta(self) -> dict[str, Any]:
        """Returns all but arrays, as plain JSON values."""
        return {
            "steps_on_current": self.steps_on_current,
            _CURRENT: None if self.current is None else self.current.meta(),
            _NEXT: None if self.following is None else self.following.meta(),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays."""
        held = {_CURRENT: self.current, _NEXT: self.following}
        return {
            name: array
            for prefix, rollout in held.items()
            if rollout is not None
            for name, array in rollout.flat_arrays(prefix).items()
        }

    @classmethod
    def restored(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Kept:
        """Returns what gave `meta()` and `arrays()`."""

        def rollout(prefix: str) -> Rollout | None:
            return None if meta[prefix] is None else Rollout.restored(meta[prefix], arrays, prefix)

        return cls(current=rollout(_CURRENT), steps_on_current=meta["steps_on_current"], following=rollout(_NEXT))


@final
class RolloutSteps:
    """A run's steps: rollouts, each as often as it is trained on.

    Args:
        run: the run they are for.
        iterations: steps on each rollout.
        ahead: whether the next rollout is sampled while this one is trained on.
        read: gives the next prompts.
        make: samples a rollout for prompts by some parameters, which have seen so many steps. May run in a thread.
        complete: adds to a rollout that is about to be trained on; never in a thread.
        kept: what an earlier run left.
        mesh: the devices that steps are put on; `None` = one device.
    """

    def __init__(
        self,
        run: RunView,
        *,
        iterations: int,
        ahead: bool,
        read: PromptReader,
        make: Callable[[Prompts, Params, int], Rollout],
        complete: Callable[[Rollout], Rollout],
        kept: Kept,
        mesh: Mesh | None,
    ):
        self._mesh = mesh
        self._run, self._iterations, self._ahead = run, iterations, ahead
        self._read, self._make, self._complete = read, make, complete
        self._current, self._steps_on_current = kept.current, kept.steps_on_current
        self._following: _Sampling | None = None if kept.following is None else _Sampling.done(kept.following)
        self._clock = _Clock()

    def run(self) -> Generator[PreparedStep, None, None]:
        """Yields every step until the prompts end."""
        try:
            while self._has_rollout():
                yield self._step()
        finally:
            self.wait()

    def kept(self) -> Kept:
        """Returns what a checkpoint behind the step given last must hold; waits for a rollout that is being sampled."""
        used_up = self._steps_on_current == self._iterations
        return Kept(
            current=None if used_up else self._current,
            steps_on_current=0 if used_up else self._steps_on_current,
            following=None if self._following is None else self._following.result(),
        )

    def wait(self) -> None:
        """Waits for a rollout that is being sampled."""
        if self._following is not None:
            self._following.wait()

    @property
    def current(self) -> Rollout | None:
        """The rollout that the last step was taken on."""
        return self._current

    def _has_rollout(self) -> bool:
        """See to it that there is a rollout to train on, if there is one at all."""
        if self._current is not None and self._steps_on_current < self._iterations:
            return True
        jax.block_until_ready(self._run.params)
        self._clock.updated(self._run.compile_seconds)
        rollout = self._sampled_ahead() or self._sampled_now()
        if rollout is None:
            return False
        self._current, self._steps_on_current = self._complete(rollout), 0
        if self._ahead and self._follows():
            self._following = self._begin_next()
        return True

    def _step(self) -> PreparedStep:
        rollout, run = self._current, self._run
        assert rollout is not None
        arrays, first = rollout.arrays, self._steps_on_current == 0
        self._steps_on_current += 1
        tokens = count_tokens(arrays)
        lag = (float(run.step - rollout.sampled_at), 1.0)
        measured = {**rollout.measured, **self._clock.began_on(rollout, tokens * self._iterations)} if first else {}
        return PreparedStep(
            arrays=put_batch(arrays, self._mesh),
            tokens=tokens,
            held=count_held(arrays),
            padded_tokens=arrays["input_ids"].size,
            epoch=rollout.epoch,
            data_state=self._read.state(),
            position=rollout.position,
            batch=rollout.number,
            attended=count_attended(arrays),
            measured={**measured, "steps_off_policy": lag},
        )

    def _sampled_ahead(self) -> Rollout | None:
        following, self._following = self._following, None
        return None if following is None else following.result()

    def _sampled_now(self) -> Rollout | None:
        prompts = self._read()
        return None if prompts is None else self._make(prompts, self._run.params, self._run.step)

    def _follows(self) -> bool:
        """Returns whether the run takes a step behind those on the current rollout."""
        last = self._run.last_step
        return last is None or self._run.step + self._iterations - self._steps_on_current < last

    def _begin_next(self) -> _Sampling | None:
        prompts = self._read()
        if prompts is None:
            return None
        # A copy: the step about to be taken gives these arrays away.
        params, step = jax.tree.map(lambda leaf: leaf.copy(), self._run.params), self._run.step
        return _Sampling(lambda: self._make(prompts, params, step))


class _Sampling:
    """A rollout that a thread is making."""

    def __init__(self, make: Callable[[], Rollout]):
        self._rollout: Rollout | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(make,), name="rollout", daemon=True)
        self._thread.start()

    @classmethod
    def done(cls, rollout: Rollout) -> _Sampling:
        """Returns one that is there already."""
        return cls(lambda: rollout)

    def wait(self) -> None:
        """Waits until it is there, or failed."""
        self._thread.join()

    def result(self) -> Rollout:
        """Returns the rollout, once it is there.

        Raises:
            BaseException: what making it raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._rollout is not None
        return self._rollout

    def _run(self, make: Callable[[], Rollout]) -> None:
        try:
            self._rollout = make()
        except BaseException as error:  # noqa: BLE001 - not swallowed: whoever asks for the rollout gets it raised
            self._error = error


class _Clock:
    """Where the time between two rollouts goes. Ahead of its step, sampling takes its time beside the update."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._updated = 0.0
        self._compiled = self._compiled_before = 0.0
        self._tokens = 0

    def updated(self, compile_seconds: float) -> None:
        """The last step on the rollout before has ended; so long it was compiled in all."""
        self._updated = time.perf_counter()
        self._compiled_before, self._compiled = self._compiled, compile_seconds

    def began_on(self, rollout: Rollout, tokens: int) -> Ratios:
        """Returns the first step on a rollout, which trains on so many tokens in all its steps, is about to be
        taken.
        """
        now, began, trained = time.perf_counter(), self._began, self._tokens
        self._began, self._tokens = now, tokens
        if began is None:
            return {}
        compiled = self._compiled - self._compiled_before
        whole, update = now - began - compiled, self._updated - began - compiled
        spent = means(rollout.measured)
        sampling, rewarding = spent["rollout/seconds"], spent["rollout/reward_seconds"]
        return {
            # A step that compiled says nothing about speed.
            **({} if compiled else {"update/tokens_per_second": (float(trained), update)}),
            "time_share/rollout": (sampling, whole),
            "time_share/rewards": (rewarding, whole),
            "time_share/update": (update, whole),
        }
