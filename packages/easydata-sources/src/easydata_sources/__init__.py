"""Read rows from files, buckets and Hugging Face data sets, by position; transform, filter and shuffle them."""

from easydata_sources.arrow import ArrowShardedSource as ArrowShardedSource
from easydata_sources.bad_rows import BadRows as BadRows
from easydata_sources.chatml import ConvertInputOutputToChatML as ConvertInputOutputToChatML
from easydata_sources.chatml import ConvertToChatML as ConvertToChatML
from easydata_sources.composite import CompositeShardedSource as CompositeShardedSource
from easydata_sources.convert import as_sharded_source as as_sharded_source
from easydata_sources.delimited import CsvShardedSource as CsvShardedSource
from easydata_sources.errors import DataAccessError as DataAccessError
from easydata_sources.errors import DataError as DataError
from easydata_sources.errors import DataFilesNotFoundError as DataFilesNotFoundError
from easydata_sources.errors import DataFormatError as DataFormatError
from easydata_sources.errors import DataQualityError as DataQualityError
from easydata_sources.errors import DataUnreachableError as DataUnreachableError
from easydata_sources.errors import MissingExtraError as MissingExtraError
from easydata_sources.errors import RowError as RowError
from easydata_sources.errors import UnfinishedFilesError as UnfinishedFilesError
from easydata_sources.field_filters import FilterByField as FilterByField
from easydata_sources.field_filters import FilterNonEmpty as FilterNonEmpty
from easydata_sources.field_values import AddField as AddField
from easydata_sources.field_values import CombineFields as CombineFields
from easydata_sources.field_values import ExtractField as ExtractField
from easydata_sources.field_values import MapField as MapField
from easydata_sources.fields import DropFields as DropFields
from easydata_sources.fields import RenameFields as RenameFields
from easydata_sources.fields import SelectFields as SelectFields
from easydata_sources.files import DataFile as DataFile
from easydata_sources.files import expand_data_files as expand_data_files
from easydata_sources.hosts import HostShardedSource as HostShardedSource
from easydata_sources.huggingface import HFDatasetShardedSource as HFDatasetShardedSource
from easydata_sources.huggingface import HuggingFaceShardedSource as HuggingFaceShardedSource
from easydata_sources.jsonl import JsonShardedSource as JsonShardedSource
from easydata_sources.limit import LimitedShardedSource as LimitedShardedSource
from easydata_sources.memory import MemoryShardedSource as MemoryShardedSource
from easydata_sources.parquet import ParquetShardedSource as ParquetShardedSource
from easydata_sources.report import DataReport as DataReport
from easydata_sources.retry import RetryPolicy as RetryPolicy
from easydata_sources.rows import Row as Row
from easydata_sources.shuffle import ShuffledShardedSource as ShuffledShardedSource
from easydata_sources.source import ShardedDataSource as ShardedDataSource
from easydata_sources.source import ShardInfo as ShardInfo
from easydata_sources.streams import BatchStream as BatchStream
from easydata_sources.streams import RowStream as RowStream
from easydata_sources.streams import State as State
from easydata_sources.text import TextShardedSource as TextShardedSource
from easydata_sources.transform import BatchTransform as BatchTransform
from easydata_sources.transform import ChainedTransform as ChainedTransform
from easydata_sources.transform import CountingTransform as CountingTransform
from easydata_sources.transform import ExpandTransform as ExpandTransform
from easydata_sources.transform import FilterTransform as FilterTransform
from easydata_sources.transform import MapTransform as MapTransform
from easydata_sources.transform import Transform as Transform
from easydata_sources.transformed import TransformedShardedSource as TransformedShardedSource

__all__ = [
    "AddField",
    "ArrowShardedSource",
    "BadRows",
    "BatchStream",
    "BatchTransform",
    "ChainedTransform",
    "CombineFields",
    "CompositeShardedSource",
    "ConvertInputOutputToChatML",
    "ConvertToChatML",
    "CountingTransform",
    "CsvShardedSource",
    "DataAccessError",
    "DataError",
    "DataFile",
    "DataFilesNotFoundError",
    "DataFormatError",
    "DataQualityError",
    "DataReport",
    "DataUnreachableError",
    "DropFields",
    "ExpandTransform",
    "ExtractField",
    "FilterByField",
    "FilterNonEmpty",
    "FilterTransform",
    "HFDatasetShardedSource",
    "HostShardedSource",
    "HuggingFaceShardedSource",
    "JsonShardedSource",
    "LimitedShardedSource",
    "MapField",
    "MapTransform",
    "MemoryShardedSource",
    "MissingExtraError",
    "ParquetShardedSource",
    "RenameFields",
    "RetryPolicy",
    "Row",
    "RowError",
    "RowStream",
    "SelectFields",
    "ShardInfo",
    "ShardedDataSource",
    "ShuffledShardedSource",
    "State",
    "TextShardedSource",
    "Transform",
    "TransformedShardedSource",
    "UnfinishedFilesError",
    "as_sharded_source",
    "expand_data_files",
]
