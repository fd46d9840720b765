"""DPO: of two answers the whole sentence is preferred to the one that breaks off.

    uv run --group demo python examples/dpo/train.py [--quick]

The reference model is the model itself before training; none has to be given.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import easydel as ed
import yaml
from easydata_tokenize import load_tokenizer
from easydel.demo import python_docs_unfinished, tiny_model

QUICK = {"max_training_steps": 30, "learning_rate": 5e-3}  # for --quick


def main(*, quick: bool = False) -> tuple[float, float]:
    """Train; returns the loss of held-out pairs before and after."""
    settings = config()
    model = settings["model"]  # a folder, a Hub id, a .gguf file, package://PACKAGE/FILE
    tokenizer = load_tokenizer(model)
    trainer = ed.DPOTrainer(
        model=tiny_model(tokenizer) if quick else model,
        processing_class=tokenizer,
        train_dataset=python_docs_unfinished("train"),
        eval_dataset=python_docs_unfinished("held-out")[: settings["eval_rows"]],
        arguments=ed.DPOConfig(**settings["training"] | (QUICK if quick else {})),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    measured = trainer.evaluate()
    after = measured["eval_loss"]
    trainer.save_pretrained("runs/examples/dpo/model")
    print(f"Held-out loss: {before:.3f} before, {after:.3f} after.")
    print(f"The chosen answer gains more in {measured['eval_rewards/accuracies']:.0%} of held-out pairs.")
    return before, after


def config() -> dict:
    return yaml.safe_load(Path(__file__).with_name("config.yaml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model that knows nothing, in a minute")
    main(quick=parser.parse_args().quick)
