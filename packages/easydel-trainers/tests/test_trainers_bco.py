"""What only BCO has: a running mean that outlives a kill, and weights from where prompts come from."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from easydel_trainers import BCOConfig, BCOTrainer, Callback, ConfigError, TrainerError
from easydel_trainers.algorithms.bco.density import PromptDensity


def config(**options) -> BCOConfig:
    shared = {
        "learning_rate": 1e-2,
        "total_batch_size": 4,
        "max_training_steps": 6,
        "max_length": 24,
        "log_steps": 1,
        "length_buckets": [256],
        "gradient_checkpointing": "none",
    }
    return BCOConfig(**shared | options)


@pytest.fixture
def make(tiny_model, tokenizer, pair_rows):
    def make(arguments, **options):
        rows = options.pop("rows", pair_rows)
        return BCOTrainer(
            copy.deepcopy(tiny_model), arguments, processing_class=tokenizer, train_dataset=rows, **options
        )

    return make


class Steps(Callback):
    def __init__(self):
        self.taken = []

    def on_step(self, run):
        self.taken.append(run.step)


def test_the_running_mean_is_part_of_the_checkpoint(make, tmp_path, break_off):
    whole = make(config()).train().history
    saved = {"save_directory": str(tmp_path), "save_steps": 3}
    broken = make(config(**saved), callbacks=[break_off(5)])
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    steps = Steps()
    resumed = make(config(**saved), callbacks=[steps]).train().history
    assert steps.taken == [4, 5, 6]
    for name in ("delta", "loss", "grad_norm"):
        assert [record[name] for record in resumed] == [record[name] for record in whole], name
    assert len({record["delta"] for record in whole}) == 6  # it moves


def words(texts):
    """Texts as counts of small and of large words: enough for a regression to tell the classes apart."""
    numbers = [[int(word[1:]) for word in text.split()] for text in texts]
    return np.array([[sum(n < 50 for n in row), sum(n >= 50 for n in row)] for row in numbers], float)


def from_two_places(kind: str) -> list[dict]:
    """Desirable rows have prompts of small words; undesirable ones of large words, or of small ones too."""
    draw = np.random.default_rng(2)
    rows = []
    for number in range(60):
        desirable = number % 3 == 0
        small = desirable or (kind == "overlapping" and number % 3 == 1)
        low, high = (3, 50) if small else (50, 97)
        prompt = " ".join(f"w{n}" for n in draw.integers(low, high, 4))
        rows.append({"prompt": prompt, "completion": f" w{draw.integers(3, 97)}", "label": desirable})
    return rows


def test_undesirable_rows_weigh_as_much_as_their_prompts_are_likely_among_the_desirable(make):
    rows = from_two_places("overlapping")
    trainer = make(config(min_density_ratio=0.25, max_density_ratio=4.0), rows=rows, embedding_func=words)
    trainer.algorithm.fit_density(trainer.data)
    density = trainer.algorithm.density
    assert density is not None
    transform = trainer.data.training_transform()
    prepared = [output for outputs in transform.transform_batch(rows) for output in outputs]
    weights = density.weights(prepared)
    of_small = [
        w for w, row in zip(weights, rows, strict=True) if not row["label"] and words([row["prompt"]])[0, 0] > 3
    ]
    of_large = [w for w, row in zip(weights, rows, strict=True) if words([row["prompt"]])[0, 1] > 3]
    assert all(w == 1 for w, row in zip(weights, rows, strict=True) if row["label"])
    assert min(of_small) > max(of_large)
    assert max(of_large) == pytest.approx(0.25)  # the smallest weight there is
    arrays = trainer.data.layout(rows=len(prepared)).arrange(prepared)
    assert sorted(arrays["rows"]["density_weight"][0]) == pytest.approx(sorted(weights))


def test_the_weight_is_the_odds_of_the_regression():
    fitted = PromptDensity(words, lambda rows: [row["prompt"] for row in rows], bounds=(1e-3, 1e3), seed=0)
    rows = from_two_places("overlapping")
    fitted.fit(rows, per_class=100)
    undesirable = [row for row in rows if not row["label"]]
    probability = fitted._classifier.predict_proba(words([row["prompt"] for row in undesirable]))[:, 1]
    assert fitted.weights(undesirable) == pytest.approx(probability / (1 - probability), rel=1e-5)


def test_one_class_has_nothing_to_be_compared_with(make):
    rows = [row for row in from_two_places("apart") if row["label"]]
    with pytest.raises(TrainerError, match=r"20 desirable and 0 undesirable ones\. Leave embedding_func out"):
        make(config(), rows=rows, embedding_func=words).train()


def test_embeddings_of_another_shape_are_refused(make):
    trainer = make(config(), rows=from_two_places("apart"), embedding_func=lambda texts: np.zeros(len(texts)))
    with pytest.raises(ConfigError, match=r"embedding_func.*\[prompts, dim\]"):
        trainer.train()
