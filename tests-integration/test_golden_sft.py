"""Optimizer steps of TRL's SFT, replayed by ours from the raw rows.

Every trajectory of the golden set is one real TRL run; `golden/README.md` says how it was made. Loss and gradient norm
must agree, 2e-5 and 5e-4 relative: over all eight steps in `nox -s golden`, over the first three in the default run.
`sft_dft` trains with token probabilities near 1e-5, whose gradients are tiny: absolute 1e-6 there.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from easydata_tokenize import load_tokenizer
from easydel_models import AutoEasyDeLModelForCausalLM
from easydel_models.files.weights import export_tensors
from easydel_models.parameters import split_params
from easydel_trainers import SFTConfig, SFTTrainer
from thoroughness import RECORDED_STEPS, REPLAYED_STEPS, thorough_but

GOLDEN = Path(__file__).parent / "golden"
pytestmark = pytest.mark.usefixtures("lightly_compiled")

TRAJECTORIES = ["sft_messages", "sft_messages_b4x2", "sft_prompt_completion", "sft_text", "sft_dft"]


def replay(trajectory: dict, **options):
    config = trajectory["config"]
    trainer = SFTTrainer(
        AutoEasyDeLModelForCausalLM.from_pretrained(GOLDEN / trajectory["model"], dtype="float32"),
        SFTConfig(
            learning_rate=config["learning_rate"],
            scheduler="constant",
            clip_grad=None,
            adam_epsilon=config["adam_epsilon"],
            max_length=config["max_length"],
            loss_type=config["loss_type"],
            total_batch_size=config["per_device_train_batch_size"] * config["gradient_accumulation_steps"],
            max_training_steps=REPLAYED_STEPS,
            shuffle_train_dataset=False,
            log_steps=1,
            length_buckets=[128],
            **{"gradient_accumulation_steps": config["gradient_accumulation_steps"], **options},
        ),
        processing_class=load_tokenizer(GOLDEN / "tokenizer"),
        train_dataset=GOLDEN / trajectory["rows"],
    )
    return trainer, trainer.train()


def read(name: str) -> dict:
    return json.loads((GOLDEN / "trajectories" / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("name", "padding_free"),
    thorough_but(
        itertools.product(TRAJECTORIES, (True, False)),
        {("sft_messages", True), ("sft_messages", False), ("sft_dft", True)},
    ),
)
def test_sft_trajectory_is_reproduced(name, padding_free):
    trajectory = read(name)
    trainer, output = replay(trajectory, padding_free=padding_free)
    tiny = 1e-6 if name == "sft_dft" else 0.0
    assert len(trajectory["steps"]) == RECORDED_STEPS
    assert len(output.history) == REPLAYED_STEPS
    for ours, theirs in zip(output.history, trajectory["steps"][:REPLAYED_STEPS], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-5, abs=tiny)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=5e-4, abs=tiny)
        assert ours["num_tokens"] == theirs["num_tokens"]
        assert ours["learning_rate"] == pytest.approx(theirs["learning_rate"])
        assert ours["mean_token_accuracy"] == pytest.approx(theirs["mean_token_accuracy"], abs=1e-6)
        if trajectory["config"]["gradient_accumulation_steps"] == 1:
            # TRL averages the micro-batches' entropies without weights; ours is the mean over tokens.
            assert ours["entropy"] == pytest.approx(theirs["entropy"], rel=1e-4)
    if REPLAYED_STEPS < RECORDED_STEPS:
        return
    norms = {name: float(np.linalg.norm(np.asarray(x, np.float64))) for name, x in hf_tensors(trainer.model)}
    for name_, norm in trajectory["param_norms_after"].items():
        assert norms[name_] == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("micro_batches", thorough_but([1, 2, 4], ()))
def test_accumulation_gives_the_same_losses(micro_batches):
    trajectory = read("sft_messages")
    _, output = replay(trajectory, gradient_accumulation_steps=micro_batches)
    for ours, theirs in zip(output.history, trajectory["steps"][:REPLAYED_STEPS], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def hf_tensors(model):
    """Trained parameters under their Hugging Face names, layer by layer."""
    return export_tensors(split_params(model)[1], model.config)


def test_the_golden_set_is_whole():
    found = {path.stem for path in (GOLDEN / "trajectories").glob("sft_*.json")}
    assert found == set(TRAJECTORIES)
    assert jax.default_backend() == "cpu"
