"""Templates that only print texts are told from those that do more, and render the same by stencil."""

from pathlib import Path

import pytest
from easydata_sources import DataError
from easydata_tokenize import load_tokenizer
from easydata_tokenize.chat import ChatTemplate
from easydata_tokenize.template_flow import only_prints
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import _compile_jinja_template

TEMPLATES = {path.stem: path.read_text() for path in (Path(__file__).parent / "templates").glob("*.jinja")}


def judged(source):
    return only_prints(_compile_jinja_template(source).environment.parse(source))


PRINT = [
    "{% for m in messages %}{{ m.role + ': ' + m['content'] ~ '\n' }}{% endfor %}",
    "{% for m in messages %}{{ m.content | trim }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set s = 'You help.' %}{% set rest = messages %}{% endif %}{{ s }}{% for m in rest %}{{ m.content }}"
    "{% endfor %}",
    "{% set ns = namespace(s='') %}{% for m in messages %}{% if m.role == 'system' %}{% set ns.s = m.content %}"
    "{% endif %}{% endfor %}{{ ns.s }}{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
    "{% for m in messages %}{% if m.content is string and m.content and 'tool_calls' not in m %}{{ m.content }}"
    "{% endif %}{% endfor %}{% if messages | length > 3 or (messages | last).role == 'user' %}?{% endif %}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}{{ bos_token | upper }}",
]
DO_MORE = [
    "{% for m in messages %}{{ m.content.split('x')[0] }}{% endfor %}",
    "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
    "{% for m in messages %}{% if m.content == 'x' %}a{% endif %}{% endfor %}",
    "{% for m in messages %}{% if 'x' in m.content %}a{% endif %}{% endfor %}",
    "{% for m in messages %}{{ m.content[0] }}{% endfor %}",
    "{% for m in messages %}{{ m.content | length }}{% endfor %}",
    "{% for m in messages %}{% for c in m.content %}{{ c }}{% endfor %}{% endfor %}",
    "{% for m in messages %}{{ m | tojson }}{% endfor %}",
    "{% for m in messages %}{{ m.get('content') | upper }}{% endfor %}",
    "{% for m in messages %}{% for v in m.values() %}{{ v | upper }}{% endfor %}{% endfor %}",
    "{% for m in messages %}{{ loop.previtem.content | upper }}{% endfor %}",
    "{% for m in messages %}{% set l = loop %}{{ l.nextitem.content | upper }}{% endfor %}",
    "{{ messages | map(attribute='content') | join | upper }}",
    "{% set t = messages[0].content %}{% if t.startswith('x') %}y{% endif %}",
    # what is assigned at the end of a loop is read at its beginning
    "{% set ns = namespace(t='') %}{% for m in messages %}{{ ns.t | upper }}{% set ns.t = m.content %}{% endfor %}",
    "{% macro f(m) %}{{ m.content | upper }}{% endmacro %}{% for m in messages %}{{ f(m) }}{% endfor %}",
    "{% for m in messages %}{{ (m.role + m.content) | trim }}{% endfor %}",
    "{% set name = 'content' %}{% for m in messages %}{{ m[name] | upper }}{% endfor %}",
    "{{ strftime_now('%d') }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "{% filter upper %}{{ messages[0].content }}{% endfilter %}",
    "{% set t %}{{ messages[0].content }}{% endset %}{{ t | upper }}",
    "{{ [messages[0].content, 'b'] | sort | first }}",
    "{{ messages[0].content * 2 }}",
    "{{ '%s' | format(messages[0].content) }}",
]


@pytest.mark.parametrize("source", PRINT)
def test_templates_that_print(source):
    assert judged(source)


@pytest.mark.parametrize("source", DO_MORE)
def test_templates_that_do_more(source):
    assert not judged(source)


def test_the_golden_template_and_most_of_ours_print(golden):
    assert judged(load_tokenizer(golden / "tokenizer").chat_template)
    assert {name for name, source in TEMPLATES.items() if not judged(source)} == {"forgets_thoughts"}


TEXTS = st.text(max_size=6) | st.sampled_from(["", " a", "a ", "{{ x }}", "<|im_end|>", "\ue0aa0\ue0ab", "é\u2028"])
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
CHATS = st.lists(
    st.builds(lambda role, content: {"role": role, "content": content}, ROLES, TEXTS), min_size=1, max_size=5
)


@pytest.mark.parametrize(
    "source", [*PRINT, *TEMPLATES.values()], ids=[f"own {n}" for n in range(len(PRINT))] + list(TEMPLATES)
)
def test_a_stencil_says_what_the_template_says(source):
    quick = ChatTemplate(source, variables={"bos_token": "<s>"}, specials=frozenset({"<|im_end|>"}))

    @given(CHATS, st.booleans())
    def agree(chat, prompted):
        exact = [outcome(lambda: quick._render(chat, None, {}, prompted, False)[0])]
        # Twice, since the first conversation of its roles is rendered by the template.
        again = [outcome(lambda: quick.render(chat, add_generation_prompt=prompted)) for _ in range(2)]
        assert again == exact * 2

    agree()


def outcome(render):
    try:
        return render()
    except DataError as error:
        return type(error)


def test_messages_with_more_than_a_text_go_through_the_template():
    template = ChatTemplate(
        "{% for m in messages %}{{ m.name or '' }}{{ m.content }};{% endfor %}{{ tools or v or '' }}",
        variables={},
        specials=frozenset(),
    )
    chat = [{"role": "user", "content": "a"}]
    assert [template.render(chat), template.render(chat)] == ["a;", "a;"]
    assert template.render([{"role": "user", "content": "a", "name": "n"}]) == "na;"
    assert template.render(chat, tools=[]) == "a;"
    assert template.render([{"role": "user", "content": "b"}], template_kwargs={"v": "t"}) == "b;t"
