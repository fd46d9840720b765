"""Model, tokenizer, rows and config that do not go together are told when the trainer is made; what fits is saved."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging

import pytest
from easydata_sources import DataError
from easydel_models import AutoEasyDeLModelForSequenceClassification, CausalLM
from easydel_models.generation.options import GenerateResult
from easydel_trainers import ConfigError, DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

TEMPLATE = "{% for m in messages %}{{ m['content'] }} w90 {% endfor %}"


def config(**options) -> SFTConfig:
    return SFTConfig(
        **({"total_batch_size": 4, "max_length": 32, "max_training_steps": 1, "length_buckets": [128]} | options)
    )


def with_config(model: CausalLM, **fields) -> CausalLM:
    model = copy.deepcopy(model)
    model.config = dataclasses.replace(model.config, **fields)
    return model


@pytest.fixture
def make(tiny_model, tokenizer, text_rows):
    def make(model=None, arguments=None, **options) -> SFTTrainer:
        shared = {"processing_class": tokenizer, "train_dataset": text_rows}
        model = copy.deepcopy(tiny_model) if model is None else model
        return SFTTrainer(model, arguments or config(), **(shared | options))

    return make


def test_the_tokenizers_stop_token_is_saved_with_the_model(make, tiny_model, tmp_path):
    """Chats trained to end in the tokenizer's EOS token must end there in whoever loads the folder."""
    trainer = make(with_config(tiny_model, eos_token_ids=(50, 51), pad_token_id=None))
    trainer.save_pretrained(tmp_path)
    for file in ("config.json", "generation_config.json"):
        saved = json.loads((tmp_path / file).read_text())
        assert saved["eos_token_id"] == [2, 50, 51], file
        assert (saved["bos_token_id"], saved["pad_token_id"]) == (1, 2), file
    same = make(with_config(tiny_model, eos_token_ids=(50, 2), pad_token_id=9)).model.config
    assert (same.eos_token_ids, same.pad_token_id) == ((50, 2), 9)


def test_a_template_whose_stop_ends_no_generation_is_told(make, tokenizer, caplog):
    chat = copy.deepcopy(tokenizer)
    chat.chat_template = TEMPLATE
    with caplog.at_level(logging.WARNING):
        make(processing_class=chat)
    assert "'w90' (token 90), which is no EOS token" in caplog.text
    caplog.clear()
    chat.chat_template = TEMPLATE.replace("w90", "</s>")
    with caplog.at_level(logging.WARNING):
        make(processing_class=chat)
    assert "EOS" not in caplog.text


@pytest.mark.parametrize("where", ["train", "eval", "labels"])
def test_a_token_that_the_model_does_not_know_names_row_and_column(make, where):
    good = {"input_ids": [3, 4, 5]}
    rows = [good] * 3 + [{"input_ids": [3, 97, 5]}]
    if where == "labels":
        rows = [{**good, "labels": [3, 4, 5]}, {**good, "labels": [3, 97, -100]}]
    data = {"eval_dataset": rows, "train_dataset": [good] * 8} if where == "eval" else {"train_dataset": rows}
    column = "labels" if where == "labels" else "input_ids"
    with pytest.raises(DataError, match=rf"row [13]: `{column}` holds the token 97; the model knows 0 to 96"):
        make(**data)


def test_a_token_far_behind_the_first_rows_ends_the_run_with_its_row(make):
    rows = [{"input_ids": [3, 4, 5]}] * 400 + [{"input_ids": [3, 200]}]
    trainer = make(None, config(total_batch_size=401, gradient_accumulation_steps=1), train_dataset=rows)
    with pytest.raises(DataError, match="row 400: `input_ids` holds the token 200"):
        trainer.train()


def test_a_pad_token_without_an_embedding_is_refused(make, tokenizer, tiny_model, pair_rows):
    grown = copy.deepcopy(tokenizer)
    grown.add_special_tokens({"pad_token": "<pad>"})
    with pytest.raises(ConfigError, match=r"tokenizer.pad_token_id.*97.*0 to 96"):
        make(processing_class=grown)
    options = {"processing_class": tokenizer, "train_dataset": pair_rows}
    with pytest.raises(ConfigError, match=r"padding_value.*97"):
        DPOTrainer(copy.deepcopy(tiny_model), DPOConfig(max_training_steps=1, padding_value=97), **options)


def test_rows_that_may_be_longer_than_the_models_positions_are_told(make, tiny_model, caplog):
    with caplog.at_level(logging.WARNING):
        make(with_config(tiny_model, max_positions=31))
    assert "max_length is 32, and the model was made for 31 positions" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        make(with_config(tiny_model, max_positions=32))
    assert "positions" not in caplog.text


def test_a_preview_beyond_the_models_positions_is_refused_at_once(make, tiny_model):
    options = {"preview_prompts": ["w5", " ".join(["w6"] * 20)], "preview_steps": 1, "preview_max_new_tokens": 20}
    with pytest.raises(ConfigError, match=r"preview_prompts.*20\).*39 positions"):
        make(with_config(tiny_model, max_positions=39), config(**options))


