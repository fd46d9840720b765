"""Recording some steps with JAX's profiler, to be looked at with `xprof` or Perfetto."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import final

import jax


@final
class ProfileWindow:
    """Records from the start of one step to the end of another.

    Args:
        folder: where traces go.
        steps: first and last step; `None` = nothing is recorded.
        resources: a recording that is still going on when they close is ended and written.
    """

    def __init__(self, folder: Path, steps: tuple[int, int] | None, resources: ExitStack):
        self._folder, self._steps = folder, steps
        self._recording = False
        resources.callback(self._end)

    def before_step(self, step: int) -> None:
        """Called right before a step is given to the device."""
        if self._steps is not None and step == self._steps[0]:
            jax.profiler.start_trace(str(self._folder))
            self._recording = True

    def ends_behind(self, step: int) -> bool:
        """Returns whether the recording ends with this step, whose results must then be waited for first."""
        return self._recording and self._steps is not None and step >= self._steps[1]

    def end(self) -> None:
        """Writes what was recorded."""
        self._end()

    def _end(self) -> None:
        if self._recording:
            jax.profiler.stop_trace()
            self._recording = False
