"""A curriculum: short answers first, long ones later, by weights that change as training goes.

    uv run --group demo python examples/curriculum/train.py [--quick]

The mixture's order is a function of weights, schedule and seed alone, so a run that was killed goes on with the very
row it would have read.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import easydel as ed
import yaml
from easydata_sources import as_sharded_source
from easydata_tokenize import load_tokenizer
from easydel.data import MixedShardedSource, WeightSchedulePoint, WeightScheduler
from easydel.demo import python_docs_rows, tiny_model

QUICK = {"max_training_steps": 30, "learning_rate": 5e-3, "max_length": 96, "length_buckets": [1024]}  # for --quick


def main(*, quick: bool = False) -> tuple[float, float]:
    """Train; returns the held-out loss per token of the long answers before and after."""
    settings = config()
    model = settings["model"]  # a folder, a Hub id, a .gguf file, package://PACKAGE/FILE
    tokenizer = load_tokenizer(model)
    short, long = by_length(python_docs_rows("train"))
    _, held_out = by_length(python_docs_rows("held-out"))
    mixed = MixedShardedSource(
        sources={"short": as_sharded_source(short), "long": as_sharded_source(long)},
        weight_scheduler=WeightScheduler(
            schedule=[WeightSchedulePoint(**point) for point in settings["schedule"]], interpolation="linear"
        ),
        block_size=settings["block_size"],
        seed=0,
    )
    trainer = ed.SFTTrainer(
        model=tiny_model(tokenizer) if quick else model,
        processing_class=tokenizer,
        train_dataset=mixed,
        eval_dataset=held_out[: settings["eval_rows"]],
        arguments=ed.SFTConfig(**settings["training"] | (QUICK if quick else {})),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    print(f"Held-out loss per token of long answers: {before:.3f} before, {after:.3f} after.")
    return before, after


def by_length(rows: list[dict[str, Any]], border: int = 150) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows whose answers have at most `border` characters, and the others."""
    short = [row for row in rows if len(row["completion"][0]["content"]) <= border]
    long = [row for row in rows if len(row["completion"][0]["content"]) > border]
    return short, long


def config() -> dict:
    return yaml.safe_load(Path(__file__).with_name("config.yaml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model that knows nothing, in a minute")
    main(quick=parser.parse_args().quick)
