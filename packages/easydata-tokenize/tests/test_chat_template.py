"""Chat templates: what they print, in which form they want a row, and how they fail."""

import time

import pytest
from easydata_sources.errors import DataFormatError
from easydata_tokenize import ChatTemplate, ChatTemplates, MissingChatTemplateError
from easydata_tokenize.rendering.template import Conversation

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "add"}}


def template(source):
    specials = frozenset({"<|im_start|>", "<|im_end|>"})
    return ChatTemplate(source, variables={"bos_token": "<s>"}, specials=specials)


def calling(arguments):
    return [CHAT[0], {"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": arguments}}]}]


def test_rendering_uses_special_tokens_and_row_variables():
    source = "{{ bos_token }}{{ 'deep' if think else 'plain' }}:{{ messages[0]['content'] }}"
    assert template(source).render(CHAT) == "<s>plain:Hi"
    assert template(source).render(CHAT, template_kwargs={"think": True}) == "<s>deep:Hi"


def test_a_refusing_template_is_quoted():
    with pytest.raises(DataFormatError, match="after you") as caught:
        template("{{ raise_exception('after you') }}").render(CHAT)
    assert "roles user, assistant" in str(caught.value)


@pytest.mark.parametrize("mark", ["{% generation %}", "{%- generation %}", "{%- generation -%}", "{%generation-%}"])
def test_marks_are_seen_with_and_without_dashes(mark):
    marked = template("{{ messages[0]['content'] }}>" + mark + "{{ messages[1]['content'] }}{% endgeneration %}")
    assert marked.has_generation_marks
    _, rendered = marked.rendered(Conversation(CHAT))
    assert (rendered.text, rendered.generated) == ("Hi>Hello", [(3, 8)])


@pytest.mark.parametrize(
    ("expression", "rendered"),
    [
        ("call['function']['arguments'] | tojson", '{"a": 1}'),
        ("call['function']['arguments'].items() | list | tojson", '[["a", 1]]'),
        ("'' + call['function']['arguments']", '{"a": 1}'),
        ("call['function']['arguments']", '{"a": 1}'),
        ("'%s' % call['function']['arguments']", '{"a": 1}'),
    ],
)
@pytest.mark.parametrize("given", [{"a": 1}, '{"a": 1}'])
def test_tool_arguments_reach_the_template_in_the_form_it_can_print(expression, rendered, given):
    source = (
        "{% for m in messages %}{% for call in m['tool_calls'] or [] %}{{ " + expression + " }}{% endfor %}{% endfor %}"
    )
    assert template(source).render(calling(given)) == rendered


def test_a_null_content_is_given_as_it_is_unless_that_is_printed():
    asks = "{% for m in messages %}{% if m.content is none %}CALL{% else %}{{ m.content }}{% endif %}{% endfor %}"
    prints = "{% for m in messages %}{{ m.content }}{% if m.tool_calls %}CALL{% endif %}{% endfor %}"
    messages = calling({"a": 1})
    messages[1]["content"] = None
    assert (template(asks).render(messages), template(prints).render(messages)) == ("HiCALL", "HiCALL")


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.content + ';' }}{% endfor %}",
        "{% for m in messages %}{{ m.content }};{% endfor %}",
        "{% for m in messages %}{{ '%s' % m.content }};{% endfor %}",
        "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %};{% endfor %}",
        "{% for m in messages %}{{ m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join }};"
        "{% endfor %}",
    ],
)
def test_texts_are_given_as_strings_or_as_parts_as_the_template_wants_them(source):
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    for question in ("Hi", [{"type": "text", "text": "Hi"}]):
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": parts}]
        assert template(source).render(messages) == "Hi;Hello;"


@pytest.mark.parametrize(
    "printed",
    ["m.content", "m.content | string", "m.content | trim", "m.content | upper", "m.content | replace('x', 'y')"],
)
def test_an_object_is_told_from_the_templates_own_letters_however_it_is_printed(printed):
    source = "{% for m in messages %}<r>{{ " + printed + " }}</r>{% endfor %}"
    _, rendered = template(source).rendered(Conversation([{"role": "tool", "content": {"boat": "low"}}]))
    assert [rendered.text[block.start : block.end].lower() for block in rendered.blocks] == ["{'boat': 'low'}"]
    assert [block.message for block in rendered.blocks] == [0]
    assert rendered.unrendered == {}
    assert rendered.misses == 1


DOUBLED = (
    "{%% set ns = namespace(s='ab') %%}{%% for i in range(60) %%}{%% set ns.s = ns.s %s ns.s %%}{%% endfor %%}"
    "{{ ns.s }}"
)
BOMBS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursion": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "product": "{{ 'a' * 10 ** 10 }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "doubling": DOUBLED % "+",
    "joining": DOUBLED % "~",
    "replacing": "{% set ns = namespace(s='aaaa') %}{% for i in range(60) %}"
    "{% set ns.s = ns.s.replace('a', ns.s) %}{% endfor %}{{ ns.s }}",
    "centred": "{{ 'a'.center(10000000000) }}",
    "filtered": "{{ 'a' | center(10000000000) }}",
    "formatted": "{{ '{:>9999999999}'.format('a') }}",
    "per cent": "{{ '%9999999999d' % 1 }}",
    "indented": "{{ messages | tojson(indent=1000000000) }}",
    "printed": "{% for a in range(99999) %}{{ messages[0].content * 9999 }}{% endfor %}",
}


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
def test_a_template_that_never_ends_or_prints_without_end_is_stopped(source):
    started = time.monotonic()
    with pytest.raises(DataFormatError, match="the template says") as caught:
        template(source).render(CHAT)
    assert time.monotonic() - started < 15
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "source", ["{% for m in messages %}", "{{ messages | nothing }}", "{{ (1 }}", "{{ " + "(" * 5000]
)
def test_what_is_no_template_is_refused_with_its_line(source):
    with pytest.raises(DataFormatError, match="the template says"):
        template("first line\n" + source).render(CHAT)


def test_an_error_names_the_line_of_the_template():
    with pytest.raises(DataFormatError, match=r"line 3 of the template: '\{\{ messages\[0\]\.content \+ 1 \}\}'"):
        template("one\ntwo\n{{ messages[0].content + 1 }}").render(CHAT)


def test_rows_with_tools_get_the_template_for_tools(golden):
    from easydata_tokenize import load_tokenizer

    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.chat_template = {"default": "plain", "tool_use": "with tools"}
    templates = ChatTemplates(tokenizer)
    assert (templates.choose().source, templates.choose([TOOL]).source) == ("plain", "with tools")


def test_several_templates_of_which_none_is_the_default_are_told(golden):
    from easydata_tokenize import load_tokenizer

    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.chat_template = {"rag": "documents", "tool_use": "with tools"}
    with pytest.raises(MissingChatTemplateError, match=r"'rag', 'tool_use'"):
        ChatTemplates(tokenizer).choose()
    assert ChatTemplates(tokenizer).choose([TOOL]).source == "with tools"


def test_a_tokenizer_without_template_raises_on_one_screen(tokenizer_with):
    templates = ChatTemplates(tokenizer_with(None))
    assert not templates.available
    with pytest.raises(MissingChatTemplateError, match=r"tokenizer\.chat_template =") as caught:
        templates.choose()
    assert len(str(caught.value).splitlines()) < 10
