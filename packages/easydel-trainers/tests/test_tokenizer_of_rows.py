"""A set that another tokenizer made is refused, by every trainer and however it is wrapped, or confirmed."""

import copy
import logging

import pytest
from easydata_mix import MixedShardedSource
from easydata_sources import CompositeShardedSource, MemoryShardedSource, ParquetShardedSource
from easydata_tokenize import PackedShardedSource, open_saved, save_dataset, tokenize_and_save
from easydel_trainers import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from easydel_trainers.data.tokenizer_of_rows import OtherTokenizerError
from easydel_transforms import DPOPreprocessTransform
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

ROWS = [{"text": f"w{number} w{number + 1}"} for number in range(3, 20)]


@pytest.fixture
def other():
    """The same words for other numbers."""
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{number}": 99 - number for number in range(3, 97)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def look(tokenizer, rows, **options):
    config = SFTConfig(max_training_steps=1, **options)
    return SFTTrainer.without_model(config, processing_class=tokenizer, train_dataset=rows)


@pytest.fixture
def folder(tmp_path, other):
    other.name_or_path = "the/other-model"
    tokenize_and_save(ROWS, other, tmp_path / "set")
    return tmp_path / "set"


WAYS = {
    "folder": str,
    "glob": lambda folder: str(folder / "*.parquet"),
    "source": lambda folder: ParquetShardedSource(folder / "*.parquet"),
    "opened": open_saved,
    "mapped": lambda folder: open_saved(folder).map(dict),
    "shuffled, limited": lambda folder: open_saved(folder).shuffle(1).limit(5),
    "share": lambda folder: open_saved(folder).shard(0, 2),
    "packed": lambda folder: PackedShardedSource(open_saved(folder), 8),
    "joined": lambda folder: CompositeShardedSource([MemoryShardedSource(ROWS), open_saved(folder)]),
    "mixed": lambda folder: MixedShardedSource(
        {"raw": MemoryShardedSource(ROWS), "set": open_saved(folder)}, {"raw": 1.0, "set": 1.0}
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_another_tokenizers_set_is_refused_naming_both(folder, tokenizer, way):
    with pytest.raises(OtherTokenizerError, match=r"found: the/other-model(.|\n)*expected: \w+ \(rules"):
        look(tokenizer, WAYS[way](folder))


def test_its_own_tokenizers_set_is_taken_and_the_other_if_confirmed(folder, tokenizer, other):
    look(other, str(folder))
    other("w3 w4 w5", truncation=True, padding="max_length", max_length=8)  # leaves its settings behind
    look(other, str(folder))
    look(tokenizer, str(folder), allow_other_tokenizer=True)
    look(tokenizer, ROWS)


def test_held_out_sets_and_sets_of_sets_are_looked_at(folder, tmp_path, tokenizer):
    with pytest.raises(OtherTokenizerError, match="eval_dataset 'chat'"):
        SFTTrainer.without_model(
            SFTConfig(max_training_steps=1),
            processing_class=tokenizer,
            train_dataset=ROWS,
            eval_dataset={"chat": str(folder)},
        )
    save_dataset(open_saved(folder).map(dict), tmp_path / "again")
    with pytest.raises(OtherTokenizerError):
        look(tokenizer, str(tmp_path / "again"))


def test_pairs_know_their_tokenizer_too(tmp_path, tokenizer, other):
    pairs = MemoryShardedSource([{"prompt": "w3", "chosen": "w4", "rejected": "w5"}])
    save_dataset(pairs.transform(DPOPreprocessTransform(other)), tmp_path / "pairs")
    with pytest.raises(OtherTokenizerError):
        DPOTrainer.without_model(
            DPOConfig(max_training_steps=1), processing_class=tokenizer, train_dataset=str(tmp_path / "pairs")
        )


def test_another_stop_token_is_another_tokenizer_and_another_template_is_told(folder, other, caplog):
    templated = copy.deepcopy(other)
    templated.chat_template = "{{ messages }}"
    with caplog.at_level(logging.WARNING):
        look(templated, str(folder))
    assert "another chat template" in caplog.text
    other.eos_token = "w9"
    with pytest.raises(OtherTokenizerError, match=r"EOS 2(.|\n)*EOS 90"):
        look(other, str(folder))
