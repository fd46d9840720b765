"""The data report as a config describes it: how much of what may be counted, and what nobody wants counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from easydata_sources import DataReport
from easydel_transforms.reasons import REASONS, is_reason

from easydel_trainers.errors import ConfigError

if TYPE_CHECKING:
    from easydel_trainers.config import TrainerConfig


def checked_thresholds(field: str, shares: Mapping[str, float]) -> dict[str, float]:
    """Return thresholds of a data report.

    Args:
        field: of the config that has them.
        shares: reason -> largest share of the rows.

    Raises:
        ConfigError: if nothing is ever counted under a name, or a share is none.
    """
    for reason, share in shares.items():
        if not is_reason(reason):
            raise ConfigError(field, reason, f"names of the data report: not_rendered/KIND, {', '.join(REASONS)}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ConfigError(field, {reason: share}, "shares from 0.0 to 1.0")
    return dict(shares)


def counting(config: TrainerConfig) -> dict[str, Any]:
    """Return what every transform of rows is told: a new report with the thresholds, and what not to count."""
    return {"report": DataReport(config.data_thresholds), "drop_unrendered": config.drop_unrendered}
