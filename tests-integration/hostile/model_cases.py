"""Model folders of wrong types, sizes and bytes: config.json, generation_config.json, safetensors and their index."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from cases import ODD_VALUES, Case, mutations, short
from easydel_models import AutoEasyDeLModelForCausalLM, AutoEasyDeLModelForSequenceClassification, DecoderConfig
from easydel_models.files.weights import export_shapes
from safetensors.numpy import save, save_file

CONFIG: Mapping[str, Any] = DecoderConfig(
    vocab_size=32, dim=16, num_layers=2, num_heads=2, num_kv_heads=1, mlp_dim=24, bos_token_id=1, eos_token_ids=(2,)
).to_hf()
SHAPES = export_shapes(DecoderConfig.from_hf(CONFIG))
# What no field of any family is called, beside what they are called.
OTHER_KEYS = ("sliding_window", "num_labels", "rope_scaling", "quantization_config", "auto_map", "layer_types")
KEYS = tuple(dict.fromkeys((*CONFIG, *OTHER_KEYS)))


def cases() -> Iterator[Case]:
    yield Case("as it should be", _folder(), _load, accepted=True)
    yield from _configs()
    yield from _generation_configs()
    yield from _weights()
    yield from _indices()
    yield from _folders()


def _configs() -> Iterator[Case]:
    for key in KEYS:
        for number, value in enumerate(ODD_VALUES):
            changed = {**CONFIG, key: value}
            yield Case(f"config.json: {key} = {number} {short(value)}", _folder(config=changed), _load)
    for inner in ("rope_type", "type", "rope_theta", "factor", "low_freq_factor", "original_max_position_embeddings"):
        for number, value in enumerate(ODD_VALUES):
            rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
            rope |= {"original_max_position_embeddings": 64, inner: value}
            changed = {**CONFIG, "rope_scaling": rope, "rope_parameters": None}
            yield Case(f"config.json: rope {inner} = {number} {short(value)}", _folder(config=changed), _load)
    for number, text in enumerate(mutations(json.dumps(CONFIG).encode(), 80, seed=1)):
        yield Case(f"config.json: damaged {number}", _folder(config=text), _load)
    for name, text in TEXTS.items():
        yield Case(f"config.json: {name}", _folder(config=text), _load, accepted=False)


TEXTS = {
    "empty": b"",
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a huge number": b'{"model_type": "llama", "hidden_size": ' + b"9" * 10_000 + b"}",
    "a byte-order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"model_type": "llama"}'.encode("utf-16"),
    "null bytes": bytes(1000),
    "control characters": b'{"model_type": "\\u001b[2J\\u0007"}',
    "a long name": b'{"model_type": "' + b"x" * 100_000 + b'"}',
}


def _generation_configs() -> Iterator[Case]:
    for key in ("eos_token_id", "temperature", "top_k", "top_p", "do_sample", "pad_token_id"):
        for number, value in enumerate(ODD_VALUES):
            made = _folder(generation={key: value})
            yield Case(f"generation_config.json: {key} = {number} {short(value)}", made, _load)
    for name, text in TEXTS.items():
        yield Case(f"generation_config.json: {name}", _folder(generation=text), _load)


def _weights() -> Iterator[Case]:
    whole = save(_tensors())
    for number, content in enumerate(mutations(whole[:2000], 80, seed=2)):
        yield Case(f"model.safetensors: damaged {number}", _folder(weights=content + whole[2000:]), _load)
    for name in ("int8", "uint8", "bool", "int32", "int64", "uint16", "float64", "float16"):
        tensors = {key: np.zeros(shape, name) for key, shape in SHAPES.items()}
        made = _folder(weights=save(tensors))
        yield Case(f"model.safetensors: {name}", made, _load, accepted=name.startswith("float"))
    for kind in ("F8_E4M3", "F8_E5M2", "I8", "BOOL", "F4", "X", 7, None, "BF16"):
        yield Case(f"model.safetensors: header of {kind}", _folder(weights=_with_header(whole, dtype=kind)), _load)
    for number, shape in enumerate(([], [0], [-1], [2**62], [2**31, 2**31], ["a"], 7, None, [1.5], [[]])):
        yield Case(f"model.safetensors: shape {number}", _folder(weights=_with_header(whole, shape=shape)), _load)
    for number, offsets in enumerate(([0, 0], [0, 2**62], [-1, 1], [10, 5], ["a", "b"], None, [0], [0, 4, 8])):
        content = _with_header(whole, data_offsets=offsets)
        yield Case(f"model.safetensors: offsets {number}", _folder(weights=content), _load)
    for number, size in enumerate((0, 1, 2**20, 2**40, 2**63, 2**64 - 1)):
        content = struct.pack("<Q", size) + whole[8:]
        yield Case(f"model.safetensors: header length {number}", _folder(weights=content), _load, accepted=False)
    for shape in ((1, 1), (32, 17), (16, 32), (32,)):
        tensors = _tensors() | {"model.embed_tokens.weight": np.zeros(shape, np.float32)}
        yield Case(f"model.safetensors: embedding {shape}", _folder(weights=save(tensors)), _load, accepted=False)
    names = {f"\x1b[2J{number}" + "n" * 300: np.zeros(1, np.float32) for number in range(300)}
    yield Case("model.safetensors: long names", _folder(weights=save(_tensors() | names)), _load, accepted=False)
    for label, value in {"NaN": np.nan, "infinity": np.inf}.items():
        tensors = {key: np.full(shape, value, np.float32) for key, shape in SHAPES.items()}
        yield Case(f"model.safetensors: {label}", _folder(weights=save(tensors)), _load)


def _indices() -> Iterator[Case]:
    good = dict.fromkeys(SHAPES, "model.safetensors")
    first = next(iter(SHAPES))
    for number, value in enumerate(ODD_VALUES):
        yield Case(f"index: {number} {short(value)}", _folder(index=value), _load)
        yield Case(f"index: weight_map = {number} {short(value)}", _folder(index={"weight_map": value}), _load)
        made = _folder(index={"weight_map": {**good, first: value}})
        yield Case(f"index: a file = {number} {short(value)}", made, _load)
    for name, text in TEXTS.items():
        yield Case(f"index: {name}", _folder(index=text), _load, accepted=False)
    for name in ("../outside/keep.txt", "/etc/passwd", ".", "..", "", "a/b", "con\x00trol", "\x1b[31m.safetensors"):
        made = _folder(index={"weight_map": {**good, first: name}})
        yield Case(f"index: a file named {name!r}", made, _load, accepted=False)


def _folders() -> Iterator[Case]:
    def without(name: str) -> Callable[[Path], object]:
        return lambda folder: (_folder()(folder), (folder / name).unlink())

    def instead(name: str, put: Callable[[Path], object]) -> Callable[[Path], object]:
        return lambda folder: (_folder()(folder), (folder / name).unlink(), put(folder / name))

    for name in ("config.json", "model.safetensors"):
        yield Case(f"{name} missing", without(name), _load, accepted=False)
        yield Case(f"{name} a folder", instead(name, Path.mkdir), _load, accepted=False)
        yield Case(f"{name} a broken link", instead(name, lambda path: path.symlink_to("nowhere")), _load)
        yield Case(f"{name} a link to itself", instead(name, lambda path: path.symlink_to(path.name)), _load)
        yield Case(f"{name} a pipe", instead(name, _pipe), _load, accepted=False)
        yield Case(f"{name} a device", instead(name, lambda path: path.symlink_to("/dev/zero")), _load, accepted=False)
    for name in ("pytorch_model.bin", "model.pt", "modeling_evil.py"):
        made = _folder()
        yield Case(f"{name} beside", lambda folder, name=name, made=made: (made(folder), _code(folder / name)), _load)
    yield Case("as a classifier", _folder(), _classifier, accepted=True)
    for number, value in enumerate(ODD_VALUES):
        changed = {**CONFIG, "architectures": ["LlamaForSequenceClassification"], "num_labels": value}
        yield Case(f"classifier: num_labels = {number} {short(value)}", _folder(config=changed), _classifier)
        changed = {**CONFIG, "architectures": ["LlamaForSequenceClassification"], "id2label": value}
        yield Case(f"classifier: id2label = {number} {short(value)}", _folder(config=changed), _classifier)


def _load(folder: Path) -> object:
    return AutoEasyDeLModelForCausalLM.from_pretrained(folder)


def _classifier(folder: Path) -> object:
    return AutoEasyDeLModelForSequenceClassification.from_pretrained(folder)


def _pipe(path: Path) -> None:
    import os

    os.mkfifo(path)


def _code(path: Path) -> None:
    path.write_text("import os; os.system('true')\n")


def _tensors() -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


def _with_header(whole: bytes, **changed: Any) -> bytes:
    """The file with something else said about its first tensor."""
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    name = next(name for name in header if name != "__metadata__")
    header[name] |= changed
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + whole[8 + size :]


def _folder(
    *, config: Any = CONFIG, generation: Any = None, weights: bytes | None = None, index: Any = ...
) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        _write(folder / "config.json", config)
        if generation is not None:
            _write(folder / "generation_config.json", generation)
        if index is not ...:
            _write(folder / "model.safetensors.index.json", index)
        if weights is None:
            save_file(_tensors(), folder / "model.safetensors")
        else:
            (folder / "model.safetensors").write_bytes(weights)

    return make


def _write(path: Path, content: Any) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(_json(content))


def _json(content: Any) -> str:
    """As JSON; Python refuses to write numbers of more digits than it reads."""
    import sys

    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(content)
    finally:
        sys.set_int_max_str_digits(4300)
