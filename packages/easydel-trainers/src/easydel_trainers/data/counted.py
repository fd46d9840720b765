"""The data report as a config describes it: how much of what may be counted, and what nobody wants counted."""

from __future__ import annotations

from typing import Any

from easydata_sources import DataReport

from easydel_trainers.config import TrainerConfig


def counting(config: TrainerConfig) -> dict[str, Any]:
    """Return what every transform of rows is told: a new report with the thresholds, and what not to count."""
    return {"report": DataReport(config.data_thresholds), "drop_unrendered": config.drop_unrendered}
