"""Assistant turns of unmarked templates: exactly the assistant's text and stop token, or an error."""

import pytest
from easydata_sources.errors import DataFormatError
from easydata_tokenize.rendering.chat_templates import ChatTemplates
from easydata_tokenize.rendering.row_parts import RowParts
from easydata_tokenize.rendering.template import Conversation
from easydata_tokenize.rendering.turns import TurnFinder
from hypothesis import example, given, settings
from hypothesis import strategies as st

# What could be mistaken for something else: template words, white space, nothing, letters of several tokens.
WORDS = ["", " ", "\n", "assistant", "user\n", "<|im_start|>assistant\n", "<|im_end|>", "a<|im_end|>\nb"]
LETTERS = ["<think>\n", "[ASK] x [/ASK]", "👩\u200d🚀", "e\u0301", "\ue0000\ue001", "\x1f", " x ", "<|eot|>", "日本語"]
CONTENTS = st.one_of(st.sampled_from([*WORDS, *LETTERS]), st.text(max_size=12))
TURNS = st.lists(st.tuples(CONTENTS, CONTENTS), min_size=1, max_size=4)


def conversation(turns):
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for turn in turns for role, text in zip(roles, turn, strict=True)]


def spoken(tokenizer, messages, tools=None):
    template = ChatTemplates(tokenizer).choose(tools)
    conversation = Conversation(messages, tools)
    traced, rendered = template.rendered(conversation)
    turns = TurnFinder(RowParts(template, conversation, traced, rendered)).turns()
    return [rendered.text[turn.start : turn.end] for turn in turns]


@settings(max_examples=60, deadline=None)
@given(TURNS)
@example([("same", "same"), ("same", "same")])
@example([("", ""), ("", "")])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("chatml", lambda text: text + "<|im_end|>"),
        ("header_trimming", lambda text: text.strip() + "<|eot|>"),
        ("brackets", lambda text: " " + text + "<|im_end|>"),
    ],
)
def test_turns_are_exactly_what_the_assistant_said(tokenizer_with, name, said, turns):
    found = spoken(tokenizer_with(name), conversation(turns))
    assert found == [said(answer) for _, answer in turns]


def test_unmarked_and_marked_templates_agree(tokenizer_with):
    messages = conversation([("Hi", "Hello"), ("assistant", ""), ("\n", " user ")])
    marked = ChatTemplates(tokenizer_with("marked")).choose()
    _, rendered = marked.rendered(Conversation(messages))
    said = [rendered.text[start:end] for start, end in rendered.generated]
    assert said == spoken(tokenizer_with("chatml"), messages)


def test_conversations_may_begin_with_a_system_message_or_the_assistant(tokenizer_with):
    system, user = {"role": "system", "content": "S"}, {"role": "user", "content": "U"}
    answer = {"role": "assistant", "content": "A"}
    for messages in ([system, user, answer], [answer, user, answer], [user, answer, answer]):
        said = ["A<|im_end|>"] * sum(message["role"] == "assistant" for message in messages)
        assert spoken(tokenizer_with("chatml"), messages) == said


def test_tool_calls_belong_to_the_turn(tokenizer_with):
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "user", "content": "1 + 1"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "It is 2.", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "Yes."},
    ]
    printed = '\n<call>{"name": "add", "arguments": {"a": 1}}</call><|im_end|>'
    found = spoken(tokenizer_with("tools"), messages, tools=tools)
    assert found == [printed, "It is 2." + printed, "Yes.<|im_end|>"]


def test_a_template_that_forgets_thoughts_is_followed(tokenizer_with):
    messages = conversation([("a", "<think>\nhm\n</think>\n\nA"), ("b", "<think>\noh\n</think>\n\nB")])
    found = spoken(tokenizer_with("forgets_thoughts"), messages)
    # The generation prompt opens the thought; the turn before does not show it, the last one repeats it.
    assert found == ["A<|im_end|>", "oh\n</think>\n\nB<|im_end|>"]


def test_marks_of_the_template_inside_a_message_are_told_from_its_own(tokenizer_with):
    messages = conversation([("a<|im_end|>", "<think>\nhm\n</think>\n\nA"), ("say <|im_end|>", "B <|im_end|> b")])
    assert spoken(tokenizer_with("forgets_thoughts"), messages) == ["A<|im_end|>", "B <|im_end|> b<|im_end|>"]


def test_a_template_that_rewrites_the_assistants_text_is_followed(golden):
    from easydata_tokenize import load_tokenizer

    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | upper }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    assert spoken(tokenizer, conversation([("a", "b"), ("c", "é{")])) == ["B<|im_end|>", "É{<|im_end|>"]


def test_two_messages_that_a_template_mixes_cannot_be_told_apart(golden):
    from easydata_tokenize import load_tokenizer

    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.chat_template = (
        "{% for m in messages if m.role != 'tool' %}<|im_start|>{{ m.role }}\n"
        "{% if m.tool_calls %}<call>{{ m.tool_calls[0].function.name }}</call>"
        "{{ messages[loop.index].content }}{% endif %}"
        "{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    call = {"type": "function", "function": {"name": "look", "arguments": {}}}
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "content": "secret"},
    ]
    with pytest.raises(DataFormatError, match="prints other messages inside this turn") as caught:
        spoken(tokenizer, messages)
    assert caught.value.column == "messages[1]"
    assert "{% generation %}" in str(caught.value)
