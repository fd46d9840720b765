"""Chat templates: what they print, and what the probes find out about them."""

import pytest
from easydata_sources.errors import DataFormatError
from easydata_tokenize import ChatTemplate, ChatTemplates, MissingChatTemplateError

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "add"}}


def template(source):
    specials = frozenset({"<|im_start|>", "<|im_end|>"})
    return ChatTemplate(source, variables={"bos_token": "<s>"}, specials=specials)


def calling(arguments):
    return [CHAT[0], {"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": arguments}}]}]


@pytest.mark.parametrize(
    ("name", "stop", "tail", "generation_prompt"),
    [
        ("chatml", "<|im_end|>", "<|im_end|>\n", "<|im_start|>assistant\n"),
        ("marked", "<|im_end|>", "<|im_end|>\n", "<|im_start|>assistant\n"),
        ("header_trimming", "<|eot|>", "<|eot|>", "<|header|>assistant<|/header|>\n\n"),
        ("brackets", "<|im_end|>", "<|im_end|>", ""),
        ("forgets_thoughts", "<|im_end|>", "<|im_end|>\n", "<|im_start|>assistant\n<think>\n"),
    ],
)
def test_stop_token_and_generation_prompt_are_found_by_rendering(tokenizer_with, name, stop, tail, generation_prompt):
    found = ChatTemplates(tokenizer_with(name)).choose()
    assert (found.stop_rule.stop, found.stop_rule.tail, found.generation_prompt) == (stop, tail, generation_prompt)


def test_stop_that_is_no_special_token_is_the_text_without_white_space():
    assert template("{{ messages[-1]['content'] }}###\n\n").stop_rule.stop == "###"
    assert template("{{ messages[-1]['content'] }}\n").stop_rule.stop == ""


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
    marked = template(f"{{{{ messages[0]['content'] }}}}>{mark}{{{{ messages[1]['content'] }}}}{{% endgeneration %}}")
    assert marked.has_marks
    assert marked.render_marked(CHAT) == ("Hi>Hello", [(3, 8)])


def test_marks_that_leave_out_the_stop_token_are_noticed(tokenizer_with):
    assert ChatTemplates(tokenizer_with("marked")).choose().marks_cover_stop
    inside = "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}<|im_end|>{% endfor %}"
    assert not template(inside).marks_cover_stop


@pytest.mark.parametrize(
    ("expression", "kind", "rendered"),
    [
        ("call['function']['arguments'] | tojson", dict, '{"a": 1}'),
        ("call['function']['arguments'].items() | list", dict, "[('a', 1)]"),
        ("'' + call['function']['arguments']", str, '{"a": 1}'),
        ("call['function']['arguments']", str, '{"a": 1}'),
    ],
)
@pytest.mark.parametrize("given", [{"a": 1}, '{"a": 1}'])
def test_tool_arguments_reach_the_template_in_the_form_it_can_print(expression, kind, rendered, given):
    source = (
        "{% for m in messages %}{% for call in m['tool_calls'] or [] %}{{ " + expression + " }}{% endfor %}{% endfor %}"
    )
    assert template(source).argument_kind is kind
    assert template(source).render(calling(given)) == rendered


def test_whether_tools_are_printed_is_known(tokenizer_with):
    tools = ChatTemplates(tokenizer_with("tools")).choose()
    chatml = ChatTemplates(tokenizer_with("chatml")).choose()
    assert (tools.renders_tools, tools.renders_tool_calls) == (True, True)
    assert (chatml.renders_tools, chatml.renders_tool_calls) == (False, False)


def test_rows_with_tools_get_the_template_for_tools(golden):
    from easydata_tokenize import load_tokenizer

    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.chat_template = {"default": "plain", "tool_use": "with tools"}
    templates = ChatTemplates(tokenizer)
    assert (templates.choose().source, templates.choose([TOOL]).source) == ("plain", "with tools")


def test_a_tokenizer_without_template_raises_on_one_screen(tokenizer_with):
    templates = ChatTemplates(tokenizer_with(None))
    assert not templates.available
    with pytest.raises(MissingChatTemplateError, match=r"tokenizer\.chat_template =") as caught:
        templates.choose()
    assert len(str(caught.value).splitlines()) < 10
