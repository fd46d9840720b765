"""What a run gives back."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOutput:
    """Result of `train()`.

    Attributes:
        global_step: optimizer steps taken, those before a resume included.
        metrics: figures of the whole run: `train_loss`, `train_runtime` (s), `train_tokens_per_second`,
            `compilations`, `compile_seconds`, `peak_memory_bytes`, `num_tokens`, …
        history: one record per log line and evaluation, in order; see `log.jsonl`.
        data_report: rows read, and rows cut, dropped or odd, by reason.
    """

    global_step: int
    metrics: dict[str, float]
    history: list[dict[str, float]] = field(repr=False)
    data_report: dict[str, int]

    def summary(self) -> str:
        """Returns a few lines for a person."""
        m = self.metrics
        speed = ""
        if "train_tokens_per_second" in m:
            speed = f"; {m['train_tokens_per_second']:,.0f} tokens/s between evaluations, saves and compilations"
        lines = [
            f"{self.global_step} steps, {m['num_tokens']:,.0f} tokens, mean loss {m['train_loss']:.4f}",
            f"{m['train_runtime']:,.0f} s this time" + speed,
            f"{m['compilations']:.0f} compilations in {m['compile_seconds']:.0f} s, "
            f"peak memory {m['peak_memory_bytes'] / 2**30:.2f} GiB",
            "data: " + ", ".join(f"{count:,} {reason}" for reason, count in self.data_report.items()),
        ]
        return "\n".join(lines)
