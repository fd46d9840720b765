"""Conversations that are refused, or lose something: told with row and part of the template, nothing guessed."""

import copy
import json

import pytest
from easydata_sources import DataError, DataReport, JsonShardedSource
from easydata_sources.errors import RowError
from easydata_tokenize import MissingChatTemplateError
from easydel_transforms import (
    DPOPreprocessTransform,
    GRPOPreprocessTransform,
    KTOPreprocessTransform,
    RewardPreprocessTransform,
    SFTPreprocessTransform,
)

QUESTION = {"role": "user", "content": "q"}
REPLY = {"role": "assistant", "content": "A"}
RESULT = {"role": "tool", "content": "secret"}


def calling(**function):
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


def refused(tokenizer, chat, assistant_only=False, **row):
    with pytest.raises(RowError) as caught:
        SFTPreprocessTransform(tokenizer, None, assistant_only_loss=assistant_only).transform_batch(
            [{"messages": [QUESTION, REPLY]}, {"messages": chat, **row}]
        )
    assert caught.value.row_in_batch == 1
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def test_a_row_may_name_the_generation_prompt_itself(tokenizer_of, masks):
    """N6: `add_generation_prompt` among a row's template arguments."""
    transform = SFTPreprocessTransform(tokenizer_of(masks["PLAIN"]), None, assistant_only_loss=True)
    row = {"messages": [QUESTION, REPLY], "chat_template_kwargs": {"add_generation_prompt": False}}
    view = transform.explain(row)
    assert "".join(token.text for token in view if token.trained) == "A<|e|>"


def test_a_tools_answer_inside_a_turn_is_a_doubt(tokenizer_of, masks):
    inside = (
        "{% for m in messages if m.role != 'tool' %}<|{{ m.role[0] }}|>{% if m.tool_calls %}"
        "{{ m.tool_calls[0].function.name }}<|t|>{{ messages[loop.index].content }}{% endif %}{{ m.content }}<|e|>"
        "{% endfor %}"
    )
    look = {**calling(name="look", arguments={}), "content": "I look."}
    message = refused(tokenizer_of(inside + masks["PROMPT"]), [QUESTION, look, RESULT, REPLY], assistant_only=True)
    assert "column: messages[1]" in message
    assert "prints other messages inside this turn" in message
    assert "{% generation %}" in message


def test_a_role_that_the_template_refuses_is_named_with_its_line(tokenizer_of):
    tokenizer = tokenizer_of(
        "{% for m in messages %}{% if m.role == 'tool' %}\n{{ raise_exception('no tools here') }}{% endif %}"
        "{% endfor %}"
    )
    message = refused(tokenizer, [QUESTION, RESULT])
    assert "no tools here" in message
    assert "line 2 of the template" in message
    assert "roles user, tool" in message


def test_a_role_that_the_template_needs_is_told_in_its_words(tokenizer_of, masks):
    needs = "{% if messages[0].role != 'system' %}{{ raise_exception('say who you are') }}{% endif %}" + masks["PLAIN"]
    with pytest.raises(RowError, match="say who you are"):
        SFTPreprocessTransform(tokenizer_of(needs), None).transform_batch([{"messages": [QUESTION, REPLY]}])


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("{% for m in messages %}{% for a in range(99999) %}{% for b in range(99999) %}", "steps"),
        ("{% for m in messages %}{{ m.content * 99999999 }}{% if true %}{% if true %}", "characters"),
    ],
    ids=["loops", "prints"],
)
def test_a_template_that_never_ends_costs_a_row_and_no_more(tokenizer_of, masks, source, found):
    bomb = (
        source + "{% endfor %}{% endfor %}{% endfor %}"
        if "range" in source
        else source + "{% endif %}{% endif %}{% endfor %}"
    )
    only_when_asked = "{% if messages[0].content == 'boom' %}" + bomb + "{% endif %}" + masks["PLAIN"]
    message = refused(tokenizer_of(only_when_asked), [{**QUESTION, "content": "boom"}, REPLY])
    assert found in message
    assert "line 1 of the template" in message


def test_what_is_no_template_is_refused_with_its_line(tokenizer_of):
    with pytest.raises(RowError, match="line 2 of the template"):
        SFTPreprocessTransform(tokenizer_of("one\n{% for m in messages %}"), None).transform_batch(
            [{"messages": [QUESTION, REPLY]}]
        )


@pytest.mark.parametrize("assistant_only", [True, False])
def test_a_chat_without_any_template_is_refused(own_tokenizer, assistant_only):
    own_tokenizer.chat_template = None
    with pytest.raises((RowError, MissingChatTemplateError), match="no chat template"):
        SFTPreprocessTransform(own_tokenizer, None, assistant_only_loss=assistant_only).transform_batch(
            [{"messages": [QUESTION, REPLY]}]
        )


@pytest.mark.parametrize(
    ("chat", "found"),
    [
        ([QUESTION, calling(arguments={})], "has no name"),
        ([QUESTION, calling(name="look", arguments='{"at": ')], "not JSON"),
        ([{"content": "q"}, REPLY], "no role"),
        ([QUESTION, {"role": "assistant"}], "no content"),
        ([QUESTION, "A"], "not a dict"),
    ],
)
def test_a_broken_message_is_told_with_file_and_row(tokenizer_of, masks, tmp_path, chat, found):
    rows = [{"messages": [QUESTION, REPLY]}, {"messages": chat}]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    transform = SFTPreprocessTransform(tokenizer_of(masks["PLAIN"]), None)
    with pytest.raises(DataError, match=found) as caught:
        list(JsonShardedSource(str(tmp_path / "chats.jsonl")).transform(transform).rows())
    assert "chats.jsonl" in str(caught.value)
    assert "row: 1" in str(caught.value)
    assert "messages[" in str(caught.value)


def test_what_nobody_misses_is_not_counted(tokenizer_of, masks):
    tokenizer = tokenizer_of(masks["PLAIN"])
    chat = [QUESTION, {**REPLY, "reasoning_content": "hm"}]
    pair = {"prompt": chat[:1], "chosen": chat[1:], "rejected": [{**REPLY, "content": "B"}]}
    cases = {
        SFTPreprocessTransform: {"messages": chat},
        KTOPreprocessTransform: {"prompt": chat[:1], "completion": chat[1:], "label": True},
        DPOPreprocessTransform: pair,
        RewardPreprocessTransform: pair,
        GRPOPreprocessTransform: {"prompt": [*chat, QUESTION]},
    }
    for make, given in cases.items():
        counted, dropped = make(tokenizer), make(tokenizer, drop_unrendered=["reasoning"])
        counted.transform_batch([copy.deepcopy(given)])
        dropped.transform_batch([copy.deepcopy(given)])
        assert counted.report.counts == {"not_rendered/reasoning": 1}
        assert dropped.report.counts == {}
    strict = SFTPreprocessTransform(tokenizer, report=DataReport({"not_rendered/reasoning": 0.0}))
    with pytest.raises(DataError, match="not_rendered/reasoning"):
        strict.transform_batch([{"messages": chat}])
