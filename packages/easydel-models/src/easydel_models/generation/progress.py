"""One line on stderr that says how far a generation is."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from easydel_models.generation.prompt_queue import Completion


class ProgressLine:
    """Counts finished completions and their tokens; writes nothing unless ``shown``. Final."""

    def __init__(self, total: int, *, shown: bool):
        """Begins at nothing finished.

        Args:
            total: Completions to be finished.
            shown: Whether to write.
        """
        self._total, self._shown = total, shown
        self._finished, self._tokens = 0, 0
        self._began = time.perf_counter()

    def __enter__(self) -> "ProgressLine":
        """Begins the line."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the line."""
        if self._shown:
            sys.stderr.write("\n")
            sys.stderr.flush()

    def add(self, finished: Sequence[Completion]) -> None:
        """Takes note of completions that have just been finished and writes the line anew."""
        self._finished += len(finished)
        self._tokens += sum(len(one.tokens) for one in finished)
        if self._shown:
            rate = self._tokens / max(time.perf_counter() - self._began, 1e-9)
            text = f"\r{self._finished}/{self._total} completions, {self._tokens} tokens, {rate:.0f} tokens/s"
            sys.stderr.write(text)
            sys.stderr.flush()
