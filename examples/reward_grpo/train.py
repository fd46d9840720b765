"""From pairs of answers to a reward model, and from the reward model to GRPO.

    uv run --group demo python examples/reward_grpo/train.py [--quick]

Of two answers the whole sentence is preferred to the one that breaks off. The reward model learns that from pairs; the
policy only ever sees what the reward model makes of its tries.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import easydel as ed
import yaml
from easydata_tokenize import load_tokenizer
from easydel.demo import python_docs_rows, python_docs_unfinished, tiny_model

QUICK = {  # for --quick
    "reward": {"max_training_steps": 40, "learning_rate": 5e-3},
    "policy": {"max_training_steps": 20, "learning_rate": 2e-3},
}
# A new model never ends an answer, and GRPO cannot prefer what no try shows; so it is taught a little first.
TAUGHT = {"max_training_steps": 40, "learning_rate": 1e-2, "max_length": 96, "length_buckets": [768]}
REWARD_MODEL = "runs/examples/reward_grpo/reward_model"
HIGHER_IS_BETTER = True


def main(*, quick: bool = False) -> tuple[float, float]:
    """Train both; returns the reward of answers to held-out prompts before and after."""
    settings = config()
    if quick:
        settings = settings | {part: settings[part] | QUICK[part] for part in QUICK}
    model = settings["model"]  # a folder, a Hub id, a .gguf file, package://PACKAGE/FILE
    tokenizer = load_tokenizer(model)
    scores = tiny_model(tokenizer, scores=True) if quick else model
    train_reward_model(scores, tokenizer, settings)
    return train_policy(taught(tiny_model(tokenizer), tokenizer) if quick else model, tokenizer, settings)


def train_reward_model(model: Any, tokenizer: Any, settings: dict) -> None:
    trainer = ed.RewardTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=python_docs_unfinished("train"),
        eval_dataset=python_docs_unfinished("held-out")[: settings["eval_rows"]],
        arguments=ed.RewardConfig(**settings["reward"]),
    )
    trainer.train()
    print(f"The whole sentence wins in {trainer.evaluate()['eval_accuracy']:.0%} of held-out pairs.")
    trainer.save_pretrained(REWARD_MODEL)


def taught(model: Any, tokenizer: Any) -> Any:
    trainer = ed.SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=python_docs_rows("train"),
        arguments=ed.SFTConfig(total_batch_size=8, **TAUGHT),
    )
    trainer.train()
    return trainer.model


def train_policy(model: Any, tokenizer: Any, settings: dict) -> tuple[float, float]:
    trainer = ed.GRPOTrainer(
        model=model,
        reward_funcs=REWARD_MODEL,  # a folder with a model that gives scores
        processing_class=tokenizer,
        train_dataset=prompts("train"),
        eval_dataset=prompts("held-out")[: settings["eval_rows"]],
        arguments=ed.GRPOConfig(**settings["policy"]),
    )
    before = trainer.evaluate()["eval_reward"]
    trainer.train()
    after = trainer.evaluate()["eval_reward"]
    trainer.save_pretrained("runs/examples/reward_grpo/model")
    print(f"Reward on held-out prompts: {before:.3f} before, {after:.3f} after.")
    return before, after


def prompts(split: str) -> list[dict[str, Any]]:
    return [{"prompt": row["prompt"]} for row in python_docs_unfinished(split)]


def config() -> dict:
    return yaml.safe_load(Path(__file__).with_name("config.yaml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny models, in a minute or two")
    main(quick=parser.parse_args().quick)
