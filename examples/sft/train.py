"""Supervised fine-tuning: questions about Python's standard library, and their answers.

    uv run --group demo python examples/sft/train.py [--quick]

The rows, some thousands, are made from the docstrings of the Python that runs this; a twentieth of them is held out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import easydel as ed
import yaml
from easydata_tokenize import load_tokenizer
from easydel.demo import python_docs_rows, tiny_model

QUICK = {"max_training_steps": 30, "learning_rate": 5e-3, "max_length": 96, "length_buckets": [1024]}  # for --quick


def main(*, quick: bool = False) -> tuple[float, float]:
    """Train; returns the held-out loss per token before and after."""
    settings = config()
    model = settings["model"]  # a folder, a Hub id, a .gguf file, package://PACKAGE/FILE
    tokenizer = load_tokenizer(model)
    trainer = ed.SFTTrainer(
        model=tiny_model(tokenizer) if quick else model,
        processing_class=tokenizer,
        train_dataset=python_docs_rows("train"),
        eval_dataset=python_docs_rows("held-out")[: settings["eval_rows"]],
        arguments=ed.SFTConfig(**settings["training"] | (QUICK if quick else {})),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    trainer.save_pretrained("runs/examples/sft/model")
    print(f"Held-out loss per token: {before:.3f} before, {after:.3f} after.")
    return before, after


def config() -> dict:
    return yaml.safe_load(Path(__file__).with_name("config.yaml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model that knows nothing, in a minute")
    main(quick=parser.parse_args().quick)
