"""PackedShardedSource: tokenized rows of a source, packed."""

from __future__ import annotations

from typing import final

from easydata_sources.report import DataReport
from easydata_sources.source import ShardedDataSource
from easydata_sources.transformed import TransformedShardedSource

from easydata_tokenize.packing import OverLong, PackTransform

__all__ = ["PackedShardedSource"]


@final
class PackedShardedSource(TransformedShardedSource):
    """A source of packed rows; the same as `source.transform(PackTransform(…))`.

    `shuffle` and `shard` act on the rows below, by whole windows: each epoch packs other rows together, and any number
    of hosts together read the same packs in the same order.

    Args:
        source: Tokenized rows.
        seq_length: Most tokens of a packed row.
        strategy: `best_fit`, `first_fit`, `greedy` or `wrapped`.
        over_long: What happens to rows of more than `seq_length` tokens.
        window: Source rows that are packed together.
        input_field: Column whose length counts.
        report: Counter to use; None = a new one.
    """

    def __init__(
        self,
        source: ShardedDataSource,
        seq_length: int,
        strategy: str = "best_fit",
        *,
        over_long: OverLong | None = None,
        window: int = 1024,
        input_field: str = "input_ids",
        report: DataReport | None = None,
    ) -> None:
        pack = PackTransform(
            seq_length, strategy, over_long=over_long, window=window, input_field=input_field, report=report
        )
        super().__init__(source, pack)
