"""Traced texts are strings like any other, and know where their letters come from."""

import copy
import json
import pickle

import pytest
from easydata_tokenize import ChatExample
from easydata_tokenize.rendering.environment import compile_template
from easydata_tokenize.rendering.row_text import RowRenderer
from easydata_tokenize.rendering.template import ChatTemplate, Conversation
from easydata_tokenize.rendering.trace import Run
from easydata_tokenize.rendering.traced_text import TracedText
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

TEXTS = st.text(alphabet='ab<>/x \n"é\\', max_size=8)
EXPRESSIONS = [
    "t.strip()",
    "t | trim",
    "t.lstrip('a')",
    "t.rstrip('\\n')",
    "t.split('a') | join('-')",
    "t.split() | join",
    "t[1:]",
    "t[0:3] ~ '!'",
    "t[-1]",
    "t.replace('a', 'bb')",
    "t | replace('a', t)",
    "t.partition('x') | join('|')",
    "t + t",
    "t.rpartition('x')[2]",
    "t.removeprefix('a')",
    "t.removesuffix('b')",
    "t.splitlines() | join('+')",
    "'<' + t + '>'",
    "'-'.join([t, 'q', t])",
    "[t, 'q'] | join(t)",
    "'%s!' % t",
    "'%s%s' % (t, 1)",
    "'{} {}'.format(t, 2)",
    "t | tojson",
    "[t, {'k': t}] | tojson(indent=1)",
    "t | upper",
    "t | length",
    "t.find('a')",
    "'yes' if 'a' in t else 'no'",
    "t * 2",
    "'yes' if t == 'ab' else t",
    "'x'.replace('x', t)",
    "t | indent(2)",
    "t | list | join(',')",
    "t | first",
    "t | string",
    "t.startswith('a')",
    "t is string",
    "'yes' if t in 'abab' else 'no'",
    "t | default('d', true)",
    "t | capitalize",
    "t < 'b'",
    "t | reverse | list | join",
    "t.title()",
    "t.split('a')[-1].lstrip('\\n')",
    "t | e",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_template_prints_the_same_of_traced_and_plain_texts(expression):
    source = "{% set t = messages[0].content %}{{ " + expression + " }}"
    template = ChatTemplate(source, variables={}, specials=frozenset())

    @settings(max_examples=25)
    @given(TEXTS)
    def agree(text):
        messages = [{"role": "user", "content": text}]
        try:
            expected = render_jinja_template([messages], chat_template=source)[0][0]
        except Exception as error:  # noqa: BLE001 - whatever it raises
            expected = type(error)
        traced = TracedText(text, (Run(len(text), (0,), 0, False),) if text else (), 0)
        try:
            made = compile_template(source).render(messages=[{"role": "user", "content": traced}])
        except Exception as error:  # noqa: BLE001 - whatever it raises
            made = type(error)
        assert made == expected
        if isinstance(made, TracedText):
            check_origins(made, text)

    agree()
    assert template.render([{"role": "user", "content": "ab x"}]) is not None


def check_origins(made, text):
    """Letters that are said to be the text's own, unchanged, are those of the text."""
    assert sum(run.length for run in made.runs) == str.__len__(made)
    position = 0
    for length, sources, offset, _ in made.runs:
        if sources and offset >= 0:
            assert made.plain[position : position + length] == text[offset : offset + length]
        position += length


def test_a_traced_text_is_copied_and_stored_as_a_string():
    traced = TracedText("a", (Run(1, (0,), 0, False),), 0)
    assert pickle.loads(pickle.dumps(traced)) == "a"
    assert json.dumps({"k": traced}) == '{"k": "a"}'


SOURCES = {
    "prints": "{% for m in messages %}{{ m.role + ': ' + m['content'] ~ '\n' }}{% endfor %}",
    "trims": "{% for m in messages %}{{ m.content | trim }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "asks": "{% for m in messages %}{{ '[' if '<' in m.content }}{{ m.content }}{% endfor %}",
    "cuts": "{% for m in messages %}{{ m.content.split('x')[-1] }};{% endfor %}",
    "measures": "{% for m in messages %}{{ m.content | length }}{{ m.content }}{% endfor %}",
    "compares": "{% for m in messages %}{{ '=' if m.content == messages[0].content }}{{ m.content }}{% endfor %}",
    "orders": "{% for m in messages | sort(attribute='content') %}{{ m.content }};{% endfor %}",
    "looks up": "{% set d = {'ab': 1} %}{% for m in messages %}{{ d[m.content] or m.content }};{% endfor %}",
    "looks into": "{% for m in messages %}{% if m.content in 'ab<x' %}!{% endif %}{{ m.content }}{% endfor %}",
    "remembers": "{% set ns = namespace(t='') %}{% for m in messages %}{{ ns.t | upper }}{% set ns.t = m.content %}"
    "{% endfor %}",
    "calls": "{% macro f(m) %}{{ m.content | upper }}{% endmacro %}{% for m in messages %}{{ f(m) }}{% endfor %}",
    "maps": "{{ messages | map(attribute='content') | join('|') }}",
    "thinks": "{% for m in messages %}<u>{{ m.content }}<e>{% endfor %}{% if add_generation_prompt %}<u>a{% endif %}",
}
CHATS = st.lists(TEXTS, min_size=1, max_size=3)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_conversation_put_together_from_an_earlier_one_is_what_the_template_makes_of_it(source, tokenizer_with):
    tokenizer = copy.copy(tokenizer_with("chatml"))
    tokenizer.chat_template = source
    renderer = RowRenderer(tokenizer)
    template = ChatTemplate(source, variables={}, specials=frozenset())

    @settings(max_examples=30)
    @given(CHATS)
    def agree(texts):
        roles = ("user", "assistant")
        messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
        expected = template.rendered(Conversation(messages))[1]
        for _ in range(3):  # by the template, compared with it, and without it
            assert renderer.row(ChatExample(messages=messages)).text == expected.text

    agree()
