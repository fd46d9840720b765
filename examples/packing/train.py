"""Packing: several short rows in one bin of fixed length, so that no position of a batch is empty.

uv run --group demo python examples/packing/train.py [--quick]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import easydel as ed
import yaml
from easydata_sources import as_sharded_source
from easydata_tokenize import load_tokenizer
from easydel.data import PackedShardedSource, TransformedShardedSource
from easydel.demo import python_docs_rows, tiny_model
from easydel.trainers.transforms import SFTPreprocessTransform

QUICK = {"max_training_steps": 20, "learning_rate": 5e-3}  # for --quick


def main(*, quick: bool = False) -> tuple[float, float]:
    """Pack, then train; returns the held-out loss per token before and after."""
    settings = config()
    model = settings["model"]  # a folder, a Hub id, a .gguf file, package://PACKAGE/FILE
    tokenizer = load_tokenizer(model)
    tokenized = TransformedShardedSource(
        as_sharded_source(python_docs_rows("train")),
        transform=SFTPreprocessTransform(tokenizer=tokenizer, max_length=settings["seq_length"]),
    )
    packed = PackedShardedSource(tokenized, seq_length=settings["seq_length"], strategy=settings["strategy"])
    trainer = ed.SFTTrainer(
        model=tiny_model(tokenizer) if quick else model,
        processing_class=tokenizer,
        train_dataset=packed,
        eval_dataset=python_docs_rows("held-out")[: settings["eval_rows"]],
        arguments=ed.SFTConfig(**settings["training"] | (QUICK if quick else {})),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    print(f"Held-out loss per token: {before:.3f} before, {after:.3f} after.")
    return before, after


def config() -> dict:
    return yaml.safe_load(Path(__file__).with_name("config.yaml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model that knows nothing, in a minute")
    main(quick=parser.parse_args().quick)
