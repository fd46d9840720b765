"""Measuring on held-out rows: a trainer's metrics, weighted by their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
from easydata_sources import ShardedDataSource

from easydel_trainers.data.row_exchange import open_exchange
from easydel_trainers.data.steps import prepared_steps
from easydel_trainers.loop import Record
from easydel_trainers.metrics import MetricWindow
from easydel_trainers.step import Params

if TYPE_CHECKING:
    from easydel_trainers.trainer import Trainer
    from easydel_trainers.training_run import TrainingRun


def evaluate(
    trainer: Trainer[Any], params: Params, sources: Mapping[str, ShardedDataSource], run: TrainingRun | None
) -> Record:
    """Metrics `eval_…` of a single source, `eval_<name>_…` of several.

    Args:
        trainer: how rows are prepared, arranged and judged.
        params: the parameters to judge.
        sources: held-out rows by name; a single one has the name "".
        run: the run that this happens in; `None` = outside of one.

    Raises:
        DataQualityError: when too many rows are cut, dropped or odd.
    """
    record: Record = {}
    for name, source in sources.items():
        record |= {metric_name(name, metric): value for metric, value in trainer._measure(params, source, run).items()}
    return record


def metric_name(source: str, metric: str) -> str:
    """What a metric of a held-out source is called in an evaluation's record."""
    return f"eval_{source}_{metric}" if source else f"eval_{metric}"


def measure(trainer: Trainer[Any], params: Params, source: ShardedDataSource, run: TrainingRun | None) -> Record:
    """Metrics of one source whose rows are judged as they are trained, without the prefix; see `evaluate`."""
    size = trainer.arguments.eval_batch_size
    transform = trainer._make_eval_transform()
    rows = trainer._rows.once(source, transform, exchange=open_exchange())
    layout = trainer._layout(rows=size, micro_batches=1)
    window = MetricWindow()
    extras = trainer._extras if run is None else run.progress.state.extras
    for batch in prepared_steps(rows, layout.arrange, rows_per_step=size, mesh=trainer._mesh):
        window.add(jax.device_get(trainer._eval_step(params, trainer._annotate(batch.arrays, run), extras)))
    transform.report.check(final=True)
    return window.means()
