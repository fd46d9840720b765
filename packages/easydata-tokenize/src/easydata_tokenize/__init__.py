"""Chat templates, tokens, loss masks and truncation, with every loss of data counted.

Rows of any known layout become examples (`read_example`), examples become tokens and masks (`RowEncoder`).
"""

from easydata_tokenize.chat import ChatTemplate as ChatTemplate
from easydata_tokenize.chat import ChatTemplates as ChatTemplates
from easydata_tokenize.chat import MissingChatTemplateError as MissingChatTemplateError
from easydata_tokenize.chat import StopRule as StopRule
from easydata_tokenize.chat_transforms import ChatTemplateTransform as ChatTemplateTransform
from easydata_tokenize.chat_transforms import MaybeApplyChatTemplate as MaybeApplyChatTemplate
from easydata_tokenize.conversation import Message as Message
from easydata_tokenize.conversation import read_messages as read_messages
from easydata_tokenize.conversation import read_template_kwargs as read_template_kwargs
from easydata_tokenize.conversation import read_tools as read_tools
from easydata_tokenize.described import tokenizer_fingerprint as tokenizer_fingerprint
from easydata_tokenize.encode import EncodedRow as EncodedRow
from easydata_tokenize.encode import RowEncoder as RowEncoder
from easydata_tokenize.encode import located as located
from easydata_tokenize.examples import ChatExample as ChatExample
from easydata_tokenize.examples import Example as Example
from easydata_tokenize.examples import TextExample as TextExample
from easydata_tokenize.examples import TokenExample as TokenExample
from easydata_tokenize.examples import read_example as read_example
from easydata_tokenize.executors import Executor as Executor
from easydata_tokenize.executors import InProcess as InProcess
from easydata_tokenize.executors import WorkerError as WorkerError
from easydata_tokenize.formats import SFT_LAYOUTS as SFT_LAYOUTS
from easydata_tokenize.formats import Layout as Layout
from easydata_tokenize.formats import detect_layout as detect_layout
from easydata_tokenize.manifest import IncompleteSetError as IncompleteSetError
from easydata_tokenize.manifest import SavedSetDiffersError as SavedSetDiffersError
from easydata_tokenize.masks import common_prefix as common_prefix
from easydata_tokenize.masks import cut_at_spans as cut_at_spans
from easydata_tokenize.masks import mask_spans as mask_spans
from easydata_tokenize.packed_source import PackedShardedSource as PackedShardedSource
from easydata_tokenize.packers import FirstFitPacker as FirstFitPacker
from easydata_tokenize.packers import GreedyPacker as GreedyPacker
from easydata_tokenize.packers import PackedSequence as PackedSequence
from easydata_tokenize.packers import PoolPacker as PoolPacker
from easydata_tokenize.packing import OverLong as OverLong
from easydata_tokenize.packing import PackTransform as PackTransform
from easydata_tokenize.packing import pack_columns as pack_columns
from easydata_tokenize.packing_plan import PackingStrategy as PackingStrategy
from easydata_tokenize.packing_plan import PackPlan as PackPlan
from easydata_tokenize.packing_plan import plan_packs as plan_packs
from easydata_tokenize.process_pool import ProcessPool as ProcessPool
from easydata_tokenize.ray_executor import RayExecutor as RayExecutor
from easydata_tokenize.saved_set import SavedShardedSource as SavedShardedSource
from easydata_tokenize.saved_set import open_saved as open_saved
from easydata_tokenize.saving import WriteStats as WriteStats
from easydata_tokenize.saving import save_dataset as save_dataset
from easydata_tokenize.saving import save_iterator as save_iterator
from easydata_tokenize.skeleton import Span as Span
from easydata_tokenize.tokenize_and_save import TokenizeTransform as TokenizeTransform
from easydata_tokenize.tokenize_and_save import tokenize_and_save as tokenize_and_save
from easydata_tokenize.tokenizer import ChatTokenizer as ChatTokenizer
from easydata_tokenize.tokenizer import ensure_pad_token as ensure_pad_token
from easydata_tokenize.tokenizer import load_tokenizer as load_tokenizer
from easydata_tokenize.truncate import TruncationMode as TruncationMode
from easydata_tokenize.truncate import kept_tokens as kept_tokens
from easydata_tokenize.turns import AssistantTurns as AssistantTurns

__all__ = [
    "SFT_LAYOUTS",
    "AssistantTurns",
    "ChatExample",
    "ChatTemplate",
    "ChatTemplateTransform",
    "ChatTemplates",
    "ChatTokenizer",
    "EncodedRow",
    "Example",
    "Executor",
    "FirstFitPacker",
    "GreedyPacker",
    "InProcess",
    "IncompleteSetError",
    "Layout",
    "MaybeApplyChatTemplate",
    "Message",
    "MissingChatTemplateError",
    "OverLong",
    "PackPlan",
    "PackTransform",
    "PackedSequence",
    "PackedShardedSource",
    "PackingStrategy",
    "PoolPacker",
    "ProcessPool",
    "RayExecutor",
    "RowEncoder",
    "SavedSetDiffersError",
    "SavedShardedSource",
    "Span",
    "StopRule",
    "TextExample",
    "TokenExample",
    "TokenizeTransform",
    "TruncationMode",
    "WorkerError",
    "WriteStats",
    "common_prefix",
    "cut_at_spans",
    "detect_layout",
    "ensure_pad_token",
    "kept_tokens",
    "load_tokenizer",
    "located",
    "mask_spans",
    "open_saved",
    "pack_columns",
    "plan_packs",
    "read_example",
    "read_messages",
    "read_template_kwargs",
    "read_tools",
    "save_dataset",
    "save_iterator",
    "tokenize_and_save",
    "tokenizer_fingerprint",
]
