"""How rows become batches: what an algorithm says of them, for which it needs no model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from easydata_sources import CountingTransform, DataReport

from easydel_trainers.config import TrainerConfig
from easydel_trainers.data.layout import Layout, Row

Config = TypeVar("Config", bound=TrainerConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class RowUse:
    """What rows are transformed for.

    Attributes:
        training: whether they are trained on; else they are held out.
        alone: whether each is looked at by itself, and never packed with others.
        shuffle_seed: seed of the order of training rows; `None` = the data's own order.
        positions: longest sequence that the model was made for; `None` = there is no model yet.
    """

    training: bool
    alone: bool = False
    shuffle_seed: int | None = None
    positions: int | None = None


class BatchRules(ABC, Generic[Config]):
    """How rows become batches. Abstract.

    Args:
        config: the options of the training.
        tokenizer: of the rows.
        rows_per_step: rows that a step takes from the data; `None` = `total_batch_size`.
        steps_per_batch: optimizer steps on what is made of those rows.
        check_rows: given the first transformed rows, before the model is loaded; raises where they cannot be used.
    """

    config_type: ClassVar[type[TrainerConfig]]
    """Of the options."""
    generates: ClassVar[bool] = False
    """Whether the model writes what it is trained on, and the data holds prompts."""

    def __init__(
        self,
        config: Config,
        tokenizer: Any,
        *,
        rows_per_step: int | None = None,
        steps_per_batch: int = 1,
        check_rows: Callable[[Sequence[Row]], None] | None = None,
    ):
        self.config, self.tokenizer = config, tokenizer
        self.rows_per_step = config.total_batch_size if rows_per_step is None else rows_per_step
        self.steps_per_batch = steps_per_batch
        self.check_rows = check_rows

    @abstractmethod
    def transform(self, use: RowUse) -> CountingTransform:
        """Returns a new transform of raw rows into those that steps count, with a `report` of its own."""

    @abstractmethod
    def layout(self, *, rows: int, micro_batches: int, parts: int) -> Layout:
        """Returns how a step's rows become arrays.

        Args:
            rows: the most rows of one micro-batch.
            micro_batches: how many there are.
            parts: devices that share the rows of a micro-batch.
        """


def counting(config: TrainerConfig) -> dict[str, Any]:
    """Returns what every transform of rows is told: a new report with the thresholds, and what not to count."""
    return {"report": DataReport(config.data_thresholds), "drop_unrendered": config.drop_unrendered}