class TestRollouts:
    """GRPO samples as well as trains."""

    PROMPTS = ({"prompt": "w5 w6", "answer": 1}, {"prompt": "w7", "level": 2})

    @pytest.fixture
    def rollouts(self, tiny_model, tokenizer):
        def rollouts(arguments=None, *, reward_funcs=None, **options) -> GRPOTrainer:
            shared = {"num_return_sequences": 2, "total_batch_size": 2, "max_completion_length": 4}
            shared |= {"max_prompt_length": 8, "max_training_steps": 2, "length_buckets": [64]}
            model = with_config(tiny_model, **options.pop("model", {}))
            options = {"processing_class": tokenizer, "train_dataset": list(self.PROMPTS)} | options
            rewards = (lambda completions, **_: [0.0] * len(completions)) if reward_funcs is None else reward_funcs
            return GRPOTrainer(model, GRPOConfig(**(shared | (arguments or {}))), reward_funcs=rewards, **options)

        return rollouts

    def test_lengths_beyond_the_models_positions_are_refused(self, rollouts):
        with pytest.raises(ConfigError, match=r"max_length.*at most 11"):
            rollouts(model={"max_positions": 11})
        with pytest.raises(ConfigError, match=r"max_completion_length.*4 positions"):
            rollouts({"max_prompt_length": None}, model={"max_positions": 4})

    def test_prompts_without_a_limit_are_cut_to_what_the_model_has_room_for(self, rollouts):
        long = [{"prompt": " ".join(["w5"] * 30)}] * 2
        trainer = rollouts({"max_prompt_length": None}, model={"max_positions": 16}, train_dataset=long)
        (row,) = trainer.data.training_transform().transform_batch(long[:1])[0]
        assert len(row["prompt_ids"]) == 12

    def test_rows_of_several_kinds_reach_functions_as_none(self, rollouts):
        """The step that holds one kind only has the columns of the other, too."""
        seen = []

        def judge(completions, answer, level):
            seen.append((tuple(answer), tuple(level)))
            return [0.0] * len(completions)

        rollouts({"shuffle_train_dataset": False}, reward_funcs=judge).train()
        assert seen == [((1, 1), (None, None)), ((None, None), (2, 2))]

    def test_an_argument_that_no_row_has_is_refused_at_once(self, rollouts):
        def misspelt(completions, answr):
            return [0.0] * len(completions)

        with pytest.raises(ConfigError, match=r"misspelt.*`answr`"):
            rollouts(reward_funcs=misspelt)

    @pytest.mark.parametrize("name", ["rewards.correct", "rewards.py", "nowhere/rewards.py"])
    def test_a_name_that_is_no_model_is_refused_before_anything_is_loaded(self, rollouts, name, tmp_path):
        with pytest.raises(ConfigError, match=r"reward_funcs.*PATH.py:FUNCTION"):
            rollouts(reward_funcs=[name])

    def test_a_language_model_is_no_reward_model(self, rollouts, tiny_model, tokenizer, tmp_path):
        tiny_model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="is a language model"):
            rollouts(reward_funcs=str(tmp_path))

    def test_a_reward_model_that_does_not_know_the_tokens_is_told(self, rollouts, tiny_model):
        small = dataclasses.replace(tiny_model.config, vocab_size=4, num_labels=1)
        judge = AutoEasyDeLModelForSequenceClassification.from_config(small)
        with pytest.raises(Exception, match=r"a reward model that knows the token"):
            rollouts(reward_funcs=judge).train()

    @pytest.mark.parametrize(
        ("ids", "logps", "words"),
        [
            ([[5], []], [[-1.0], []], "completion 1 of prompt 0 has 0 tokens"),
            ([[5], [5] * 5], [[-1.0], [-1.0] * 5], "has 5 tokens; expected 1 to 4"),
            ([[5], [97]], [[-1.0], [-1.0]], "holds the token 97"),
            ([[5], [-1]], [[-1.0], [-1.0]], "holds the token -1"),
            ([[5], [6, 7]], [[-1.0], [-1.0]], "1 log-probabilities for 2 tokens"),
            ([[5]], [[-1.0]], "1 completions for 2"),
        ],
    )
    def test_an_engine_is_held_to_its_word(self, rollouts, ids, logps, words):
        class Engine:
            def generate(self, prompts, options):
                return GenerateResult(token_ids=ids, logprobs=logps, finish_reasons=["stop"] * len(ids))

            def update(self, model):
                pass

        with pytest.raises(ValueError, match=words):
            rollouts(engine=Engine()).train()


def test_when_every_row_is_dropped_the_error_says_why(tiny_model, tokenizer):
    rows = [{"prompt": " ".join(["w5"] * 40), "chosen": "w6", "rejected": "w7"}] * 6
    options = {"processing_class": tokenizer, "train_dataset": rows}
    with pytest.raises(DataError, match=r"of 6 rows read every one was dropped \(6 dropped_prompt_too_long\)"):
        DPOTrainer(copy.deepcopy(tiny_model), DPOConfig(max_length=16), **options)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 5), (2, 10), (0.5, None)])
def test_the_schedule_ends_with_the_last_row_that_is_trained_on(tiny_model, tokenizer, pair_rows, epochs, steps):
    """Forty pairs of which twenty are too long: five steps of four, the last at a fifth of the peak."""
    short = {"prompt": "w5", "chosen": " w6", "rejected": " w7"}
    long = {"prompt": " ".join(["w5"] * 40), "chosen": " w6", "rejected": " w7"}
    options = {"max_length": 16, "total_batch_size": 4, "log_steps": 1, "learning_rate": 1.0, "length_buckets": [128]}
    arguments = DPOConfig(**options, num_train_epochs=epochs, reference_free=True)
    rows = {"processing_class": tokenizer, "train_dataset": [short, long] * 20}
    trainer = DPOTrainer(copy.deepcopy(tiny_model), arguments, **rows)
    output = trainer.train()
    assert trainer.total_steps == output.global_step == (steps or trainer.total_steps)
    assert output.history[-1]["learning_rate"] == pytest.approx(1 / output.global_step)
