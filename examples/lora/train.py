"""LoRA: small adapters are trained, the model itself stays as it is.

    uv run --group demo python examples/lora/train.py [--quick]

What is saved: the adapters in PEFT's format, a few megabytes, and a model folder with the adapters merged in.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import easydel as ed
import yaml
from easydata_tokenize import load_tokenizer
from easydel.cli.locations import model_location
from easydel.demo import python_docs_rows, tiny_model

# For --quick. Adapters turn what a model knows; one that knows nothing is first taught a little, as a whole.
TAUGHT = {"max_training_steps": 12, "learning_rate": 5e-3}
QUICK = {"max_training_steps": 40, "learning_rate": 1e-2, "max_length": 96, "length_buckets": [1024]}


def main(*, quick: bool = False) -> tuple[float, float]:
    """Train adapters; returns the held-out loss per token before and after."""
    settings = config()
    location = model_location(settings["model"])
    tokenizer = load_tokenizer(location)
    training = settings["training"] | (QUICK if quick else {})
    rows = {"processing_class": tokenizer, "train_dataset": python_docs_rows("train")}
    trainer = ed.SFTTrainer(
        model=taught(tiny_model(tokenizer), rows, training | TAUGHT) if quick else location,
        eval_dataset=python_docs_rows("held-out")[: settings["eval_rows"]],
        arguments=ed.SFTConfig(lora=ed.LoraConfig(**settings["lora"]), **training),
        **rows,
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    trainer.save_adapter("runs/examples/lora/adapters")
    trainer.save_pretrained("runs/examples/lora/model")
    print(f"Held-out loss per token: {before:.3f} before, {after:.3f} after.")
    return before, after


def taught(model: Any, rows: dict[str, Any], training: dict[str, Any]) -> Any:
    trainer = ed.SFTTrainer(model=model, arguments=ed.SFTConfig(**training), **rows)
    trainer.train()
    return trainer.model


def config() -> dict:
    return yaml.safe_load(Path(__file__).with_name("config.yaml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model that knows little, in seconds")
    main(quick=parser.parse_args().quick)
