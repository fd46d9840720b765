"""Every message on the page about troubleshooting is, word for word, what is raised; nothing else shows there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import easydel as ed
import pytest
from datasets import Dataset
from easydata_sources import as_sharded_source
from easydata_tokenize import load_tokenizer
from easydel.data import JsonShardedSource, MixedShardedSource, WeightSchedulePoint, WeightScheduler

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
QUICK = {"max_training_steps": 1, "total_batch_size": 2, "max_length": 64}


def messages() -> list[str]:
    """The messages that the page shows, in its order."""
    return re.findall(
        r'^```text title="message"\n(.*?)^```$', PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def missing_columns() -> None:
    rows = Dataset.from_list([{"question": "1 + 1?", "good": "2", "bad": "3"}])
    ed.DPOTrainer("model", train_dataset=rows)


def no_such_files() -> None:
    ed.SFTTrainer("model", train_dataset="conversation/*.jsonl")


def broken_line() -> None:
    Path("broken.jsonl").write_text('{"text": "one"}\n{"text": "tw\n', encoding="utf-8")
    list(JsonShardedSource("broken.jsonl").rows())


def no_template() -> None:
    tokenizer = load_tokenizer("model")
    tokenizer.chat_template = None
    ed.SFTTrainer("model", processing_class=tokenizer, train_dataset="conversations/*.jsonl")


def rating_as_label() -> None:
    rows = [{"prompt": "1 + 1 is", "completion": " 2", "label": 4}]
    ed.KTOTrainer("model", train_dataset=rows)


def budgets() -> None:
    ed.DPOConfig(max_length=512, max_prompt_length=512, max_completion_length=512)


def accumulation() -> None:
    ed.SFTConfig(total_batch_size=8, gradient_accumulation_steps=3)


def both_batch_sizes() -> None:
    ed.SFTConfig(per_device_train_batch_size=4, total_batch_size=32)


def warmup_ratio() -> None:
    ed.SFTConfig(warmup_ratio=0.1)


def peft_config() -> None:
    ed.SFTTrainer("model", train_dataset="conversations/*.jsonl", peft_config={"r": 8})


def unknown_length() -> None:
    rows = Dataset.from_list([{"text": "one"}]).to_iterable_dataset()
    ed.SFTTrainer("model", train_dataset=rows)


def schedule_alone() -> None:
    scheduler = WeightScheduler(
        schedule=[
            WeightSchedulePoint(step=0, weights={"easy": 0.9, "hard": 0.1}),
            WeightSchedulePoint(step=100, weights={"easy": 0.1, "hard": 0.9}),
        ],
        interpolation="linear",
    )
    sources = {name: as_sharded_source([{"text": name}] * 9) for name in ("easy", "hard")}
    list(MixedShardedSource(sources=sources, weight_scheduler=scheduler, block_size=10).rows())


def kto_of_one() -> None:
    ed.KTOConfig(total_batch_size=1)


def config_of_another_trainer() -> None:
    ed.DPOTrainer("model", train_dataset="preferences/*.jsonl", arguments=ed.SFTConfig(max_length=64))


def other_run_in_the_folder() -> None:
    for rate in (1e-5, 2e-5):
        arguments = ed.SFTConfig(learning_rate=rate, save_directory="runs/same", **QUICK)
        ed.SFTTrainer("model", train_dataset="texts/*.jsonl", arguments=arguments).train()


def nothing_to_train() -> None:
    rows = [{"messages": [{"role": "user", "content": "Hello"}]}] * 40
    arguments = ed.SFTConfig(assistant_only_loss=True, **QUICK)
    ed.SFTTrainer("model", train_dataset=rows, arguments=arguments).train()


def no_model() -> None:
    ed.SFTTrainer("models/mine", train_dataset="texts/*.jsonl", processing_class=load_tokenizer("model"))


CAUSES: tuple[Callable[[], None], ...] = (
    missing_columns,
    no_such_files,
    broken_line,
    no_template,
    rating_as_label,
    nothing_to_train,
    budgets,
    accumulation,
    both_batch_sizes,
    kto_of_one,
    unknown_length,
    schedule_alone,
    config_of_another_trainer,
    warmup_ratio,
    peft_config,
    no_model,
    other_run_in_the_folder,
)


@pytest.mark.parametrize("number", range(len(CAUSES)), ids=[cause.__name__ for cause in CAUSES])
def test_the_page_says_what_is_raised(number: int, workspace: Path) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of every class
        CAUSES[number]()
    assert messages()[number].rstrip("\n") == str(raised.value).replace(f"{workspace}/", "")


def test_the_page_shows_nothing_else() -> None:
    assert len(messages()) == len(CAUSES)


if __name__ == "__main__":  # prints the messages, for the page
    for cause in CAUSES:
        try:
            cause()
        except Exception as error:  # noqa: BLE001 - of every class
            print(json.dumps([cause.__name__, type(error).__name__]))
            print(error, flush=True)
        else:
            print(cause.__name__, "raised nothing")
