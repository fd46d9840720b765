"""Examples to tokens: one batch, right special tokens, masks that decode to what was said."""

import numpy as np
import pytest
from easydata_sources.errors import DataFormatError, RowError
from easydata_tokenize import ChatExample, RowEncoder, TextExample, load_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

WORDS = st.one_of(st.sampled_from(["", "\n", " a", "é👩‍🚀", "12 34", "user", "a\n\n"]), st.text(max_size=10))


def chat(*turns, prompt_turns=None):
    roles = ("user", "assistant")
    messages = [{"role": roles[index % 2], "content": text} for index, text in enumerate(turns)]
    return ChatExample(messages=messages, prompt_turns=prompt_turns)


def decode(tokenizer, ids):
    return tokenizer.backend_tokenizer.decode([int(token) for token in ids], skip_special_tokens=False)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3))
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("chatml", lambda text: text + "<|im_end|>"),
        ("marked", lambda text: text + "<|im_end|>"),
        ("header_trimming", lambda text: text.strip() + "<|eot|>"),
        ("brackets", lambda text: " " + text + "<|im_end|>"),
    ],
)
def test_assistant_tokens_decode_to_the_assistants_text_and_stop_tokens(tokenizer_with, name, said, turns):
    tokenizer = tokenizer_with(name)
    (row,) = RowEncoder(tokenizer, assistant_masks=True).encode([chat(*(text for turn in turns for text in turn))])
    trained = decode(tokenizer, row.input_ids[row.assistant_mask])
    assert "letters_without_token" in row.notes or trained == "".join(said(answer) for _, answer in turns)


def test_a_token_across_the_edge_of_a_turn_is_split_there(tokenizer_with):
    tokenizer = tokenizer_with("chatml")
    (row,) = RowEncoder(tokenizer, assistant_masks=True).encode([chat("a", "\n\nb")])
    # "assistant\n" + "\n\nb": the tokenizer joins the first two newlines to one token, half header and half answer.
    assert row.notes == ("split_at_turn",)
    text = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n\n\nb<|im_end|>\n"
    assert decode(tokenizer, row.input_ids) == text
    assert len(row.input_ids) == len(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)) + 1
    assert decode(tokenizer, row.input_ids[row.assistant_mask]) == "\n\nb<|im_end|>"


def test_letters_the_vocabulary_lacks_are_noted(tokenizer_with):
    (row,) = RowEncoder(tokenizer_with("chatml"), assistant_masks=True).encode([chat("a", "b\U00040000")])
    assert row.notes == ("letters_without_token",)


def test_pad_equal_to_eos_erases_no_stop_token(tokenizer_with):
    tokenizer = tokenizer_with("chatml")
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
    (row,) = RowEncoder(tokenizer, assistant_masks=True).encode([chat("a", "b", "c", "d")])
    assert (row.input_ids[row.assistant_mask] == tokenizer.eos_token_id).sum() == 2


def test_batch_equals_rows_one_by_one_in_order(tokenizer_with):
    examples = [
        chat("a", "b"),
        TextExample(text="t"),
        TextExample(text=" c", prompt="p"),
        chat("q", "r", prompt_turns=1),
    ]
    encoder = RowEncoder(tokenizer_with("chatml"))
    together = encoder.encode(examples)
    for row, alone in zip(together, [encoder.encode([example])[0] for example in examples], strict=True):
        np.testing.assert_array_equal(row.input_ids, alone.input_ids)
        assert (row.completion_start, row.notes) == (alone.completion_start, alone.notes)
    assert [row.input_ids.dtype for row in together] == [np.dtype(np.int32)] * 4
    assert encoder.encode([]) == []


def test_completion_starts_behind_the_generation_prompt_and_ends_with_the_templates_newline(tokenizer_with):
    tokenizer = tokenizer_with("chatml")
    (row,) = RowEncoder(tokenizer).encode([chat("a", "b", prompt_turns=1)])
    assert decode(tokenizer, row.input_ids[: row.completion_start]).endswith("<|im_start|>assistant\n")
    assert decode(tokenizer, row.input_ids[row.completion_start :]) == "b<|im_end|>\n"


def test_prompt_that_merges_with_the_completion_is_cut_at_the_common_tokens(tokenizer_with):
    tokenizer = tokenizer_with("chatml")
    (row,) = RowEncoder(tokenizer).encode([TextExample(prompt="say hel", text="lo")])
    # "hel" is a token of the prompt, "hello" one of the row: the blind length would leave "hello" untrained.
    assert row.notes == ("prefix_mismatch",)
    assert decode(tokenizer, row.input_ids[row.completion_start :]) == " hello<|im_end|>"


def test_generation_prompt_that_opens_a_thought_leaves_the_answer_whole(tokenizer_with):
    tokenizer = tokenizer_with("forgets_thoughts")
    (row,) = RowEncoder(tokenizer).encode([chat("a", "b", prompt_turns=1)])
    assert decode(tokenizer, row.input_ids[row.completion_start :]) == "b<|im_end|>\n"
    assert "prefix_mismatch" in row.notes


