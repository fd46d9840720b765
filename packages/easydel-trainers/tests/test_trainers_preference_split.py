"""The six trainers on preferences: however a step's rows are split and laid out, loss and gradient are the same.

The ones whose rows look at each other (the KL of KTO, sorted pairs, the running mean of BCO) are where this is easy to
get wrong; for them too, a step is all of its rows.
"""

from __future__ import annotations

import copy

import easydel_trainers
import jax
import numpy as np
import pytest
from easydel_models import AutoEasyDeLModelForSequenceClassification
from easydel_models.parameters import split_params

CASES = {
    "dpo": ("DPO", {"ld_alpha": 0.4, "use_weighting": True}),
    "aot": ("DPO", {"loss_type": ("aot", "aot_unpaired", "sft"), "loss_weights": (1.0, 0.5, 0.3)}),
    "kto": ("KTO", {"desirable_weight": 1.3}),
    "bco": ("BCO", {}),
    "cpo": ("CPO", {}),
    "orpo": ("ORPO", {}),
    "reward": ("Reward", {"center_rewards_coefficient": 0.1}),
}
# A pairwise loss, and one whose rows look at each other; the others are of these kinds.
QUICK = ("dpo", "kto")
WHOLE = {"padding_free": False}
SPLIT = {"gradient_accumulation_steps": 4, "padding_free": True}


@pytest.fixture
def run(tiny_model, tokenizer, pair_rows):
    """Two steps of plain SGD from the same beginning: records, and how the parameters moved."""

    def run(name: str, **options):
        kind, own = CASES[name]
        model = tiny_model
        if kind == "Reward":
            model = AutoEasyDeLModelForSequenceClassification.from_config(tiny_model.config, seed=7)
        trainer = getattr(easydel_trainers, f"{kind}Trainer")(
            copy.deepcopy(model),
            getattr(easydel_trainers, f"{kind}Config")(
                **{
                    "optimizer": "sgd",
                    "learning_rate": 0.05,
                    "scheduler": "constant",
                    "clip_grad": None,
                    "total_batch_size": 8,
                    "max_training_steps": 2,
                    "gradient_checkpointing": "none",
                    "max_length": 24,
                    "log_steps": 1,
                    "length_buckets": [512],
                }
                | own
                | options
            ),
            processing_class=tokenizer,
            train_dataset=pair_rows,
        )
        before = jax.tree.map(np.array, split_params(trainer.model)[1])
        history = trainer.train().history
        after = split_params(trainer.model)[1]
        return history, jax.tree.map(lambda new, old: np.asarray(new) - old, after, before)

    return run


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.thorough) for name in CASES]
)
def test_the_split_of_a_step_changes_nothing(run, name):
    history, moved = run(name, **WHOLE)
    split, split_moved = run(name, **SPLIT)
    for ours, theirs in zip(split, history, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5, abs=1e-6)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=2e-5)
        for metric in (
            metric for metric in theirs if metric.startswith(("rewards/m", "rewards/c", "logps/", "kl", "mean_reward"))
        ):
            assert ours[metric] == pytest.approx(theirs[metric], rel=1e-4, abs=1e-5), metric
    for ours, theirs in zip(jax.tree.leaves(split_moved), jax.tree.leaves(moved), strict=True):
        assert np.linalg.norm(ours - theirs) <= 2e-5 * np.linalg.norm(theirs) + 1e-7
