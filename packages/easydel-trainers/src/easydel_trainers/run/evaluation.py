"""Evaluating a training on its held-out rows, or on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from easydata_sources import ShardedDataSource

from easydel_trainers.config import TrainerConfig
from easydel_trainers.metric_names import metric_name, metric_of
from easydel_trainers.run.callbacks import Callback, EarlyStopping
from easydel_trainers.run.loop import Record
from easydel_trainers.step.objective import Extras
from easydel_trainers.step_source import EvalState, StepSource


def evaluate(source: StepSource, held_out: Mapping[str, ShardedDataSource], state: EvalState) -> Record:
    """Returns metrics `eval_…` of a single source, `eval_<name>_…` of several.

    Args:
        source: how rows become batches, and are judged.
        held_out: rows by name; a single source has the name "".
        state: what is evaluated.

    Raises:
        DataQualityError: when too many rows are cut, dropped or odd.
    """
    return {
        metric_name(name, metric): value
        for name, rows in held_out.items()
        for metric, value in source.measure(rows, state).items()
    }


def refuse_unknown_metrics(
    source: StepSource, config: TrainerConfig, callbacks: Sequence[Callback], extras: Extras
) -> None:
    """Says at the beginning, not at the first evaluation, that there is no metric of some name.

    Raises:
        ConfigError: naming the metrics there are.
    """
    wanted = {config.metric_for_best_model}
    wanted |= {callback.metric for callback in callbacks if isinstance(callback, EarlyStopping)}
    found = source.metric_names(extras) if wanted - {None} else None
    if not found:
        return
    known = {metric_name(name, metric): 0.0 for name, metrics in found.items() for metric in metrics}
    for name in wanted - {None}:
        metric_of(known, str(name))
