"""Promise 11 for the preference trainers: every field of theirs changes the run, or is refused.

Seen in the first batch, else in the records of three steps, the reference that is held, or the files a run leaves.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
from easydel_models import AutoEasyDeLModelForCausalLM, AutoEasyDeLModelForSequenceClassification
from easydel_trainers import (
    BCOConfig,
    BCOTrainer,
    ConfigError,
    CPOConfig,
    CPOTrainer,
    DPOConfig,
    DPOTrainer,
    KTOConfig,
    KTOTrainer,
    ORPOConfig,
    ORPOTrainer,
    RewardConfig,
    RewardTrainer,
)
from easydel_trainers.config import TrainerConfig

TRAINERS = {
    "dpo": (DPOTrainer, DPOConfig),
    "orpo": (ORPOTrainer, ORPOConfig),
    "cpo": (CPOTrainer, CPOConfig),
    "kto": (KTOTrainer, KTOConfig),
    "bco": (BCOTrainer, BCOConfig),
    "reward": (RewardTrainer, RewardConfig),
}
BUDGETS = {"max_prompt_length": 3, "max_completion_length": 4, "padding_value": 7}
CUT = {"max_completion_length": 4}
SYNCED = {"sync_ref_model": True, "ref_model_sync_steps": 1}
REFERENCE = {"precompute_ref_log_probs": True, "sync_ref_model": (True, {"ref_model_sync_steps": 1})}
REFERENCE |= {"ref_model_mixup_alpha": (0.1, SYNCED), "ref_model_sync_steps": (2, SYNCED)}
REFERENCE |= {"ref_log_probs_directory": ("scores", {"precompute_ref_log_probs": True})}
SHARED = BUDGETS | {"keep_stop_token": (True, CUT), "padding_free": False}
# field: a value other than the default, or that and what else has to be set for it to have a meaning
CHANGES = {
    "dpo": {
        **SHARED,
        **REFERENCE,
        "beta": 0.5,
        "loss_type": "ipo",
        "loss_weights": ([1.0, 3.0], {"loss_type": ["sigmoid", "sft"]}),
        "label_smoothing": 0.2,
        "f_divergence_type": "js_divergence",
        "f_alpha_divergence_coef": (0.9, {"f_divergence_type": "alpha_divergence"}),
        "discopop_tau": (0.5, {"loss_type": "discopop"}),
        "ld_alpha": 0.2,
        "use_weighting": True,
        "reference_free": True,
    },
    "orpo": SHARED | {"beta": 0.5},
    "cpo": {
        **SHARED,
        "beta": 0.5,
        "loss_type": "hinge",
        "label_smoothing": 0.2,
        "cpo_alpha": 0.3,
        "simpo_gamma": (2.0, {"loss_type": "simpo"}),
        "alpha": (0.5, {"loss_type": "alphapo"}),
    },
    "kto": {
        **SHARED,
        **REFERENCE,
        "beta": 0.5,
        "loss_type": "apo_zero_unpaired",
        "desirable_weight": 2.0,
        "undesirable_weight": 2.0,
    },
    "bco": {
        **SHARED,
        **REFERENCE,
        "beta": 0.5,
        "prompt_sample_size": 8,
        "min_density_ratio": 0.9,
        "max_density_ratio": 1.1,
    },
    "reward": {"center_rewards_coefficient": 0.5, "padding_free": False},
}
# What all of them share is one mechanism, and the default run sees it with DPO.
CASES = [
    pytest.param(name, field, marks=pytest.mark.thorough if name != "dpo" and field in SHARED | REFERENCE else ())
    for name, fields in CHANGES.items()
    for field in fields
]
OTHER = 8
REFUSED = "label_pad_token_id"


def first_word(text):
    return int(text.split()[0][1:])


def embed(texts):
    """Prompts by their first words, of which the larger ones are likelier among the undesirable rows."""
    return np.array([[first_word(text)] for text in texts], float)


def unpaired(rows):
    """Alone, with labels that say something of the prompt."""
    rng = np.random.default_rng(3)
    return [
        {
            "prompt": row["prompt"],
            "completion": row["chosen"],
            "label": bool(rng.random() > first_word(row["prompt"]) / 97),
        }
        for row in rows
    ]


@pytest.fixture
def make(tiny_model, tokenizer, pair_rows):
    def make(name, options):
        trainer_class, config_class = TRAINERS[name]
        config = config_class(
            learning_rate=1e-1,
            total_batch_size=8,
            max_training_steps=3,
            log_steps=1,
            length_buckets=[256],
            attention="reference",  # half the work of compiling
            gradient_checkpointing="none",
            **options,
        )
        model, rows, others = copy.deepcopy(tiny_model), pair_rows, {}
        if name == "reward":
            model = AutoEasyDeLModelForSequenceClassification.from_config(tiny_model.config, seed=7)
        if name == "kto":  # a reference that finds mismatched completions less likely: its KL is not the clamped zero
            others["reference_model"] = AutoEasyDeLModelForCausalLM.from_config(tiny_model.config, seed=OTHER)
        if name == "bco":
            rows, others = unpaired(pair_rows), {"embedding_func": embed}
        return trainer_class(model, config, processing_class=tokenizer, train_dataset=rows, **others)

    return make


@pytest.fixture(scope="module")
def plain():
    """What runs showed before the change, by trainer and by what else was set."""
    return {}


def first_batch(trainer):
    return next(trainer._training_batch_iterator())["input_ids"].tolist()


def records(trainer):
    measured = ("loss", "grad_norm", "num_tokens")
    return [[record[name] for name in measured] for record in trainer.train().history]


@pytest.mark.parametrize(("name", "field"), CASES)
def test_every_field_changes_the_run(make, plain, tmp_path, monkeypatch, name, field):
    monkeypatch.chdir(tmp_path)
    change = CHANGES[name][field]
    value, given = change if isinstance(change, tuple) else (change, {})
    without, changed = make(name, given), make(name, given | {field: value})
    if first_batch(without) != first_batch(changed):
        return
    key = (name, repr(given))
    if key not in plain:
        plain[key] = records(without)
    files = set(tmp_path.rglob("*"))
    after = records(changed)
    holds = [getattr(trainer.source.reference, "held", None) is not None for trainer in (without, changed)]
    assert after != plain[key] or holds[0] != holds[1] or set(tmp_path.rglob("*")) != files


@pytest.mark.parametrize("name", [name for name in TRAINERS if name != "reward"])
def test_what_has_no_other_meaning_is_refused(name):
    with pytest.raises(ConfigError, match=REFUSED):
        TRAINERS[name][1](**{REFUSED: 0})


@pytest.mark.parametrize("name", TRAINERS)
def test_no_field_is_left_out(name):
    shared = {field.name for field in dataclasses.fields(TrainerConfig)}
    own = {field.name for field in dataclasses.fields(TRAINERS[name][1])} - shared
    assert own == set(CHANGES[name]) | ({REFUSED} if name != "reward" else set())
