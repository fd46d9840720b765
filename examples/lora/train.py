"""LoRA: small adapters are trained, the model itself stays as it is.

    uv run --group demo python examples/lora/train.py [--quick]

What is saved: the adapters in PEFT's format, a few megabytes, and a model folder with the adapters merged in.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import easydel as ed
import yaml
from easydata_tokenize import load_tokenizer
from easydel.demo import python_docs_rows

QUICK = {  # for --quick
    "max_training_steps": 6,
    "learning_rate": 3e-3,
    "total_batch_size": 4,
    "max_length": 96,
    "length_buckets": [384],
}


def main(*, quick: bool = False) -> tuple[float, float]:
    """Train adapters; returns the held-out loss per token before and after."""
    settings = config()
    model = settings["model"]  # a folder, a Hub id, a .gguf file, package://PACKAGE/FILE
    trainer = ed.SFTTrainer(
        model=model,
        processing_class=load_tokenizer(model),
        train_dataset=python_docs_rows("train"),
        eval_dataset=python_docs_rows("held-out")[: 8 if quick else settings["eval_rows"]],
        arguments=ed.SFTConfig(
            lora=ed.LoraConfig(**settings["lora"]), **settings["training"] | (QUICK if quick else {})
        ),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    trainer.save_adapter("runs/examples/lora/adapters")
    trainer.save_pretrained("runs/examples/lora/model")
    print(f"Held-out loss per token: {before:.3f} before, {after:.3f} after.")
    return before, after


def config() -> dict:
    return yaml.safe_load(Path(__file__).with_name("config.yaml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the same model, for a minute")
    main(quick=parser.parse_args().quick)
