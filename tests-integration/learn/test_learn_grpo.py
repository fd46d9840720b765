"""GRPO learns a rule by trying: an answer is right if its first word is the last word of the prompt.

The model is tiny and knows nothing; nobody shows it an answer. Prompts to measure on are never trained on.

    nox -s learn        # three seeds; without its EASYDEL_LEARN_SEEDS one
"""

from __future__ import annotations

import os
import random
import time

import easydel as ed
import pytest

WORDS = [f"w{number}" for number in range(10)]  # of those that the tokenizer knows
STEPS, PROMPTS, TRIES, HELD_OUT = 150, 8, 16, 64
GOAL, CHANCE = 0.9, 0.3
SEEDS = range(int(os.environ.get("EASYDEL_LEARN_SEEDS", "1")))


def repeats_the_last_word(prompts, completions):
    answered = zip(prompts, completions, strict=True)
    return [float(completion.split()[:1] == prompt.split()[-1:]) for prompt, completion in answered]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_last_word_is_repeated(seed, tokenizer, tiny_config, capsys):
    began = time.perf_counter()
    seen, held_out = prompts(seed)
    trainer = ed.GRPOTrainer(
        ed.AutoEasyDeLModelForCausalLM.from_config(tiny_config, seed=seed),
        ed.GRPOConfig(
            seed=seed,
            num_return_sequences=TRIES,
            total_batch_size=PROMPTS * TRIES,
            max_training_steps=STEPS,
            max_prompt_length=8,
            max_completion_length=2,
            learning_rate=3e-3,  # at 1e-2 it is sure of itself before it has tried everything, and stays wrong
            scheduler="constant",
            eval_batch_size=HELD_OUT * TRIES,
            length_buckets=[1024],
            gradient_checkpointing="none",
            log_steps=STEPS,
        ),
        reward_funcs=repeats_the_last_word,
        processing_class=tokenizer,
        train_dataset=seen,
        eval_dataset=held_out,
    )
    before = trainer.evaluate()["eval_reward"]
    steps = trainer.train().global_step
    after = trainer.evaluate()["eval_reward"]
    with capsys.disabled():
        seconds = time.perf_counter() - began
        print(f"\n  GRPO seed {seed}: chance {before:.3f}, after {steps} steps {after:.3f}, {seconds:.0f} s", end="")
    assert before <= CHANCE
    assert steps == STEPS
    assert after >= GOAL


def prompts(seed: int) -> tuple[list[dict], list[dict]]:
    """Prompts to train on, and held-out ones; none occurs twice."""
    draw = random.Random(seed)
    texts: set[str] = set()
    while len(texts) < STEPS * PROMPTS + HELD_OUT:
        texts.add(" ".join(draw.choices(WORDS, k=draw.randint(4, 6))))
    rows = [{"prompt": text} for text in sorted(texts)]
    draw.shuffle(rows)
    return rows[HELD_OUT:], rows[:HELD_OUT]
