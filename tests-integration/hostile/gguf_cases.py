"""GGUF files cut, damaged, of wrong types and of counts that nothing has: the model and the tokenizer in them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from cases import Case, mutations, short
from easydata_tokenize import load_tokenizer
from easydel_models import AutoEasyDeLModelForCausalLM
from transformers import PreTrainedTokenizerFast

PRELOADED = (gguf, PreTrainedTokenizerFast)  # once, rather than in each of the processes that a case has
U32, F32, BOOL, STRING, ARRAY, U64, I32 = 4, 6, 7, 8, 9, 10, 5
WORDS = [*(chr(ord("a") + n) for n in range(26)), "ab", "cd", "<|im_start|>", "<|im_end|>", "<unk>", "Ġ"]
METADATA: Mapping[str, tuple[int, Any]] = {
    "general.architecture": (STRING, "llama"),
    "llama.context_length": (U32, 64),
    "llama.embedding_length": (U32, 16),
    "llama.block_count": (U32, 1),
    "llama.feed_forward_length": (U32, 24),
    "llama.attention.head_count": (U32, 2),
    "llama.attention.head_count_kv": (U32, 1),
    "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
    "llama.rope.freq_base": (F32, 10000.0),
    "llama.rope.dimension_count": (U32, 8),
    "llama.vocab_size": (U32, 32),
    "tokenizer.ggml.model": (STRING, "gpt2"),
    "tokenizer.ggml.pre": (STRING, "smollm"),
    "tokenizer.ggml.tokens": (ARRAY, (STRING, WORDS)),
    "tokenizer.ggml.token_type": (ARRAY, (I32, [1] * 28 + [3, 3, 3, 1])),
    "tokenizer.ggml.merges": (ARRAY, (STRING, ["a b", "c d"])),
    "tokenizer.ggml.bos_token_id": (U32, 28),
    "tokenizer.ggml.eos_token_id": (U32, 29),
    "tokenizer.ggml.unknown_token_id": (U32, 30),
    "tokenizer.ggml.padding_token_id": (U32, 29),
    "tokenizer.ggml.add_bos_token": (BOOL, False),
    "tokenizer.chat_template": (STRING, "{% for m in messages %}{{ m['content'] }}{% endfor %}"),
}
SHAPES = {
    "token_embd.weight": (32, 16),
    "output_norm.weight": (16,),
    "blk.0.attn_norm.weight": (16,),
    "blk.0.attn_q.weight": (16, 16),
    "blk.0.attn_k.weight": (8, 16),
    "blk.0.attn_v.weight": (8, 16),
    "blk.0.attn_output.weight": (16, 16),
    "blk.0.ffn_norm.weight": (16,),
    "blk.0.ffn_gate.weight": (24, 16),
    "blk.0.ffn_up.weight": (24, 16),
    "blk.0.ffn_down.weight": (16, 24),
}
ODD: tuple[tuple[int, Any], ...] = (
    (U32, 0),
    (U32, 1),
    (U32, 2**32 - 1),
    (U64, 2**62),
    (I32, -1),
    (F32, float("nan")),
    (F32, float("inf")),
    (F32, -0.5),
    (BOOL, True),
    (STRING, ""),
    (STRING, "\x1b[2Jtext"),
    (STRING, "x" * 50_000),
    (ARRAY, (U32, [])),
    (ARRAY, (U32, [1, 2])),
    (ARRAY, (F32, [float("nan")])),
    (ARRAY, (STRING, ["a", "b"])),
    (ARRAY, (STRING, ["x"] * 5000)),
)


def cases() -> Iterator[Case]:
    whole = written()
    for name, read in {"model": _model, "tokenizer": _tokenizer}.items():
        yield Case(f"{name}: as it should be", _file(whole), read, accepted=True)
        yield Case(f"{name}: empty", _file(b""), read, accepted=False)
        yield Case(f"{name}: text", _file(b"hello" * 100), read, accepted=False)
        yield Case(f"{name}: a folder", lambda folder: (folder / "m.gguf").mkdir(), read, accepted=False)
        yield Case(
            f"{name}: a device", lambda folder: (folder / "m.gguf").symlink_to("/dev/zero"), read, accepted=False
        )
        for key in METADATA:
            relevant = key.startswith("tokenizer") == (name == "tokenizer") or key == "general.architecture"
            for number, odd in enumerate(ODD if relevant else ()):
                made = _file(written({**METADATA, key: odd}))
                yield Case(f"{name}: {key} = {number} {short(odd[1])}", made, read)
            made = _file(written({other: value for other, value in METADATA.items() if other != key}))
            yield Case(f"{name}: without {key}", made, read)
        for number, content in enumerate(mutations(whole[:2600], 120, seed=len(name))):
            yield Case(f"{name}: damaged {number}", _file(content + whole[2600:]), read)
        for tensors, pairs in ((2**62, None), (None, 2**62), (0, None), (None, 0), (2**64 - 1, 2**64 - 1)):
            made = _file(written(tensor_count=tensors, pair_count=pairs))
            yield Case(f"{name}: counts {tensors} {pairs}", made, read)
    yield from _tensors()


def _tensors() -> Iterator[Case]:
    for number, shape in enumerate(
        ((), (0,), (0, 16), (2**62, 16), (2**63, 2), (16, 2**40), (1, 1, 1, 1, 1), (32, 17))
    ):
        made = _file(written(shapes={**SHAPES, "token_embd.weight": shape}))
        yield Case(f"tensor of shape {number} {shape}", made, _model, accepted=False)
    for kind in (2, 8, 12, 14, 24, 26, 30, 99, 2**32 - 1):
        yield Case(f"tensors of format {kind}", _file(written(kind=kind)), _model)
    for key in ("general.alignment", "split.count", "llama.attention.key_length", "llama.rope.scaling.type"):
        for number, odd in enumerate(ODD):
            made = _file(written({**METADATA, key: odd}))
            yield Case(f"model: {key} = {number} {short(odd[1])}", made, _model)
    made = _file(written(shapes={**SHAPES, "rope_freqs.weight": (7,)}))
    yield Case("rope factors of another width", made, _model, accepted=False)
    made = _file(written(shapes={**SHAPES, "\x1b[2J" + "n" * 5000: (1,)}))
    yield Case("a tensor with a long name", made, _model, accepted=False)


def _file(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "m.gguf").write_bytes(content)


def _model(folder: Path) -> object:
    return AutoEasyDeLModelForCausalLM.from_pretrained(folder / "m.gguf")


def _tokenizer(folder: Path) -> object:
    tokenizer: Any = load_tokenizer(folder / "m.gguf")
    return tokenizer(["ab cd", "<|im_end|>"])


def written(
    metadata: Mapping[str, tuple[int, Any]] = METADATA,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    *,
    kind: int = 0,
    tensor_count: int | None = None,
    pair_count: int | None = None,
) -> bytes:
    """A GGUF file of version 3 whose tensors hold zeros, with any counts in its header."""
    count = len(shapes) if tensor_count is None else tensor_count
    pairs = len(metadata) if pair_count is None else pair_count
    head = b"GGUF" + struct.pack("<IQQ", 3, count, pairs)
    for key, (value_kind, value) in metadata.items():
        head += _text(key) + struct.pack("<I", value_kind) + _value(value_kind, value)
    data = b""
    for name, shape in shapes.items():
        head += _text(name) + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", size) for size in reversed(shape))
        head += struct.pack("<IQ", kind, len(data))
        size = int(np.prod(shape, dtype=object)) * 4
        data += bytes(min(size, 1 << 16))
        data += bytes(-len(data) % 32)
    return head + bytes(-len(head) % 32) + data


def _text(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<Q", len(content)) + content


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(_value(inner, item) for item in items)
    return struct.pack("<" + {U32: "I", F32: "f", BOOL: "?", U64: "Q", I32: "i"}[kind], value)
