import inspect
import json
from dataclasses import fields
from pathlib import Path

import easydel_trainers
import jax
import pytest
from easydel_trainers import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from easydel_trainers.errors import ConfigError
from easydel_trainers.trl.names import native_config_names, trainer_config

THEIRS = json.loads((Path(__file__).parent / "trl_1_16_names.json").read_text())
"""Names of settings and arguments of TRL 1.16, by trainer."""


@trainer_config
class Config:
    total_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    save_directory: str | None = None
    max_training_steps: int | None = None
    clip_grad: float | None = 1.0
    dtype: str | None = None
    gradient_checkpointing: str = "full"
    optimizer: str = "adamw"
    progress_bar: bool | None = None


@trainer_config
class Further(Config):
    num_return_sequences: int = 4


def test_other_words_for_the_same_thing_are_translated():
    assert Config(output_dir="runs", max_steps=7, max_grad_norm=0.5) == Config(
        save_directory="runs", max_training_steps=7, clip_grad=0.5
    )
    assert Further(num_generations=8).num_return_sequences == 8


def test_other_ways_to_write_a_value_are_translated():
    config = Config(max_steps=-1, max_grad_norm=0, bf16=True, gradient_checkpointing=False, optim="adamw_torch")
    assert config == Config(clip_grad=None, dtype="bfloat16", gradient_checkpointing="none")
    assert Config(disable_tqdm=True).progress_bar is False


def test_their_batch_size_multiplies():
    config = Config(per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert config.total_batch_size == 8 * jax.device_count()
    assert config.gradient_accumulation_steps == 2


def test_accumulation_alone_splits():
    assert Config(total_batch_size=32, gradient_accumulation_steps=8).total_batch_size == 32


def test_both_ways_at_once_are_refused():
    with pytest.raises(ConfigError, match="only one of it and `total_batch_size`"):
        Config(per_device_train_batch_size=4, total_batch_size=8)
    with pytest.raises(ConfigError, match="only one of `max_steps` and `max_training_steps`"):
        Config(max_steps=4, max_training_steps=4)


def test_what_has_no_counterpart_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"warmup_ratio.*give `warmup_steps`"):
        Config(warmup_ratio=0.1)


def test_a_name_nobody_knows_is_the_dataclass_s_own_error():
    with pytest.raises(TypeError, match="learning_rat"):
        Config(learning_rat=1)


def test_the_note_names_the_native_name(caplog):
    with caplog.at_level("INFO", logger="easydel_trainers"):
        native_config_names(Config, {"output_dir": "runs"})
    assert caplog.messages == ["`output_dir` is called `save_directory` here."]


def test_the_signature_stays_that_of_the_dataclass():
    assert "num_return_sequences" in inspect.signature(Further).parameters
    assert "self" not in inspect.signature(Further).parameters


@pytest.mark.parametrize("kind", [kind for kind in THEIRS["settings"] if hasattr(easydel_trainers, f"{kind}Config")])
def test_every_setting_of_trl_is_known_or_refused_with_a_reason(kind):
    config = getattr(easydel_trainers, f"{kind}Config")
    own = {field.name for field in fields(config)}
    for name in THEIRS["settings"][kind]:
        try:
            native = set(native_config_names(config, {name: 1}))
        except ConfigError as refused:
            native = own if "; " in refused.expected else {"no reason"}
        assert native <= own, name


def test_arguments_of_trainers_are_translated_and_noted(tiny_model, tokenizer, pair_rows, caplog):
    caplog.set_level("INFO", logger="easydel_trainers")
    trainer = DPOTrainer(
        model=tiny_model, ref_model=tiny_model, args=DPOConfig(), tokenizer=tokenizer, train_dataset=pair_rows
    )
    assert trainer.arguments == DPOConfig()
    assert trainer.processing_class is tokenizer
    assert "`ref_model` is called `reference_model` here." in caplog.messages


@pytest.mark.parametrize("kind", [kind for kind in THEIRS["arguments"] if hasattr(easydel_trainers, f"{kind}Trainer")])
def test_every_argument_of_trl_is_known_or_refused_with_a_reason(kind, tiny_model, tokenizer, pair_rows):
    known = {"model", "args", "ref_model", "train_dataset", "eval_dataset", "processing_class", "callbacks"}
    for name in set(THEIRS["arguments"][kind]) - known - {"reward_funcs"}:
        trainer = getattr(easydel_trainers, f"{kind}Trainer")
        if name in inspect.signature(trainer).parameters:
            continue
        with pytest.raises(ConfigError, match=rf"`{name}`.*no such argument of {kind}Trainer; "):
            trainer(tiny_model, processing_class=tokenizer, train_dataset=pair_rows, **{name: 1})


def test_a_reference_model_for_a_trainer_that_has_none_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="a SFTTrainer compares with no other model"):
        SFTTrainer(tiny_model, ref_model=tiny_model)


def test_a_config_of_something_else_is_refused(tiny_model, tokenizer):
    with pytest.raises(ConfigError, match=r"`arguments` is 'easydel_trainers\.SFTConfig'; expected a DPOConfig: "):
        DPOTrainer(tiny_model, args=SFTConfig(), processing_class=tokenizer)


def test_the_signature_of_trainers_stays_their_own():
    assert list(inspect.signature(DPOTrainer).parameters)[:2] == ["model", "arguments"]


def test_what_only_says_how_it_is_here_is_taken():
    config = SFTConfig(
        eval_strategy="steps", eval_steps=3, save_strategy="steps", save_steps=2, save_directory="run",
        logging_strategy="steps", logging_steps=4, remove_unused_columns=False, fp16=False, dataloader_num_workers=0,
    )  # fmt: skip
    assert (config.evaluation_steps, config.save_steps, config.log_steps) == (3, 2, 4)
    assert SFTConfig(eval_strategy="no").evaluation_steps is None


@pytest.mark.parametrize("values", [{"eval_strategy": "steps"}, {"eval_strategy": "epoch"}, {"save_strategy": "no"}])
def test_a_strategy_that_nothing_else_repeats_is_refused(values):
    with pytest.raises(ConfigError, match="expected nothing by this name; give `"):
        SFTConfig(**values)


def test_a_share_of_warmup_is_counted_where_the_steps_are_given():
    assert SFTConfig(max_steps=6, warmup_ratio=0.1).warmup_steps == 1
    assert SFTConfig(max_training_steps=200, warmup_ratio=0.1).warmup_steps == 20


@pytest.mark.parametrize(("name", "near"), [("learning_rat", "learning_rate"), ("otput_dir", "output_dir")])
def test_an_unknown_setting_is_answered_with_the_nearest(name, near):
    with pytest.raises(TypeError, match=rf"SFTConfig has no setting `{name}`. Did you mean `{near}`\?"):
        SFTConfig(**{name: 1})


def test_what_trls_trainers_have_beside_their_arguments(tiny_model, tokenizer, tmp_path):
    trainer = SFTTrainer(
        tiny_model,
        SFTConfig(max_training_steps=1, total_batch_size=2, max_length=8),
        processing_class=tokenizer,
        train_dataset=[{"text": "w3 w4 w5 w6"}] * 4,
    )
    assert trainer.train(resume_from_checkpoint=True).global_step == 1
    trainer.save_model(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").is_file()
    with pytest.raises(ConfigError, match="True or nothing: a run goes on from the newest"):
        trainer.train(resume_from_checkpoint="checkpoint-3")
