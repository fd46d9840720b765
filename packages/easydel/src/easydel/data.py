"""Rows: where they come from, how they are changed, mixed, tokenized and written. Needs no JAX."""

from easydata_mix import MixedShardedSource as MixedShardedSource
from easydata_mix import WeightSchedulePoint as WeightSchedulePoint
from easydata_mix import WeightScheduler as WeightScheduler
from easydata_mix import block_mixture_interleave as block_mixture_interleave
from easydata_sources import AddField as AddField
from easydata_sources import ArrowShardedSource as ArrowShardedSource
from easydata_sources import BadRows as BadRows
from easydata_sources import BatchTransform as BatchTransform
from easydata_sources import ChainedTransform as ChainedTransform
from easydata_sources import CombineFields as CombineFields
from easydata_sources import CompositeShardedSource as CompositeShardedSource
from easydata_sources import ConvertInputOutputToChatML as ConvertInputOutputToChatML
from easydata_sources import ConvertToChatML as ConvertToChatML
from easydata_sources import CountingTransform as CountingTransform
from easydata_sources import CsvShardedSource as CsvShardedSource
from easydata_sources import DataReport as DataReport
from easydata_sources import DropFields as DropFields
from easydata_sources import ExpandTransform as ExpandTransform
from easydata_sources import ExtractField as ExtractField
from easydata_sources import FilterByField as FilterByField
from easydata_sources import FilterNonEmpty as FilterNonEmpty
from easydata_sources import FilterTransform as FilterTransform
from easydata_sources import HFDatasetShardedSource as HFDatasetShardedSource
from easydata_sources import HostShardedSource as HostShardedSource
from easydata_sources import HuggingFaceShardedSource as HuggingFaceShardedSource
from easydata_sources import JsonShardedSource as JsonShardedSource
from easydata_sources import LimitedShardedSource as LimitedShardedSource
from easydata_sources import MapField as MapField
from easydata_sources import MapTransform as MapTransform
from easydata_sources import MemoryShardedSource as MemoryShardedSource
from easydata_sources import ParquetShardedSource as ParquetShardedSource
from easydata_sources import RenameFields as RenameFields
from easydata_sources import SelectFields as SelectFields
from easydata_sources import ShardedDataSource as ShardedDataSource
from easydata_sources import ShuffledShardedSource as ShuffledShardedSource
from easydata_sources import TextShardedSource as TextShardedSource
from easydata_sources import Transform as Transform
from easydata_sources import TransformedShardedSource as TransformedShardedSource
from easydata_sources import as_sharded_source as as_sharded_source
from easydata_tokenize import ChatTemplateTransform as ChatTemplateTransform
from easydata_tokenize import FirstFitPacker as FirstFitPacker
from easydata_tokenize import GreedyPacker as GreedyPacker
from easydata_tokenize import InProcess as InProcess
from easydata_tokenize import MaybeApplyChatTemplate as MaybeApplyChatTemplate
from easydata_tokenize import PackedSequence as PackedSequence
from easydata_tokenize import PackedShardedSource as PackedShardedSource
from easydata_tokenize import PackTransform as PackTransform
from easydata_tokenize import PoolPacker as PoolPacker
from easydata_tokenize import ProcessPool as ProcessPool
from easydata_tokenize import RayExecutor as RayExecutor
from easydata_tokenize import TokenizeTransform as TokenizeTransform
from easydata_tokenize import open_saved as open_saved
from easydata_tokenize import save_dataset as save_dataset
from easydata_tokenize import save_iterator as save_iterator
from easydata_tokenize import tokenize_and_save as tokenize_and_save

__all__ = [  # noqa: RUF022 - grouped by topic
    # sources
    "ShardedDataSource",
    "ParquetShardedSource",
    "JsonShardedSource",
    "ArrowShardedSource",
    "CsvShardedSource",
    "TextShardedSource",
    "MemoryShardedSource",
    "HFDatasetShardedSource",
    "HuggingFaceShardedSource",
    "as_sharded_source",
    # sources of sources
    "CompositeShardedSource",
    "TransformedShardedSource",
    "LimitedShardedSource",
    "ShuffledShardedSource",
    "HostShardedSource",
    # transforms of rows
    "Transform",
    "ExpandTransform",
    "BatchTransform",
    "CountingTransform",
    "ChainedTransform",
    "FilterTransform",
    "MapTransform",
    "SelectFields",
    "DropFields",
    "RenameFields",
    "AddField",
    "MapField",
    "ExtractField",
    "CombineFields",
    "FilterByField",
    "FilterNonEmpty",
    "ConvertToChatML",
    "ConvertInputOutputToChatML",
    "ChatTemplateTransform",
    "MaybeApplyChatTemplate",
    "TokenizeTransform",
    "BadRows",
    "DataReport",
    # mixtures
    "MixedShardedSource",
    "WeightScheduler",
    "WeightSchedulePoint",
    "block_mixture_interleave",
    # packing
    "PackTransform",
    "PackedShardedSource",
    "GreedyPacker",
    "PoolPacker",
    "FirstFitPacker",
    "PackedSequence",
    # tokenized sets on disk
    "tokenize_and_save",
    "save_dataset",
    "save_iterator",
    "open_saved",
    "InProcess",
    "ProcessPool",
    "RayExecutor",
]
