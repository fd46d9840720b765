"""Conversations rendered by row, as transforms of a source."""

from __future__ import annotations

import pytest
from easydata_sources import DataFormatError, MemoryShardedSource
from easydata_tokenize import ChatTemplateTransform, MaybeApplyChatTemplate, load_tokenizer

TEMPLATE = (
    "{% if tools %}tools: {{ tools | length }}\n{% endif %}"
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}{% if shout %}!{% endif %}"
)
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.fixture
def chat_tokenizer(golden):
    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def test_a_conversation_becomes_text(chat_tokenizer):
    rendered = "<user>Hi</s>\n<assistant>Hello</s>\n"
    apply = ChatTemplateTransform(chat_tokenizer)
    assert apply({"messages": CHAT, "n": 1}) == {"n": 1, "text": rendered}
    assert apply({"conversation": CHAT}) == {"text": rendered}
    shared = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    assert apply({"conversations": shared}) == {"text": rendered}
    assert apply({"text": "plain"}) == {"text": "plain"}
    kept = ChatTemplateTransform(chat_tokenizer, "chat", "out", drop_messages=False, tools=[{}], shout=True)
    assert kept({"chat": CHAT}) == {"chat": CHAT, "out": f"tools: 1\n{rendered}!"}
    asked = ChatTemplateTransform(chat_tokenizer, add_generation_prompt=True)({"messages": CHAT[:1], "tools": "[]"})
    assert asked["text"] == "<user>Hi</s>\n<assistant>"
    assert len(MemoryShardedSource([{"messages": CHAT}] * 3).transform(apply)) == 3


def test_what_cannot_be_rendered_raises_and_names_its_row(chat_tokenizer):
    strict = ChatTemplateTransform(chat_tokenizer, convert_from_value_format=False)
    for bad in ([{"from": "human", "value": "Hi"}], "text", [{"content": "no role"}]):
        source = MemoryShardedSource([{"messages": CHAT}, {"messages": bad}], name="mine").transform(strict)
        with pytest.raises(DataFormatError, match=r"file: mine\n  row: 1\n  column: messages"):
            list(source.rows())
    chat_tokenizer.chat_template = "{{ raise_exception('No such roles here') }}"
    with pytest.raises(DataFormatError, match="No such roles here"):  # not text like "user: Hi"
        ChatTemplateTransform(chat_tokenizer)({"messages": CHAT})


def test_only_conversations_are_rendered(chat_tokenizer):
    apply = MaybeApplyChatTemplate(chat_tokenizer)
    assert apply({"prompt": "Hi", "completion": " Hello"}) == {"prompt": "Hi", "completion": " Hello"}
    assert apply({"messages": CHAT, "n": 1}) == {"n": 1, "text": "<user>Hi</s>\n<assistant>Hello</s>\n"}
    pair = {"prompt": CHAT[:1], "chosen": CHAT[1:], "rejected": [{"role": "assistant", "content": "Go"}]}
    assert apply(pair) == {
        "prompt": "<user>Hi</s>\n<assistant>",
        "chosen": "Hello</s>\n",
        "rejected": "Go</s>\n",
    }
    assert apply({"chosen": CHAT, "rejected": CHAT})["chosen"] == "<user>Hi</s>\n<assistant>Hello</s>\n"
