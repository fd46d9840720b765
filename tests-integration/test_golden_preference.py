"""Optimizer steps of TRL's preference trainers, replayed by ours.

Every trajectory of the golden set is one real TRL run; `golden/README.md` says how it was made. DPO, KTO and Reward are
replayed from the raw rows. CPO, ORPO and BCO are replayed from the token ids that their files hold, because TRL ends
their chat rows twice and we do not. Loss and gradient norm must agree, 2e-5 and 5e-4 relative: over all eight
steps in `nox -s golden`, over the first three in the default run.
"""

from __future__ import annotations

import json
from pathlib import Path

import easydel_trainers
import pytest
from easydata_tokenize import load_tokenizer
from easydel_models import AutoEasyDeLModelForCausalLM, AutoEasyDeLModelForSequenceClassification
from thoroughness import RECORDED_STEPS, REPLAYED_STEPS, thorough_but

GOLDEN = Path(__file__).parent / "golden"
pytestmark = pytest.mark.usefixtures("lightly_compiled")
TOKENIZER = load_tokenizer(GOLDEN / "tokenizer")
TRAJECTORIES = sorted(
    path.stem
    for path in (GOLDEN / "trajectories").glob("*.json")
    if not path.stem.startswith("sft_") and not path.stem.endswith("_b4x2")
)
# The default run's; `nox -s golden` replays all.
ONE_EACH = {"dpo_sigmoid", "orpo", "cpo_simpo", "kto", "bco", "reward_center"}
# Accumulated in TRL, only these give what the whole batch gives; ours gives it for all.
ACCUMULATED = ["dpo_sigmoid_b4x2", "reward_plain_b4x2"]
NOT_IN_TRL = ["kto", "bco", "cpo_sigmoid", "orpo"]
# The mean of each micro-batch's least and greatest in TRL, and the least and greatest of the step in ours.
OF_THE_WHOLE_STEP = ("min_reward", "max_reward")
# TRL shows these as means over padding too, over sums, or over micro-batches of single classes.
NOT_COMPARED = {"cpo": ["logits/"], "orpo": ["logits/"], "bco": ["logits/"]}
NAMES = {"reward": "Reward"}


def read(name: str) -> dict:
    return json.loads((GOLDEN / "trajectories" / f"{name}.json").read_text())


def load(folder: str):
    kind = AutoEasyDeLModelForSequenceClassification if "reward" in folder else AutoEasyDeLModelForCausalLM
    return kind.from_pretrained(GOLDEN / folder, dtype="float32")


def tokenized(trajectory: dict) -> list[dict]:
    """The rows that TRL fed, without their padding; labels are those of the raw rows, in the same order."""
    raw = [json.loads(line) for line in (GOLDEN / trajectory["rows"]).read_text().splitlines()]
    rows = []
    for batch in (batch for step in trajectory["steps"] for batch in step["inputs"]):
        prompts = real(batch, "prompt_input_ids", "prompt_attention_mask")
        answers = {
            kind: completions(batch, kind) for kind in ("chosen", "rejected", "completion") if kinds(batch, kind)
        }
        for number, prompt in enumerate(prompts):
            row = {"prompt_ids": prompt} | {f"{kind}_ids": found[number] for kind, found in answers.items()}
            of_row = raw[len(rows)]
            rows.append(row | ({"label": of_row["label"], "source_row": len(rows)} if "label" in of_row else {}))
    return rows


def kinds(batch: dict, kind: str) -> bool:
    return f"{kind}_labels" in batch


def real(batch: dict, ids: str, mask: str) -> list[list[int]]:
    pairs = zip(batch[ids], batch[mask], strict=True)
    return [[token for token, there in zip(tokens, masks, strict=True) if there] for tokens, masks in pairs]


def completions(batch: dict, kind: str) -> list[list[int]]:
    return [[token for token in labels if token != -100] for labels in batch[f"{kind}_labels"]]


def replay(trajectory: dict, **options):
    config, kind = trajectory["config"], trajectory["trainer"]
    name: str = NAMES.get(kind) or kind.upper()
    trainer, config_class = (getattr(easydel_trainers, name + part) for part in ("Trainer", "Config"))
    own = {
        field: config[field]
        for field in (
            *("beta", "loss_type", "loss_weights", "label_smoothing", "f_divergence_type", "cpo_alpha", "simpo_gamma"),
            *("alpha", "desirable_weight", "undesirable_weight", "center_rewards_coefficient"),
        )
        if field in config
    }
    fields = {
        "learning_rate": config["learning_rate"],
        "adam_epsilon": config["adam_epsilon"],
        "scheduler": "constant",
        "clip_grad": None,
        "max_length": config["max_length"],
        "total_batch_size": 8,
        "max_training_steps": REPLAYED_STEPS,
        "gradient_accumulation_steps": 1,
        "shuffle_train_dataset": False,
        "log_steps": 1,
        "length_buckets": [1280],
        "gradient_checkpointing": "none",
        **own,
    }
    rows = tokenized(trajectory) if "inputs" in trajectory["steps"][0] else GOLDEN / trajectory["rows"]
    reference = trajectory.get("reference_model")
    run = trainer(
        load(trajectory["model"]),
        config_class(**fields | options),
        processing_class=TOKENIZER,
        train_dataset=rows,
        **({} if reference is None else {"reference_model": load(reference)}),
    )
    return run.train().history


@pytest.fixture(scope="module")
def unaccumulated():
    """Our own runs in one micro-batch, by name."""
    return {}


@pytest.mark.parametrize("name", thorough_but(TRAJECTORIES, ONE_EACH))
def test_a_trajectory_is_reproduced(name, unaccumulated):
    trajectory = read(name)
    unaccumulated[name] = replay(trajectory)
    agrees(unaccumulated[name], trajectory)


@pytest.mark.parametrize("name", thorough_but(ACCUMULATED, {"dpo_sigmoid_b4x2"}))
def test_an_accumulated_trajectory_is_reproduced(name):
    trajectory = read(name)
    agrees(replay(trajectory, gradient_accumulation_steps=2), trajectory)


@pytest.mark.parametrize("name", thorough_but(NOT_IN_TRL, ()))
def test_accumulated_our_own_run_stays_the_same(name, unaccumulated):
    trajectory = read(name)
    whole = unaccumulated.get(name) or replay(trajectory)
    for ours, theirs in zip(replay(trajectory, gradient_accumulation_steps=2), whole, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)


def agrees(history: list[dict], trajectory: dict) -> None:
    """Loss, gradient norm and metrics are those of the recorded run."""
    steps = trajectory["steps"]
    assert len(steps) == RECORDED_STEPS
    assert len(history) == REPLAYED_STEPS
    for ours, theirs in zip(history, steps[:REPLAYED_STEPS], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=5e-4)
        for metric, value in compared(trajectory, theirs).items():
            assert ours[metric] == pytest.approx(value, rel=1e-4, abs=1e-3), metric


def compared(trajectory: dict, step: dict) -> dict:
    skipped = (
        "step",
        "loss",
        "grad_norm",
        "micro",
        "running",
        "inputs",
        "nll_loss" if "simpo" in trajectory["name"] else "?",
    )
    skipped += tuple(NOT_COMPARED.get(trajectory["trainer"], ()))
    if trajectory["config"]["gradient_accumulation_steps"] > 1:
        skipped += OF_THE_WHOLE_STEP
    return {name: value for name, value in step.items() if not name.startswith(skipped)}
