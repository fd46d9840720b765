"""`--dry-run`: a few real steps of the very run, timed; nothing is written, nothing is kept.

The steps are those that training would take, by the same code, on the first rows of its order. So whatever would stop
a run in its first minutes (rows that cannot be read, a model that does not fit, a shape that does not compile) stops
the dry run, and the rest is arithmetic: how many steps, how long.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

from easydel_models.cpu_bfloat16 import bfloat16_advice
from easydel_models.parameters import count_parameters, split_params
from easydel_trainers import Callback
from rich.table import Table
from rich.text import Text

from easydel.cli.output.console import harmless_console, print_json
from easydel.cli.training.configs import TRAINING_COMMANDS, Run
from easydel.cli.training.trainer import build_trainer

_STEPS = 4  # at least; the first compiles, and so may others
_TIMED_STEPS = 2  # at least, which did not compile
_MOST_STEPS = 16  # at most, where every other shape is new


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """What a dry run found."""

    dtype: str
    """What is computed in, and what bfloat16 would gain."""
    parameters: int
    """Numbers in the model."""
    trained_parameters: int
    """Those of them that training changes."""
    rows: int | None
    """Rows of the training data; `None` where they cannot be counted."""
    rows_per_step: int
    """Rows of one optimizer step."""
    total_steps: int | None
    """Steps of the whole run; `None` where the rows cannot be counted."""
    shapes: dict[str, int]
    """`micro-batches x bins x length` of the steps tried, and how many had each."""
    tokens_per_step: float
    """Mean of the steps tried."""
    compilations: int
    """Programs compiled."""
    compile_seconds: float
    """Time that took."""
    seconds_per_step: float | None
    """Of those that did not compile; `None` where all of them did."""
    expected_seconds: float | None
    """Of the whole run, compiling included and evaluations left out; `None` = unknown."""
    peak_memory_bytes: int
    """Largest size that this process had."""
    losses: tuple[float, ...]
    """Of the steps tried."""
    held_out: dict[str, float]
    """Metrics on the first held-out batch; empty without held-out rows."""
    data_report: dict[str, int]
    """Rows read, and rows cut, dropped or odd by reason."""


@final
class _FirstSteps(Callback):
    """Ends a run when enough of its steps were timed, and notes their shapes and their time."""

    def __init__(self) -> None:
        self.shapes: Counter[tuple[int, ...]] = Counter()
        self.seconds_per_step: float | None = None

    def on_step(self, run: Any) -> None:
        enough = run.step >= _STEPS and run.timed_steps >= _TIMED_STEPS
        if enough or run.step >= _MOST_STEPS:
            run.stop()

    def on_end(self, run: Any) -> None:
        self.shapes, self.seconds_per_step = run.shapes, run.seconds_per_step


def show_dry_run(config: Run, *, as_json: bool) -> None:
    """Tries a run and prints what was found."""
    found = dry_run(config)
    if as_json:
        print_json(asdict(found))
        return
    console = harmless_console()
    console.print(_table(config, found))
    checkpoints = Path(str(config.training.save_directory), "checkpoints")
    if checkpoints.exists() and any(checkpoints.iterdir()):
        console.print(Text(f"{checkpoints} holds checkpoints: the run would go on from the newest."), soft_wrap=True)
    console.print(Text("Dry run: nothing was trained for good, and nothing written."), soft_wrap=True)


def dry_run(config: Run) -> DryRun:
    """Takes the first steps of a run.

    Args:
        config: of one of the training commands.
    """
    first = _FirstSteps()
    with tempfile.TemporaryDirectory() as made_rows:
        short = replace(config, training=_short(config.training))
        if short.eval_dataset is not None:
            short = replace(short, eval_rows=min(config.eval_rows or short.training.eval_batch_size, 64))
        trainer = build_trainer(short, made_rows=Path(made_rows), callbacks=(first,))
        total = trainer.total_steps
        output = trainer.train()
        held_out = trainer.evaluate() if short.eval_dataset is not None else {}
    seconds, expected = first.seconds_per_step, None
    if total is not None and seconds is not None:
        expected = total * seconds + output.metrics["compile_seconds"]
    computed_in = str(trainer.model.compute_dtype)
    return DryRun(
        dtype=f"{computed_in}; bfloat16: {bfloat16_advice()}" if computed_in == "float32" else computed_in,
        parameters=count_parameters(split_params(trainer.model)[1]),
        trained_parameters=_trained_size(trainer),
        rows=trainer.data.rows,
        rows_per_step=config.training.total_batch_size,
        total_steps=total,
        shapes={" x ".join(map(str, shape)): count for shape, count in sorted(first.shapes.items())},
        tokens_per_step=output.metrics["num_tokens"] / output.global_step,
        compilations=int(output.metrics["compilations"]),
        compile_seconds=output.metrics["compile_seconds"],
        seconds_per_step=seconds,
        expected_seconds=expected,
        peak_memory_bytes=int(output.metrics["peak_memory_bytes"]),
        losses=tuple(entry["loss"] for entry in output.history if "loss" in entry),
        held_out=held_out,
        data_report=output.data_report,
    )


def _short(training: Any) -> Any:
    """Returns the options with which a run leaves nothing behind; its steps and their rates stay as they are."""
    return replace(
        training,
        save_directory=None,
        save_steps=None,
        metric_for_best_model=None,
        load_best_model_at_end=False,
        greater_is_better=None,
        evaluation_steps=None,
        preview_prompts=(),
        preview_steps=None,
        profile_steps=None,
        report_to=(),
        progress_bar=False,
        log_steps=1,
    )


def _trained_size(trainer: Any) -> int:
    from easydel_trainers.step.optimizer import frozen
    from jax import tree

    params = trainer.program.trained_params
    still = frozen(params, trainer.arguments.frozen_parameters)
    return sum(leaf.size for leaf, fixed in zip(tree.leaves(params), tree.leaves(still), strict=True) if not fixed)


def _table(config: Run, found: DryRun) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    steps = "unknown: the rows cannot be counted" if found.total_steps is None else f"{found.total_steps:,}"
    speed = "unknown: every step tried compiled"
    if found.seconds_per_step is not None:
        speed = f"{found.seconds_per_step:.3g} s a step, {found.tokens_per_step / found.seconds_per_step:,.0f} tokens/s"
    report = [f"{count:,} {reason}" for reason, count in found.data_report.items()]
    lines = {
        "trainer": TRAINING_COMMANDS[config.trainer].trainer,
        "model": f"{config.model}: {found.parameters:,} parameters, {found.trained_parameters:,} of them trained",
        "compute": found.dtype,
        "rows": "unknown" if found.rows is None else f"{found.rows:,}",
        "steps": f"{steps}, of {found.rows_per_step} rows and about {found.tokens_per_step:,.0f} tokens each",
        "shapes": ", ".join(
            f"{shape} ({count} of {sum(found.shapes.values())})" for shape, count in found.shapes.items()
        ),
        "compiled": f"{found.compilations} programs in {found.compile_seconds:.1f} s",
        "speed": speed,
        "expected": "unknown" if found.expected_seconds is None else f"{_duration(found.expected_seconds)} in all",
        "memory": f"{found.peak_memory_bytes / 2**30:.2f} GiB at most so far",
        "loss": ", ".join(f"{loss:.4f}" for loss in found.losses),
        "data": ", ".join(report),
    }
    if found.held_out:
        lines["held out"] = ", ".join(f"{name} {value:.4g}" for name, value in found.held_out.items())
    for name, text in lines.items():
        table.add_row(name, Text(text))
    return table


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    if hours:
        return f"{hours} h {rest // 60} min"
    return f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{seconds:.2g} s"
