"""Rows: where they come from, how they are changed, mixed, tokenized and written. Needs no JAX."""

from easydata_sources import HFDatasetShardedSource as HFDatasetShardedSource
from easydata_sources import JsonShardedSource as JsonShardedSource
from easydata_sources import ParquetShardedSource as ParquetShardedSource
from easydata_sources import ShardedDataSource as ShardedDataSource
from easydata_sources import TransformedShardedSource as TransformedShardedSource

__all__ = [
    "HFDatasetShardedSource",
    "JsonShardedSource",
    "ParquetShardedSource",
    "ShardedDataSource",
    "TransformedShardedSource",
]
