"""Folders that call themselves runs: run.yaml of wrong types, checkpoints that are none, links out of the folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from cases import ODD_VALUES, Case, mutations, short
from command_cases import TEXTS
from easydel.cli import main

RUN = """\
trainer: sft
model: nowhere/model
tokenizer: null
train_dataset: rows.jsonl
training:
  learning_rate: 1.0e-4
  max_training_steps: 2
  save_directory: run
"""
KEYS = ("trainer", "model", "tokenizer", "train_dataset", "training", "training.lora", "training.save_directory")
CODE = "open('../outside/keep.txt', 'w').write('ran')\n"


def cases() -> Iterator[Case]:
    for name, text in TEXTS.items():
        yield Case(f"run.yaml {name}", _run(text), _export, accepted=False)
    for number, text in enumerate(mutations(RUN.encode(), 60, seed=10)):
        yield Case(f"run.yaml damaged {number}", _run(text), _export, accepted=False)
    for key in KEYS:
        for number, value in enumerate(ODD_VALUES):
            yield Case(f"run.yaml: {key} = {number} {short(value)}", _run(_with(key, value)), _export, accepted=False)
    for name in ("sft", "grpo", "dpo", "reward"):
        text = RUN.replace("trainer: sft", f"trainer: {name}") + 'reward_funcs: ["code.py:reward"]\n'
        yield Case(f"code of a {name} run", _run(text), _export, accepted=False)
    for name in ("run.yaml", "checkpoints", "checkpoints/1", "log.jsonl", "model", "rows"):
        yield Case(f"{name} links outside", _run(RUN, links=(name,)), _export, accepted=False)
    for name in ("generate", "chat", "tokenize"):
        yield Case(f"{name} of a run", _run(RUN), lambda folder, name=name: main([name, "run", "hello"]))


def _run(text: str | bytes, *, links: tuple[str, ...] = ()) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / "run" / "checkpoints" / "1").mkdir(parents=True)
        (folder / "run" / "run.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        (folder / "rows.jsonl").write_text('{"text": "a"}\n')
        for place in (folder, folder / "run"):
            (place / "code.py").write_text(CODE)
        for name in links:
            path = folder / "run" / name
            if path.is_dir():
                path.rename(folder / "moved")
            path.unlink(missing_ok=True)
            path.symlink_to(folder.parent / "outside")

    return make


def _with(key: str, value: object) -> str:
    import sys

    sys.set_int_max_str_digits(0)
    try:
        text = json.dumps(value)
    finally:
        sys.set_int_max_str_digits(4300)
    lines = [line for line in RUN.splitlines() if not line.startswith(f"{key}:")]
    _, _, inner = key.partition(".")
    if not inner:
        whole = [line for line in lines if not (key == "training" and line.startswith("  "))]
        return "\n".join([*whole, f"{key}: {text}"]) + "\n"
    return "\n".join([*lines, f"  {inner}: {text}"]) + "\n"


def _export(folder: Path) -> object:
    return main(["export", "run", "out"])
