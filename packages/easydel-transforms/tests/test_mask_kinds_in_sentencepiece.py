"""Every kind of `mask_kinds.py` with vocabularies that put a space before each word, as Llama 2's and Phi-3's do."""

import copy

import pytest
from easydata_sources import DataReport
from easydel_transforms import DPOPreprocessTransform, SFTPreprocessTransform
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
from transformers import PreTrainedTokenizerFast

REPORTED = {"missing_stop_token": 1.0}
WORDS = ["Call", "like", "this.", "Look.", "Other", "words", "and", "others", "low", "tide", "secret", "Be", "brief."]
WORDS += ["good.", *"ABCpqz"]


def sentencepiece(marks, *, swallows):
    """A byte-falling-back BPE of few merges; with `swallows`, its marks take the white space behind them (N2)."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(WORDS * 2, trainers.BpeTrainer(vocab_size=1000, special_tokens=special))
    backend.add_special_tokens([AddedToken(mark, normalized=False, rstrip=swallows) for mark in marks])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|e|>", pad_token="<|e|>", unk_token="<unk>")


@pytest.fixture(scope="module", params=[False, True], ids=["as they are", "swallowing"])
def spaced_tokenizer(request, masks):
    return sentencepiece(masks["MARKS"], swallows=request.param)


def bare(text):
    """The text without its white space, which such a vocabulary adds and loses."""
    return "".join(text.split())


def test_a_space_is_in_the_token_of_the_word_behind_it(spaced_tokenizer):
    assert spaced_tokenizer.tokenize("low tide\n") == ["▁low", "▁tide", "<0x0A>"]


def test_the_assistants_turns_are_trained(spaced_tokenizer, mask_kind):
    tokenizer = spaced_tokenizer
    tokenizer.chat_template = mask_kind.template
    transform = SFTPreprocessTransform(tokenizer, None, assistant_only_loss=True, report=DataReport(REPORTED))
    row = {"messages": copy.deepcopy(mask_kind.messages), **mask_kind.row}
    ((tokens,),) = transform.transform_batch([row])
    trained = [int(token) for token, label in zip(tokens["input_ids"], tokens["labels"], strict=True) if label != -100]
    assert bare(tokenizer.decode(trained)) == bare("".join(mask_kind.turns))
    assert transform.report.counts == mask_kind.counted


def test_answers_are_trained_whole(spaced_tokenizer, mask_kind):
    tokenizer = spaced_tokenizer
    tokenizer.chat_template = mask_kind.template
    pair = {
        "prompt": mask_kind.messages[:-1],
        "chosen": mask_kind.messages[-1:],
        "rejected": [{"role": "assistant", "content": "Other"}],
    }
    transform = DPOPreprocessTransform(tokenizer, report=DataReport(REPORTED))
    ((tokens,),) = transform.transform_batch([copy.deepcopy({**pair, **mask_kind.row})])
    assert bare(tokenizer.decode(tokens["chosen_ids"])) == bare(mask_kind.turns[-1] + mask_kind.behind)
