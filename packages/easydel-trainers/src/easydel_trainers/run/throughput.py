"""How fast a run goes, and what it waits for."""

from __future__ import annotations

from dataclasses import dataclass, field

from easydel_trainers.data.steps import PreparedStep
from easydel_trainers.run.flops import step_flops


@dataclass(slots=True)
class _Timed:
    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    tokens: int = 0
    padded_tokens: int = 0
    flops: int = 0

    def add(self, more: _Timed) -> None:
        for name in ("steps", "seconds", "waited", "tokens", "padded_tokens", "flops"):
            setattr(self, name, getattr(self, name) + getattr(more, name))


@dataclass(slots=True)
class Throughput:
    """Tokens and arithmetic over the time that steps took. A step that compiled, or ran while the one behind it was
    compiled, counts in nothing here: its time says nothing about speed.

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
    _window: _Timed = field(default_factory=_Timed)
    _overall: _Timed = field(default_factory=_Timed)

    def compiled(self, seconds: float) -> None:
        """A call compiled."""
        self.compile_seconds += seconds

    def finished_step(self, prepared: PreparedStep, *, seconds: float, waited: float) -> None:
        """A step was taken, and nothing compiled meanwhile.

        Args:
            prepared: its input.
            seconds: from the end of the step before it to its own, without evaluations, saves and the like.
            waited: seconds in which the loop stood still for want of its batch.
        """
        flops = step_flops(
            tokens=prepared.held,
            attended=prepared.attended,
            matmul_parameters=self.matmul_parameters,
            attention_dims=self.attention_dims,
        )
        for timed in (self._window, self._overall):
            timed.add(_Timed(1, seconds, waited, prepared.tokens, prepared.padded_tokens, flops))

    def take(self) -> dict[str, float]:
        """Returns rates of the steps since the last call: real tokens, positions and model FLOPs per second, share of
        the hardware's peak (`mfu`), share of time waiting for data. Nothing where none of them was timed.
        """
        timed, self._window = self._window, _Timed()
        if not timed.seconds:
            return {}
        rates = {
            "tokens_per_second": timed.tokens / timed.seconds,
            "padded_tokens_per_second": timed.padded_tokens / timed.seconds,
            "model_flops_per_second": timed.flops / timed.seconds,
            "data_wait_share": min(timed.waited / timed.seconds, 1.0),
        }
        if self.peak_flops_per_second is not None:
            rates["mfu"] = rates["model_flops_per_second"] / self.peak_flops_per_second
        return rates

    @property
    def steps(self) -> int:
        """Steps that were timed."""
        return self._overall.steps

    @property
    def tokens_per_second(self) -> float | None:
        """Real tokens per second over all steps that were timed; `None` = none was."""
        return self._overall.tokens / self._overall.seconds if self._overall.seconds else None

    @property
    def seconds_per_step(self) -> float | None:
        """Mean over all steps that were timed; `None` = none was."""
        return self._overall.seconds / self._overall.steps if self._overall.steps else None
