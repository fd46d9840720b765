"""The README's first command on the real model, cut short: what it shows, leaves behind and takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from light_compilation import as_users_compile

CONFIG = Path(__file__).parent.parent / "examples" / "smollm2_sft.yaml"
SHORTER = {
    "eval_rows": 8,
    "preview_max_tokens": 8,
    "require_nll_drop": 0.01,
    "training.max_training_steps": 3,
    "training.total_batch_size": 4,
    "training.max_length": 96,
}


def test_the_demo_learns_within_its_memory(tmp_path):
    overrides = [word for key, value in SHORTER.items() for word in ("--set", f"{key}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "easydel.cli", "sft", str(CONFIG), *overrides],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=as_users_compile(os.environ),
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stdout.count("╭─ What ") == 3, "three held-out questions"
    assert "Training loss by step" in done.stdout
    assert "Model folder: runs/smollm2_sft/model" in done.stdout
    folder = tmp_path / "runs" / "smollm2_sft"
    for name in ("model/model.safetensors", "model/config.json", "model/tokenizer.json", "log.jsonl", "summary.json"):
        assert (folder / name).is_file()
    peak = json.loads((folder / "summary.json").read_text())["peak_memory_bytes"]
    assert peak < 4.0e9, f"the demo took {peak / 1e9:.2f} GB"
