"""Each of the six preference trainers learns a rule: an answer that ends in a full stop is the better one.

Rows are random words, so nothing but the rule tells the answers apart: both may hold full stops elsewhere, both are
equally long. 200 steps must lift a tiny model that knows nothing from chance to at least 0.9 on prompts and answers it
never saw. One yardstick for the five that train a language model: how often it gives the chosen answer the larger
log-probability. The reward model is asked for its scores.

    nox -s learn        # all six, three seeds each; without its EASYDEL_LEARN_SEEDS one run of one of them
"""

from __future__ import annotations

import os
import random
import time

import easydel as ed
import pytest

WORDS, MARKS = [f"w{number}" for number in range(48)], [".", ",", "!", "?"]  # what the tokenizer knows
STEPS, BATCH, HELD_OUT = 200, 16, 256
GOAL = 0.9
CHANCE = (0.35, 0.65)
UNPAIRED = ("KTO", "BCO")
SHARED = {
    "total_batch_size": BATCH,
    "max_training_steps": STEPS,
    "scheduler": "constant",
    "log_steps": STEPS,
    "eval_batch_size": 64,
    "length_buckets": [1024],
    "gradient_checkpointing": "none",
    "max_length": 32,
}
# Larger than for a real model, as the model is smaller.
OWN = {
    "DPO": {"learning_rate": 3e-3, "beta": 0.1},
    "ORPO": {"learning_rate": 3e-3, "beta": 1.0},
    "CPO": {"learning_rate": 3e-3, "beta": 0.1},
    "KTO": {"learning_rate": 3e-3, "beta": 0.1},
    "BCO": {"learning_rate": 3e-3, "beta": 0.1},
    "Reward": {"learning_rate": 3e-3},
}
SEEDS = range(int(os.environ.get("EASYDEL_LEARN_SEEDS", "0")))
RUNS = [(name, seed) for name in OWN for seed in SEEDS] or [("CPO", 0)]


@pytest.mark.parametrize(("name", "seed"), RUNS)
def test_a_full_stop_at_the_end_is_preferred(name, seed, tokenizer, tiny_config, capsys):
    began = time.perf_counter()
    seen, held_out = rows(seed)
    of_kind = ed.AutoEasyDeLModelForSequenceClassification if name == "Reward" else ed.AutoEasyDeLModelForCausalLM
    trainer = getattr(ed, f"{name}Trainer")(
        of_kind.from_config(tiny_config, seed=seed),
        getattr(ed, f"{name}Config")(seed=seed, **SHARED, **OWN[name]),
        processing_class=tokenizer,
        train_dataset=unpaired(seen) if name in UNPAIRED else seen,
    )
    before = preferred(trainer, held_out)
    steps = trainer.train().global_step
    after = preferred(trainer, held_out)
    with capsys.disabled():
        seconds = time.perf_counter() - began
        print(f"\n{name:>6} seed {seed}: chance {before:.3f}, after {steps} steps {after:.3f}, {seconds:.0f} s", end="")
    assert CHANCE[0] <= before <= CHANCE[1]
    assert steps == STEPS
    assert after >= GOAL


def rows(seed: int) -> tuple[list[dict], list[dict]]:
    """Pairs to train on, and held-out ones; no prompt occurs twice."""
    draw = random.Random(seed)
    prompts: set[str] = set()
    while len(prompts) < STEPS * BATCH // 2 + HELD_OUT:
        prompts.add(" ".join(draw.choices(WORDS, k=draw.randint(3, 6))))
    pairs = [pair(draw, prompt) for prompt in sorted(prompts)]
    draw.shuffle(pairs)
    return pairs[HELD_OUT:], pairs[:HELD_OUT]


def pair(draw: random.Random, prompt: str) -> dict:
    length = draw.randint(3, 7)
    return {
        "prompt": prompt,
        "chosen": f"{answer(draw, length)} .",
        "rejected": f"{answer(draw, length)} {draw.choice([*WORDS, *MARKS[1:]])}",
    }


def answer(draw: random.Random, length: int) -> str:
    return " ".join(draw.choices([*WORDS, *MARKS], k=length))


def unpaired(pairs: list[dict]) -> list[dict]:
    return [
        {"prompt": row["prompt"], "completion": row[kind], "label": kind == "chosen"}
        for row in pairs
        for kind in ("chosen", "rejected")
    ]


def preferred(trainer, held_out: list[dict]) -> float:
    """How often the model, as it is now, is for the chosen answer."""
    if isinstance(trainer, ed.RewardTrainer):
        return trainer.evaluate(held_out)["eval_accuracy"]
    # CPO's reward is the log-probability itself, compared with nothing.
    yardstick = ed.CPOTrainer(
        trainer.model, ed.CPOConfig(**SHARED), processing_class=trainer.processing_class, train_dataset=held_out
    )
    return yardstick.evaluate(held_out)["eval_rewards/accuracies"]
