"""Tokenizer folders of wrong types, and chat templates that fail, never end, or reach for what is none of theirs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cases import ODD_VALUES, SECRET, Case, mutations, short
from easydata_sources import as_sharded_source
from easydata_tokenize import load_tokenizer
from easydel_transforms import SFTPreprocessTransform
from model_cases import TEXTS
from model_cases import _write as write
from transformers import AutoTokenizer, PreTrainedTokenizerFast

PRELOADED = (AutoTokenizer, PreTrainedTokenizerFast)  # once, rather than in each of the processes that a case has

WORDS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", *map(chr, range(33, 127)), "Ġ", "Ċ"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOKENIZER: Mapping[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {"id": number, "content": WORDS[number], "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for number in range(5)
    ],
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": None,
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": {word: number for number, word in enumerate(WORDS)},
        "merges": [],
    },
}
CONFIG: Mapping[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": 64,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "</s>",
    "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
    "clean_up_tokenization_spaces": False,
    "added_tokens_decoder": {},
    "padding_side": "right",
    "chat_template": TEMPLATE,
    "extra_special_tokens": {},
    "auto_map": {},
}
ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
TEMPLATES = {
    "a syntax error": "{% for m in messages %}",
    "an unknown tag": "{% system 'true' %}",
    "an unknown filter": "{{ messages | shell }}",
    "an undefined name": "{{ secret.value }}",
    "division by zero": "{{ 1 / 0 }}",
    "raise_exception": "{{ raise_exception('no \x1b[2J ' + 'x' * 5000) }}",
    "a wrong type": "{{ messages + 1 }}",
    "a missing key": "{{ messages[0]['nothing']['more'] }}",
    "attributes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "attributes by filter": "{{ '' | attr('__class__') }}",
    "globals": "{{ self.__init__.__globals__ }}",
    "cycler": "{{ cycler.__init__.__globals__.os.environ }}",
    "import": "{% import 'os' as os %}",
    "include": "{% include '/etc/passwd' %}",
    "environment": "{{ lipsum.__globals__['os'].environ['HF_TOKEN'] }}",
    "recursion": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "a deep expression": "{{ " + "(" * 400 + "1" + ")" * 400 + " }}",
    "deep blocks": "{% if 1 %}" * 300 + "{% endif %}" * 300,
    "nothing": "",
    "a number": "{{ 7 }}",
    "control characters": "{{ '\x1b[2J\x07\u202e' }}{{ messages[0]['content'] }}",
    "a long name": "{{ " + "x" * 100_000 + " }}",
}


def cases() -> Iterator[Case]:
    yield Case("as it should be", _folder(), _render, accepted=True)
    for key in CONFIG:
        for number, value in enumerate(ODD_VALUES):
            made = _folder(config={**CONFIG, key: value})
            yield Case(f"tokenizer_config.json: {key} = {number} {short(value)}", made, _render)
    for key in TOKENIZER:
        for number, value in enumerate(ODD_VALUES):
            made = _folder(tokenizer={**TOKENIZER, key: value})
            yield Case(f"tokenizer.json: {key} = {number} {short(value)}", made, _render)
    for number, text in enumerate(mutations(json.dumps(TOKENIZER).encode(), 80, seed=5)):
        yield Case(f"tokenizer.json: damaged {number}", _folder(tokenizer=text), _render)
    for number, text in enumerate(mutations(json.dumps(CONFIG).encode(), 60, seed=6)):
        yield Case(f"tokenizer_config.json: damaged {number}", _folder(config=text), _render)
    for name, text in TEXTS.items():
        yield Case(f"tokenizer.json: {name}", _folder(tokenizer=text), _render)
        yield Case(f"tokenizer_config.json: {name}", _folder(config=text), _render)
        yield Case(f"special_tokens_map.json: {name}", _folder(**{"special_tokens_map.json": text}), _render)
        yield Case(f"chat_template.jinja: {name}", _folder(**{"chat_template.jinja": text}), _render)
    for name, template in TEMPLATES.items():
        yield Case(f"template: {name}", _folder(config={**CONFIG, "chat_template": template}), _render)
    yield from _folders()


def _folders() -> Iterator[Case]:
    code = {**CONFIG, "tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    made = _folder(config=code, **{"evil.py": f"open('ran', 'w').write('{SECRET}')\nclass Evil: ...\n".encode()})
    yield Case("code of its own", made, _render, accepted=False)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        yield Case(f"{name} missing", lambda folder, name=name: (_folder()(folder), (folder / name).unlink()), _render)
    yield Case("nothing", lambda folder: None, _render, accepted=False)
    for name in ("nowhere", "no/where", "./nowhere", "/nowhere/a", "x" * 5000, "\x1b[2J", "a\x00b", "../outside", ""):
        yield Case(f"named {short(name)}", lambda folder: None, lambda folder, name=name: load_tokenizer(name))


def _folder(*, tokenizer: Any = TOKENIZER, config: Any = CONFIG, **more: bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        write(folder / "tokenizer.json", tokenizer)
        write(folder / "tokenizer_config.json", config)
        for name, content in more.items():
            (folder / name).write_bytes(content)

    return make


def _render(folder: Path) -> object:
    tokenizer = load_tokenizer(folder)
    transform = SFTPreprocessTransform(tokenizer=tokenizer, max_length=64)
    return list(as_sharded_source([ROW]).transform(transform).rows())
