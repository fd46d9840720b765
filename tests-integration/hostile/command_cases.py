"""YAML files and command lines of wrong types, depth, size and names; targets that cannot be written."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import easydel.cli
import easydel_trainers
from cases import ODD_VALUES, SECRET, Case, mutations, short
from easydel.cli import main
from easydel.cli.main import COMMANDS

# Imported once, rather than in each of the processes that a case has.
for module in pkgutil.walk_packages(easydel.cli.__path__, "easydel.cli."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
PRELOADED = easydel_trainers.SFTTrainer, easydel_trainers.GRPOTrainer, easydel_trainers.DPOTrainer
for name in ("easydel_models.adapters.peft_files", "transformers.models.auto.tokenization_auto"):
    importlib.import_module(name)

YAML = """\
model: nowhere/model
tokenizer: nowhere/tokenizer
train_dataset: rows.jsonl
training:
  learning_rate: 1.0e-4
  total_batch_size: 8
  max_training_steps: 2
  lora: {rank: 4, targets: [q_proj]}
  save_directory: runs/a
"""
KEYS = (
    "model",
    "tokenizer",
    "train_dataset",
    "training",
    "training.learning_rate",
    "training.total_batch_size",
    "training.lora",
    "training.lora.targets",
    "training.bad_rows_budget",
    "training.save_directory",
    "training.report_to",
    "training.optimizer",
    "training.max_length",
    "eval_dataset",
)
TEXTS = {
    "empty": "",
    "a list": "- 1\n- 2\n",
    "a scalar": "text",
    "a tab": "a:\n\tb: 1\n",
    "deep lists": "a: " + "[" * 50_000,
    "deep sections": "".join(f"{' ' * depth}a:\n" for depth in range(1500)),
    "an object": "model: !!python/object/apply:os.system ['true']\n",
    "an unknown tag": "model: !evil 3\n",
    "a billion laughs": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
    "an anchor on itself": "a: &a [*a]\n",
    "a merge key": "<<: {a: 1}\nmodel: b\n",
    "a key twice": "model: a\nmodel: b\n",
    "a list as a key": "? [1, 2]\n: 3\n",
    "control characters": 'model: "\\e[2J"\n"\\e[2Jkey": 1\n',
    "a raw control character": "model: \x07\n",
    "a long key": "k" * 100_000 + ": 1\n",
    "many keys": "".join(f"key{number}: 1\n" for number in range(5000)),
    "a huge number": "training: {total_batch_size: " + "9" * 10_000 + "}\n",
    "a date": "model: 2026-01-01\n",
    "a bad date": "model: 2026-99-99\n",
    "sexagesimal": "training: {total_batch_size: 1:30}\n",
    "binary": "model: !!binary aGVsbG8=\n",
    "bad binary": "model: !!binary '***'\n",
    "a set": "model: !!set {a}\n",
    "two documents": "model: a\n---\nmodel: b\n",
    "a password": f"model: https://user:{SECRET}@host/model?token={SECRET}\ntrain_dataset: http://u:{SECRET}@127.0.0.1:1/a.csv\n",
    "a null key": "null: 1\n",
    "a true key": "true: 1\n",
    "a number as a key": "1: 1\n",
}
WORDS = (
    [],
    ["nothing"],
    ["\x1b[2J"],
    ["x" * 100_000],
    ["sft", "nowhere.yaml"],
    ["sft", "."],
    ["sft", "/dev/null"],
    ["sft", "x" * 5000],
    ["sft", "a\x00b"],
    ["sft", "--set", "a"],
    ["sft", "--set", "=1"],
    ["sft", "--set", "a..b=1"],
    ["sft", "--set", "training.lora.rank.x.y=1", "--print_config"],
    ["sft", "--set", "model=[" * 300],
    ["sft", "--set", "model=*a"],
    ["sft", "--training.learning_rate", "x"],
    ["sft", "--training.learning_rate", "\x1b[2J" + "y" * 5000],
    ["sft", "--model", "m", "--train_dataset", "\x1b[2J.jsonl"],
    ["sft", "--model", f"https://u:{SECRET}@host", "--train_dataset", f"https://u:{SECRET}@127.0.0.1:1/a.jsonl"],
    ["sft", "--model", "nowhere", "--train_dataset", "hub://"],
    ["sft", "--model", "package://", "--train_dataset", "rows.jsonl"],
    ["sft", "--model", "package://os/path", "--train_dataset", "rows.jsonl"],
    ["sft", "--model", "package://../x/y", "--train_dataset", "rows.jsonl"],
    ["sft", "--model", "nowhere", "--train_dataset", "demo://nothing"],
    ["tokenize"],
    ["tokenize", "rows.jsonl", "/dev/null/set", "--tokenizer", "nowhere"],
    ["mix"],
    ["mix", "nothing"],
    ["mix", "simulate", "config.yaml"],
    ["inspect", "config.yaml"],
    ["generate"],
    ["generate", "nowhere", "hello"],
    ["generate", "/dev/zero", "hello"],
    ["generate", "nowhere.gguf", "hello"],
    ["generate", "x" * 5000, "hello"],
    ["generate", "m\x00", "hello"],
    ["generate", "\x1b[2J", "hello"],
    ["generate", "nowhere", "hello", "--temperature", "nan"],
    ["generate", "nowhere", "--file", "/dev/null"],
    ["generate", "nowhere", "--file", "."],
    ["generate", "nowhere", "--file", "nothing"],
    ["chat", "nowhere"],
    ["export", "nowhere", "out"],
    ["export", "nowhere", "/dev/null/out"],
    ["export", "rows.jsonl", "out"],
    ["export", ".", "out"],
    ["launch"],
    ["launch", "--processes", "0", "--", "sft"],
    ["launch", "--processes", "1", "--process_id", "0", "--", "sft"],
    ["completion", "nothing"],
    ["doctor", "--nothing"],
)


def cases() -> Iterator[Case]:
    yield Case("as it should be", _config(YAML), _printed, accepted=True)
    for name, text in TEXTS.items():
        for how, read in {"print": _printed, "run": _run}.items():
            yield Case(f"YAML {name}, {how}", _config(text), read)
    for number, text in enumerate(mutations(YAML.encode(), 150, seed=7)):
        yield Case(f"YAML damaged {number}", _config(text), _printed)
    for key in KEYS:
        for number, value in enumerate(ODD_VALUES):
            made, word = _config(YAML), f"--set={key}={_yaml(value)}"
            read = _words(["sft", "config.yaml", word, "--print_config"])
            yield Case(f"{key} = {number} {short(value)}", made, read)
    for number, words in enumerate(WORDS):
        yield Case(f"words {number} {short(words)}", _config(YAML), _words(words))
    for command in COMMANDS:
        for text in ("deep lists", "an object", "control characters", "a number as a key"):
            yield Case(f"{command} of {text}", _config(TEXTS[text]), _words([command, "config.yaml"]))


def _config(text: str | bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        (folder / "rows.jsonl").write_text('{"text": "a"}\n')

    return make


def _printed(folder: Path) -> object:
    # All of a good config is more than a screen, as it was asked for.
    import contextlib
    import os

    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        return main(["sft", "config.yaml", "--print_config"])


def _run(folder: Path) -> object:
    return main(["sft", "config.yaml"])


def _words(words: list[str]) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        import contextlib
        import os

        if "--print_config" not in words:
            return main(words)
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            return main(words)

    return read


def _yaml(value: Any) -> str:
    import sys

    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value)
    finally:
        sys.set_int_max_str_digits(4300)