def test_a_prompt_that_is_rendered_differently_with_its_completion_is_noted_and_never_trained(golden):
    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.chat_template = (
        "{{ messages | length }}{% for m in messages %}<{{ m['role'][0] }}>{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<a>{% endif %}"
    )
    (row,) = RowEncoder(tokenizer).encode([chat("x", "y", prompt_turns=1)])
    assert row.notes == ("prefix_mismatch",)
    assert decode(tokenizer, row.input_ids[row.completion_start :]) == "y<|im_end|>"


def test_eos_is_appended_to_strings_once_and_never_to_conversations(tokenizer_with):
    encoder = RowEncoder(tokenizer_with("chatml"))
    rows = encoder.encode([TextExample(text="a"), TextExample(text="a<|im_end|>"), chat("a", "b")])
    assert [int((row.input_ids == 2).sum()) for row in rows] == [1, 1, 2]
    assert rows[0].input_ids.tolist() == rows[1].input_ids.tolist()


@pytest.fixture(scope="module")
def tokenizer_that_adds_bos(golden):
    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)]
    )
    return tokenizer


def test_a_tokenizer_that_adds_bos_and_eos_doubles_neither(tokenizer_that_adds_bos):
    encoder = RowEncoder(tokenizer_that_adds_bos)
    examples = [TextExample(text="a"), TextExample(text="<|im_start|>a"), TextExample(prompt="p", text=" a"), chat("a")]
    rows = encoder.encode(examples)
    assert [row.input_ids[:2].tolist().count(1) for row in rows] == [1, 1, 1, 1]
    assert [row.input_ids[-2:].tolist().count(2) for row in rows] == [1, 1, 1, 1]
    assert rows[2].completion_start == 2  # BOS and "p"
    assert all("doubled_bos" not in row.notes for row in rows)


def test_a_doubled_bos_in_the_data_is_noted(tokenizer_that_adds_bos):
    (row,) = RowEncoder(tokenizer_that_adds_bos).encode([chat("<|im_start|>a")])
    assert {"doubled_bos", "control_token_in_content"} <= set(row.notes)


def test_padding_and_truncation_left_on_the_tokenizer_change_nothing(golden):
    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer(["a", "a b c d e f"], padding=True, truncation=True, max_length=3)
    rows = RowEncoder(tokenizer).encode([TextExample(text="a"), TextExample(text="a b c d e f")])
    assert [len(row.input_ids) for row in rows] == [2, 7]


def test_tools_a_template_does_not_print_are_noted(tokenizer_with):
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    example = ChatExample(messages=[{"role": "user", "content": "a"}, call], tools=[{"name": "f"}])
    assert RowEncoder(tokenizer_with("chatml")).encode([example])[0].notes == (
        "not_rendered/tools",
        "not_rendered/tool_call",
    )
    assert RowEncoder(tokenizer_with("tools")).encode([example])[0].notes == ()


def test_a_template_that_drops_the_last_stop_token_is_noted(golden):
    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% if m['content'] != 'b' %}<|im_end|>{% endif %}{% endfor %}"
    )
    assert RowEncoder(tokenizer).encode([chat("a", "b")])[0].notes == ("missing_stop_token",)
    assert RowEncoder(tokenizer).encode([chat("a", "c")])[0].notes == ()


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (TextExample(text="a"), "plain text"),
        (chat("a"), "the assistant says nothing"),
        (ChatExample(messages=[]), "Conversation is empty"),
    ],
)
def test_rows_without_an_assistant_raise_when_only_he_is_trained(tokenizer_with, example, message):
    encoder = RowEncoder(tokenizer_with("chatml"), assistant_masks=True)
    with pytest.raises(RowError, match=message) as caught:
        encoder.encode([chat("a", "b"), example])
    assert caught.value.row_in_batch == 1


def test_assistant_masks_without_a_template_raise_before_any_row(tokenizer_with):
    with pytest.raises(DataFormatError, match="no chat template"):
        RowEncoder(tokenizer_with(None), assistant_masks=True)


def test_marks_that_leave_out_the_stop_token_raise(golden):
    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.chat_template = (
        "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}<|im_end|>{% endfor %}"
    )
    with pytest.raises(RowError, match="leave out the stop token") as caught:
        RowEncoder(tokenizer, assistant_masks=True).encode([chat("a", "b")])
    assert caught.value.column == "messages[1]"


def test_text_rows_need_an_eos_token(golden):
    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.eos_token = None
    with pytest.raises(RowError, match="never stop"):
        RowEncoder(tokenizer).encode([TextExample(text="a")])


def test_a_space_that_the_tokenizer_adds_is_no_lost_letter():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|a|>", "<|end|>"])
    backend.train_from_iterator(["yes no"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", pad_token="<|end|>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|a|>' if m.role == 'assistant' }}{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|a|>{% endif %}"
    )
    messages = [{"role": "user", "content": "no"}, {"role": "assistant", "content": "yes"}]
    (row,) = RowEncoder(tokenizer, assistant_masks=True).encode([ChatExample(messages=messages)])
    assert row.notes == ()
    assert tokenizer.decode(row.input_ids[row.assistant_mask]) == " yes<|end|>"
