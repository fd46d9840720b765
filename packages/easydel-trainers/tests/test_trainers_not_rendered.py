"""What a chat template does not print is counted by every trainer, and ends the run where the config says so."""

from __future__ import annotations

import copy

import easydel_trainers
import pytest
from easydata_sources import DataQualityError
from easydel_trainers import ConfigError

TEMPLATE = (
    "{% for m in messages if m.role != 'system' %}{{ ' w3 ' if m.role == 'user' else ' w4 ' }}{{ m.content }} </s>"
    "{% endfor %}{% if add_generation_prompt %} w4 {% endif %}"
)
QUESTION = [{"role": "system", "content": "w90"}, {"role": "user", "content": "w5 w6"}]
ANSWER = [{"role": "assistant", "content": "w7 w8", "reasoning_content": "w91"}]
OTHER = [{"role": "assistant", "content": "w9"}]
LABELLED = {"prompt": QUESTION, "completion": ANSWER, "label": True}
PAIR = {"prompt": QUESTION, "chosen": ANSWER, "rejected": OTHER}
ROWS = {
    "SFT": {"messages": QUESTION + ANSWER},
    "DPO": PAIR,
    "ORPO": PAIR,
    "CPO": PAIR,
    "Reward": PAIR,
    "KTO": LABELLED,
    "BCO": LABELLED,
    "GRPO": {"prompt": QUESTION + ANSWER + [{"role": "user", "content": "w10"}]},
}


@pytest.fixture(scope="module")
def chat_tokenizer(tokenizer):
    chatting = copy.deepcopy(tokenizer)
    chatting.chat_template = TEMPLATE
    return chatting


@pytest.fixture
def transform_of(chat_tokenizer):
    def make(name, **options):
        kind, config = (getattr(easydel_trainers, name + part) for part in ("Trainer", "Config"))
        trainer = kind.without_model(config(**options), processing_class=chat_tokenizer, train_dataset=[ROWS[name]] * 4)
        return trainer.training_transform()

    return make


@pytest.mark.parametrize("name", ROWS)
def test_every_trainer_counts_it(transform_of, name):
    rows = [ROWS[name]] * 3
    transform = transform_of(name)
    transform.transform_batch(rows)
    assert transform.report.counts == {"not_rendered/system": 3, "not_rendered/reasoning": 3}
    dropping = transform_of(name, drop_unrendered=["reasoning"])
    dropping.transform_batch(rows)
    assert dropping.report.counts == {"not_rendered/system": 3}
    for reason in ("not_rendered/system", "not_rendered"):
        with pytest.raises(DataQualityError, match=r"3 of 3 rows .* 'not_rendered/system'"):
            transform_of(name, data_thresholds={reason: 0.0}).transform_batch(rows)
    strict = {"not_rendered": 0.0, "not_rendered/system": 1.0}
    transform_of(name, data_thresholds=strict, drop_unrendered=["reasoning"]).transform_batch(rows)


def test_a_run_ends_where_more_is_lost_than_the_config_allows(tiny_model, chat_tokenizer):
    def train(**options):
        arguments = easydel_trainers.SFTConfig(
            max_length=32, total_batch_size=4, length_buckets=[64], gradient_checkpointing="none", **options
        )
        trainer = easydel_trainers.SFTTrainer(
            copy.deepcopy(tiny_model), arguments, processing_class=chat_tokenizer, train_dataset=[ROWS["SFT"]] * 4
        )
        return trainer.train()

    lost = {"not_rendered/system": 4, "not_rendered/reasoning": 4}
    assert train(data_thresholds={"not_rendered": 1.0}).data_report == {"rows": 4, **lost}
    with pytest.raises(DataQualityError, match="drop_unrendered"):
        train(data_thresholds={"not_rendered": 0.5})


@pytest.mark.parametrize(
    "options",
    [
        {"data_thresholds": {"not_renderd": 0.0}},
        {"data_thresholds": {"truncated": 5}},
        {"data_thresholds": {"truncated": "all"}},
        {"drop_unrendered": "reasoning"},
    ],
)
def test_names_and_shares_that_there_are_not_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        easydel_trainers.DPOConfig(**options)
