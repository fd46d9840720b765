"""Tokenize once, train as often as you like: rows become Parquet files of token ids, and training reads those.

uv run --group demo python examples/pretokenize/train.py [--quick]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import easydel as ed
import yaml
from easydata_tokenize import load_tokenizer
from easydel.data import ParquetShardedSource, tokenize_and_save
from easydel.demo import python_docs_rows, tiny_model

QUICK = {"max_training_steps": 30, "learning_rate": 5e-3, "max_length": 96, "length_buckets": [1024]}  # for --quick


def main(*, quick: bool = False, folder: Path = Path("runs/examples/pretokenize")) -> tuple[float, float]:
    """Tokenize, then train; returns the held-out loss per token before and after."""
    settings = config()
    model = settings["model"]  # a folder, a Hub id, a .gguf file, package://PACKAGE/FILE
    tokenizer = load_tokenizer(model)
    write_rows(folder / "rows" / "train.jsonl")
    tokenize_and_save(
        data_files=str(folder / "rows" / "*.jsonl"),
        tokenizer=tokenizer,
        output_path=str(folder / "tokenized"),
        **settings["tokenize"],
    )
    trainer = ed.SFTTrainer(
        model=tiny_model(tokenizer) if quick else model,
        processing_class=tokenizer,
        train_dataset=ParquetShardedSource(str(folder / "tokenized" / "*.parquet")),
        eval_dataset=python_docs_rows("held-out")[: settings["eval_rows"]],
        arguments=ed.SFTConfig(**settings["training"] | (QUICK if quick else {})),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    print(f"Held-out loss per token: {before:.3f} before, {after:.3f} after.")
    return before, after


def write_rows(path: Path) -> None:
    """The training rows as a file, as one would have them from elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row) for row in python_docs_rows("train"))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def config() -> dict:
    return yaml.safe_load(Path(__file__).with_name("config.yaml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model that knows nothing, in a minute")
    main(quick=parser.parse_args().quick)
