"""How fast a run goes, and what it waits for."""

from __future__ import annotations

import re
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from easydel_trainers.data.steps import PreparedStep
from easydel_trainers.flops import step_flops


@dataclass(slots=True)
class Throughput:
    """Tokens and arithmetic over time since the last `take()`, compilations left out.

    Attributes:
        matmul_parameters: see `flops.step_flops`.
        attention_dims: the same.
        peak_flops_per_second: of all devices; `None` = unknown, and then there is no `mfu`.
        compile_seconds: spent compiling in all.
    """

    matmul_parameters: int
    attention_dims: int
    peak_flops_per_second: float | None
    compile_seconds: float = 0.0
    _all_tokens: int = 0
    _all_seconds: float = 0.0
    _began: float = field(default_factory=time.perf_counter)
    _paused: float = 0.0
    _waited: float = 0.0
    _tokens: int = 0
    _places: int = 0
    _flops: int = 0

    def waited_for_data(self, seconds: float) -> None:
        """The loop stood still for want of a batch."""
        self._waited += seconds

    def compiled(self, seconds: float) -> None:
        """A call compiled; that time says nothing about speed."""
        self.compile_seconds += seconds
        self._paused += seconds

    def paused(self, seconds: float) -> None:
        """Time spent on something else than training: evaluation, saving."""
        self._paused += seconds

    def finished_step(self, prepared: PreparedStep) -> None:
        """A step's result arrived."""
        self._tokens += prepared.tokens
        self._places += prepared.places
        self._flops += step_flops(
            tokens=prepared.held,
            attended=prepared.attended,
            matmul_parameters=self.matmul_parameters,
            attention_dims=self.attention_dims,
        )

    def take(self) -> dict[str, float]:
        """Rates since the last call: real tokens, places and model FLOPs per second, share of the hardware's peak
        (`mfu`), share of time waiting for data.
        """
        seconds = max(time.perf_counter() - self._began - self._paused, 1e-9)
        rates = {
            "tokens_per_second": self._tokens / seconds,
            "padded_tokens_per_second": self._places / seconds,
            "model_flops_per_second": self._flops / seconds,
            "data_wait_share": min(self._waited / seconds, 1.0),
        }
        if self.peak_flops_per_second is not None:
            rates["mfu"] = rates["model_flops_per_second"] / self.peak_flops_per_second
        self._all_tokens += self._tokens
        self._all_seconds += seconds
        self._began = time.perf_counter()
        self._paused = self._waited = 0.0
        self._tokens = self._places = self._flops = 0
        return rates

    def overall_tokens_per_second(self) -> float:
        """Real tokens per second over all that `take()` has seen."""
        return self._all_tokens / self._all_seconds if self._all_seconds else 0.0


def peak_memory_bytes() -> int:
    """Largest resident size this process has had."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux hands `ru_maxrss` down: a process begins with the peak of the one that started it.
    own = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    kibibytes = int(own[1]) if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes * 1024
