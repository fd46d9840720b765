"""KTO: answers that are good or bad, each alone, with more bad ones than good ones.

    uv run --group demo python examples/kto/train.py [--quick]

Weights even out the two kinds: `undesirable_weight` times the bad rows should be near `desirable_weight` times the good
ones, and the trainer says so when it is not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import easydel as ed
import yaml
from easydata_tokenize import load_tokenizer
from easydel.demo import python_docs_unfinished, tiny_model

# For --quick.
QUICK = {"max_training_steps": 80, "learning_rate": 3e-3, "total_batch_size": 16, "beta": 0.3, "length_buckets": [1536]}


def main(*, quick: bool = False) -> tuple[float, float]:
    """Train; returns the loss of held-out rows before and after."""
    settings = config()
    model = settings["model"]  # a folder, a Hub id, a .gguf file, package://PACKAGE/FILE
    tokenizer = load_tokenizer(model)
    trainer = ed.KTOTrainer(
        model=tiny_model(tokenizer) if quick else model,
        processing_class=tokenizer,
        train_dataset=labelled(python_docs_unfinished("train")),
        eval_dataset=labelled(python_docs_unfinished("held-out")[: settings["eval_rows"]]),
        arguments=ed.KTOConfig(**settings["training"] | (QUICK if quick else {})),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    trainer.save_pretrained("runs/examples/kto/model")
    print(f"Held-out loss: {before:.3f} before, {after:.3f} after.")
    return before, after


def labelled(pairs: list[dict]) -> list[dict]:
    """Single answers with a label: every bad one, and every second good one."""
    rows = []
    for number, pair in enumerate(pairs):
        rows.append({"prompt": pair["prompt"], "completion": pair["rejected"], "label": False})
        if number % 2 == 0:
            rows.append({"prompt": pair["prompt"], "completion": pair["chosen"], "label": True})
    return rows


def config() -> dict:
    return yaml.safe_load(Path(__file__).with_name("config.yaml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model that knows nothing, in a minute")
    main(quick=parser.parse_args().quick)
