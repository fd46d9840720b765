"""Names of metrics, as evaluations give them and users write them."""

from __future__ import annotations

from collections.abc import Mapping

from easydel_trainers.errors import ConfigError


def metric_name(source: str, metric: str) -> str:
    """Returns what a metric of a held-out source is called in an evaluation's record."""
    return f"eval_{source}_{metric}" if source else f"eval_{metric}"


def metric_of(record: Mapping[str, float], name: str) -> float:
    """Returns a metric of an evaluation, by its name there or without `eval_`.

    Raises:
        ConfigError: naming the metrics there are, if this one is not among them.
    """
    name = name if name in record else f"eval_{name}"
    if name not in record:
        names = ", ".join(sorted(key for key in record if key != "step"))
        raise ConfigError("metric", name, f"a metric of the evaluation: {names}")
    return record[name]


def is_greater_better(metric: str) -> bool:
    """Returns whether larger values of a metric are better, as its name has it: a loss is to fall, all else to rise."""
    return not metric.endswith("loss")
