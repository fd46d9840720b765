"""Finished runs with one damaged file in their newest checkpoint, exported: what comes out, if anything, is whole."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import easydel.cli
import easydel_trainers.checkpoints.checkpointer
import safetensors.numpy
from cases import Case, mutations
from easydel.cli import main
from tokenizer_cases import CONFIG, TOKENIZER

for module in pkgutil.walk_packages(easydel.cli.__path__, "easydel.cli."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
PRELOADED = (easydel_trainers.checkpoints.checkpointer, safetensors.numpy)

DAMAGED, EMPTIED, REMOVED = 120, 20, 20
STEPS = 2
TRAIN = f"""\
model: base
train_dataset: rows.jsonl
training:
  max_training_steps: {STEPS}
  save_steps: 1
  total_batch_size: 1
  max_length: 32
  progress_bar: false
  save_directory: run
"""
PREPARED = """\
import sys
from pathlib import Path
from easydel.cli import main
from easydel_models import AutoEasyDeLModelForCausalLM, DecoderConfig
config = DecoderConfig(vocab_size=128, dim=16, num_layers=2, num_heads=2, num_kv_heads=1, mlp_dim=32,
                       eos_token_ids=(2,), pad_token_id=2)
AutoEasyDeLModelForCausalLM.from_config(config).save_pretrained("base")
assert main(["sft", "config.yaml"]) == 0
checkpoints, steps = Path("run", "checkpoints"), range(1, int(sys.argv[1]) + 1)
for step in reversed(steps):
    assert main(["export", "run", f"exported-{step}"]) == 0
    (checkpoints / str(step)).rename(str(step))
for step in steps:
    Path(str(step)).rename(checkpoints / str(step))
"""


def prepare(folder: Path) -> None:
    """Train a run with a checkpoint after each step and export each, in a process of its own: threads cannot fork."""
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": word * 5}) + "\n" for word in ("abc", "xyz")))
    (folder / "config.yaml").write_text(TRAIN)
    (folder / "base").mkdir()
    (folder / "base" / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "base" / "tokenizer_config.json").write_text(json.dumps(dict(CONFIG)))
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-c", PREPARED, str(STEPS)]
    done = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def cases() -> Iterator[Case]:
    """What is damaged is found when the run is there: a case takes the file of its number, round and round."""
    yield Case("as it should be", _copied, _export, accepted=True)
    for number in range(DAMAGED):
        yield Case(f"file {number} damaged", partial(_changed, number, partial(_damage, number)), _export)
    for number in range(EMPTIED):
        yield Case(f"file {number} emptied", partial(_changed, number, lambda path: path.write_bytes(b"")), _export)
    for number in range(REMOVED):
        yield Case(f"file {number} removed", partial(_changed, number, Path.unlink), _export)


def _copied(folder: Path) -> None:
    shutil.copytree(folder.parent.parent / "prepared", folder, dirs_exist_ok=True)


def _changed(number: int, change: Callable[[Path], object], folder: Path) -> None:
    _copied(folder)
    newest = folder / "run" / "checkpoints" / str(STEPS)
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    change(files[number % len(files)])


def _damage(number: int, path: Path) -> None:
    path.write_bytes(mutations(path.read_bytes(), number + 1, seed=12)[number])


def _export(folder: Path) -> object:
    code = main(["export", "run", "out"])
    if code == 0:
        weights = (folder / "out" / "model.safetensors").read_bytes()
        sound = [(folder / f"exported-{step}" / "model.safetensors").read_bytes() for step in range(1, STEPS + 1)]
        assert weights in sound, "weights that no checkpoint held"
    return code
