"""Training adapters: the base stays, the checkpoint is small, resuming is exact, the reference is the base."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models import LoraConfig, load_adapter, with_lora, without_lora
from easydel_models.adapters.lora import is_adapter
from easydel_models.parameters import flattened, split_params, update_params
from easydel_trainers import (
    CheckpointError,
    ConfigError,
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    SFTConfig,
    SFTTrainer,
)

LORA = LoraConfig(rank=4, alpha=8.0, dropout=0.2)


def config(**options) -> SFTConfig:
    shared = {
        "learning_rate": 2e-2,
        "total_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 2,
        "log_steps": 1,
        "length_buckets": [64],
        "lora": LORA,
    }
    return SFTConfig(**(shared | options))


@pytest.fixture
def make(tiny_model, tokenizer, text_rows):
    def make(arguments: SFTConfig, model=None, **options) -> SFTTrainer:
        model = copy.deepcopy(tiny_model) if model is None else model
        return SFTTrainer(model, arguments, processing_class=tokenizer, train_dataset=text_rows, **options)

    return make


def arrays(trainer) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in flattened(split_params(trainer.model)[1]).items()}


def test_adapters_learn_and_the_base_stays_bit_for_bit(make, tmp_path):
    trainer = make(config(save_directory=str(tmp_path)))
    before = arrays(trainer)
    history = trainer.train().history
    after = arrays(trainer)
    assert history[-1]["loss"] < history[0]["loss"] - 0.3
    for path, array in before.items():
        assert np.array_equal(array, after[path]) != is_adapter(path), path
    # The optimizer and the checkpoint know the adapters only.
    *_, saved = sorted((tmp_path / "checkpoints").glob("*/state/_METADATA"))
    names = saved.read_text()
    assert "query_lora_a" in names
    assert "embedding" not in names


def test_resumed_with_dropout_the_bits_are_equal(make, tmp_path, break_off):
    whole = make(config())
    whole.train()
    broken = config(save_directory=str(tmp_path), save_steps=4)
    with pytest.raises(KeyboardInterrupt):
        make(broken, callbacks=[break_off(10)]).train()
    resumed = make(broken)
    assert resumed.train().global_step == 20
    for path, array in arrays(whole).items():
        assert np.array_equal(array, arrays(resumed)[path]), path


def test_a_checkpoint_of_adapters_knows_its_base_model(make, tmp_path, tiny_model):
    options = {"save_directory": str(tmp_path), "max_training_steps": 1}
    make(config(**options)).train()
    other = copy.deepcopy(tiny_model)
    other.final_norm[...] = other.final_norm[...] * 1.5
    with pytest.raises(CheckpointError, match="frozen parameters"):
        make(config(**options), other).train()


@pytest.mark.thorough
def test_without_dropout_splitting_a_step_changes_nothing(make):
    def norms(**options):
        settings = {"lora": LoraConfig(rank=4), "max_training_steps": 3} | options
        return [record["grad_norm"] for record in make(config(**settings)).train().history]

    np.testing.assert_allclose(norms(), norms(gradient_accumulation_steps=1), rtol=1e-5)


def test_an_adapted_model_goes_on_training_its_own_adapters(make, tiny_model, tmp_path):
    model = with_lora(tiny_model, LoraConfig(rank=2, targets=["q_proj"]))
    trainer = make(config(lora=None, max_training_steps=1), model)
    trainer.train()
    changed = np.asarray(trainer.model.layers["query_lora_b"][...])
    assert np.abs(changed).max() > 0
    trainer.save_adapter(tmp_path)
    loaded = load_adapter(tmp_path, without_lora(trainer.model))
    assert np.array_equal(loaded.layers["query_lora_b"][...], changed)
    with pytest.raises(ConfigError, match="lora"):
        make(config(), model)


def test_the_reference_of_adapters_is_the_base_on_its_own_arrays(tiny_model, tokenizer):
    rows = [{"prompt": "w3 w4", "chosen": f" w{n} w7", "rejected": f" w{n} w9 w9"} for n in range(10, 18)]
    options = {"learning_rate": 2e-2, "max_training_steps": 3, "log_steps": 1, "lora": LoraConfig(rank=4)}
    trainer = DPOTrainer(
        copy.deepcopy(tiny_model),
        DPOConfig(**options, length_buckets=[64], total_batch_size=4, max_length=16),
        processing_class=tokenizer,
        train_dataset=rows,
    )
    base = split_params(without_lora(trainer.model))[1]
    assert all(
        a is b
        for a, b in zip(jax.tree.leaves(trainer.source.reference.held._params), jax.tree.leaves(base), strict=True)
    )
    history = trainer.train().history
    assert history[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert history[-1]["loss"] < history[0]["loss"] - 0.05
    with pytest.raises(ConfigError, match="sync_ref_model"):
        DPOTrainer(
            copy.deepcopy(tiny_model),
            DPOConfig(lora=LORA, sync_ref_model=True, max_training_steps=1),
            processing_class=tokenizer,
        )


@pytest.fixture
def came_with_adapters(tiny_model):
    """A model whose adapters were trained before: they change what it says."""
    model = with_lora(copy.deepcopy(tiny_model), LoraConfig(rank=4, alpha=8.0), seed=1)
    params = split_params(model)[1]
    rng = np.random.default_rng(0)
    layers = {
        name: 0.3 * rng.standard_normal(leaf.shape).astype(np.float32) if name.endswith("_lora_b") else leaf
        for name, leaf in params["layers"].items()
    }
    update_params(model, {**params, "layers": jax.tree.map(jnp.asarray, layers)})
    return model


@pytest.mark.parametrize("precompute", [False, True])
def test_the_reference_of_a_model_that_came_with_adapters_is_that_model(
    came_with_adapters, tokenizer, pair_rows, precompute
):
    """Before the first update both are one: the loss is ln 2, and stays held to it while the adapters move."""
    arguments = DPOConfig(
        learning_rate=5e-2, max_training_steps=3, log_steps=1, total_batch_size=4, precompute_ref_log_probs=precompute
    )
    options = {"processing_class": tokenizer, "train_dataset": pair_rows[:4]}
    history = DPOTrainer(came_with_adapters, arguments, **options).train().history
    assert history[0]["loss"] == pytest.approx(np.log(2), rel=1e-5)
    assert history[0]["rewards/chosen"] == pytest.approx(0, abs=1e-5)
    assert history[-1]["rewards/margins"] > 0.01


def test_grpos_reference_of_a_model_that_came_with_adapters_is_that_model(came_with_adapters, tokenizer):
    arguments = GRPOConfig(
        beta=0.1, max_training_steps=1, num_return_sequences=2, total_batch_size=2, max_completion_length=4
    )
    options = {"processing_class": tokenizer, "train_dataset": [{"prompt": "w5 w6"}]}
    trainer = GRPOTrainer(came_with_adapters, arguments, reward_funcs=lambda completions: [0.0, 1.0], **options)
    assert trainer.train().history[0]["kl"] == pytest.approx(0, abs=1e-6)
