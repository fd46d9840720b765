"""Kinds of chat templates and rows on which masks are known to go wrong, each with what is to be trained.

A table for the tests: every row of it goes through the transforms of supervised, preference, unpaired and prompt rows,
alone, in a batch, and cut anywhere.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """One template and one conversation."""

    template: str
    messages: list[dict[str, Any]]
    turns: list[str]
    """What is trained, turn by turn."""
    counted: Mapping[str, int] = MappingProxyType({})
    """What the data report says."""
    behind: str = ""
    """What the template writes behind the last turn; trained with a completion, never as the assistant's."""
    tools: list[dict[str, Any]] | None = None
    prompt_counted: dict[str, int] | None = None
    """What it says of the conversation without its last message; None = the same."""
    whole_counted: dict[str, int] | None = None
    """What it says where turns are not looked for; None = the same."""

    @property
    def row(self) -> dict[str, Any]:
        """The conversation's columns other than the messages."""
        return {} if self.tools is None else {"tools": self.tools}


MARKS = ["<|s|>", "<|u|>", "<|a|>", "<|t|>", "<|c|>", "<|x|>", "<|m|>", "<|r|>", "<|e|>"]
PROMPT = "{% if add_generation_prompt %}<|a|>{% endif %}"
EACH = "{% for m in messages %}<|{{ m.role[0] }}|>"
PLAIN = EACH + "{{ m.content }}<|e|>{% endfor %}" + PROMPT
CALLS = (
    EACH + "{{ m.content or '' }}{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}"
)
CALLS += "<|e|>{% endfor %}" + PROMPT
THINKS = PROMPT.replace("<|a|>", "<|a|><think>\n")
THOUGHT = (
    "{% if m.role == 'assistant' %}<think>\n{{ m.reasoning_content or '' }}</think>{% endif %}{{ m.content }}<|e|>"
)
THOUGHT = EACH + THOUGHT + "{% endfor %}" + THINKS


def user(text):
    return {"role": "user", "content": text}


def says(text, **more):
    return {"role": "assistant", "content": text, **more}


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


def calls(content=None):
    return {"role": "assistant", "content": content, "tool_calls": [CALLED]}


CALLED = {"type": "function", "function": {"name": "look", "arguments": {"at": 1}}}
TOOLS = [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {}}}]
ANSWER = {"role": "tool", "content": "secret"}
CALL = '<call>{"name": "look", "arguments": {"at": 1}}</call><|e|>'

KINDS = {
    "F1 content in parts": Kind(
        PLAIN,
        [user("q"), says("A"), user("p"), says(parts("B ", "C"))],
        ["A<|e|>", "B C<|e|>"],
    ),
    "F1 parts for parts": Kind(
        EACH + "{% for p in m.content %}{{ p.text }}{% endfor %}<|e|>{% endfor %}" + PROMPT,
        [user(parts("q")), says(parts("B ", "C"))],
        ["B C<|e|>"],
    ),
    "F1 parts where others are printed as JSON": Kind(
        PLAIN.replace("m.content", "m.content if m.content is string else m.content | tojson"),
        [user(parts("q")), says("A"), user("p"), says(parts("B ", "C"))],
        ["A<|e|>", "B C<|e|>"],
    ),
    "F2 stop of two tokens": Kind(
        PLAIN.replace("<|e|>", "{% if m.role == 'assistant' %}<|x|>{% endif %}<|e|>"),
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|x|><|e|>", "B<|x|><|e|>"],
    ),
    "F3 another stop at the end": Kind(
        PLAIN.replace("<|e|>", "{% if loop.last %}<|r|>{% else %}<|e|>{% endif %}"),
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|e|>", "B<|r|>"],
    ),
    "F3 no stop at the end": Kind(
        PLAIN.replace("<|e|>", "{% if not loop.last %}<|e|>{% endif %}"),
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|e|>", "B"],
        {"template_without_stop_token": 1},
    ),
    "F3 another stop behind calls in the middle": Kind(
        CALLS.replace("<|e|>", "{% if loop.last %}<|r|>{% else %}<|e|>{% endif %}"),
        [user("q"), calls(""), ANSWER, says("B")],
        [CALL, "B<|r|>"],
    ),
    "F3 a stop at the end only": Kind(
        PLAIN.replace("<|e|>", "{% if loop.last and not add_generation_prompt %}<|e|>{% endif %}"),
        [user("q"), says("A"), user("p"), says("B")],
        ["A", "B<|e|>"],
        {"template_without_stop_token": 1},
        whole_counted={},
    ),
    "F3 a header behind the last stop": Kind(
        EACH + "{{ '<|r|>' if m.role == 'assistant' }}{{ m.content }}<|e|>{% endfor %}"
        "<|a|>{% if add_generation_prompt %}<|r|>{% endif %}",
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|e|>", "B<|e|>"],
        behind="<|a|>",
    ),
    "F3 a text behind the last stop": Kind(
        PLAIN.replace("{% endfor %}", "{% endfor %}{{ '\n<|x|>' if not add_generation_prompt }}"),
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|e|>", "B<|e|>"],
        behind="\n<|x|>",
    ),
    "F4 a thought closed at once": Kind(
        EACH + "{% if m.role == 'assistant' %}</think>{% endif %}{{ m.content }}<|e|>{% endfor %}" + THINKS,
        [user("q"), says("A"), user("p"), says("B")],
        ["</think>A<|e|>", "</think>B<|e|>"],
    ),
    "F4 a thought that is closed where a result was answered": Kind(
        "{% for m in messages %}{% if m.role == 'tool' %}{{ '\n<r>' + m.content + '</r>' }}{% elif m.role == 'user' %}"
        "<|u|>{{ m.content }}{% else %}{% if messages[loop.index0 - 1].role == 'tool' %}{{ '\n\n</think>' }}"
        "{% else %}<|a|></think>{% endif %}{{ m.content or '' }}{% for c in m.tool_calls or [] %}<call>"
        "{{ c.function | tojson }}</call>{% endfor %}<|e|>{% endif %}{% endfor %}{% if add_generation_prompt %}"
        "{{ '\n\n<think></think>' if messages[-1].role == 'tool' else '<|a|><think></think>' }}{% endif %}",
        [user("q"), calls(""), ANSWER, says("B")],
        ["</think>" + CALL, "B<|e|>"],
    ),
    "F4 an answer that begins with <": Kind(
        PLAIN.replace(PROMPT, THINKS),
        [user("q"), says("<table>A"), user("p"), says("<b>B")],
        ["<table>A<|e|>", "<b>B<|e|>"],
    ),
    "F4 a call behind an opened thought": Kind(
        CALLS.replace(PROMPT, THINKS),
        [user("q"), calls(""), ANSWER, says("B")],
        [CALL, "B<|e|>"],
    ),
    "F5 a call ends otherwise than a text": Kind(
        EACH + "{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}<|m|>{% else %}{{ m.content }}<|e|>{% endif %}"
        "{% endfor %}" + PROMPT,
        [user("q"), calls(""), ANSWER, says("B")],
        ["look<|m|>", "B<|e|>"],
        {"not_rendered/tool_call": 1},
    ),
    "F5 a message of the template's own behind a call that nothing ends": Kind(
        CALLS.replace("<|e|>", "{% if not m.tool_calls %}<|e|>{% endif %}")
        .replace("<|{{", "<|m|><|{{")
        .replace("{% endfor %}{% if add", "{% endfor %}<|m|><|s|>Call like this.<|e|>{% if add")
        .replace("<|a|>", "<|m|><|a|>"),
        [user("q"), says("A"), user("p"), calls("")],
        ["A<|e|>", CALL.removesuffix("<|e|>")],
        behind="<|m|><|s|>Call like this.<|e|>",
    ),
    "F5 a result that is an object, printed through a filter": Kind(
        CALLS.replace("m.content or ''", "m.content | trim"),
        [user("q"), calls(""), {**ANSWER, "content": {"low": "tide"}}, says("B")],
        [CALL, "B<|e|>"],
    ),
    "F6 null is not empty": Kind(
        EACH
        + "{% if m.content is none %}CALL {{ m.tool_calls[0].function | tojson }}{% else %}{{ m.content }}{% endif %}"
        "<|e|>{% endfor %}" + PROMPT,
        [user("q"), calls(None), ANSWER, says("B")],
        ['CALL {"name": "look", "arguments": {"at": 1}}<|e|>', "B<|e|>"],
    ),
    "F8 the assistant begins": Kind(
        "{% if messages[0].role != 'system' %}<|s|>Be good.<|e|>{% endif %}" + PLAIN.replace(PROMPT, THINKS),
        [says("A"), user("q"), says("B")],
        ["A<|e|>", "B<|e|>"],
    ),
    "F8 the assistant begins behind a message of the template's own": Kind(
        "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|m|>system\nBe good.<|e|>{% endif %}"
        "<|m|>{{ m.role }}\n{{ m.content }}<|e|>{% endfor %}"
        "{% if add_generation_prompt %}<|m|>assistant\n{% endif %}",
        [says("A"), user("q"), says("B")],
        ["A<|e|>", "B<|e|>"],
    ),
    "F9 a turn in two pieces": Kind(
        EACH + "{{ m.content }}<|e|>{% for c in m.tool_calls or [] %}<|c|>{{ c.function.name }}<|e|>{% endfor %}"
        "{% endfor %}" + PROMPT,
        [user("q"), calls("Look."), ANSWER, says("B")],
        ["Look.<|e|><|c|>look<|e|>", "B<|e|>"],
        {"not_rendered/tool_call": 1},
    ),
    "F10 a thought": Kind(
        PLAIN,
        [user("q"), says("A", reasoning_content="hm")],
        ["A<|e|>"],
        {"not_rendered/reasoning": 1},
        prompt_counted={},
    ),
    "F10 a developer": Kind(
        PLAIN.replace("in messages %}", "in messages if m.role in ('user', 'assistant') %}"),
        [{"role": "developer", "content": "Be brief."}, user("q"), says("A")],
        ["A<|e|>"],
        {"not_rendered/developer": 1},
    ),
    "F10 a system message": Kind(
        PLAIN.replace("in messages %}", "in messages if m.role != 'system' %}"),
        [{"role": "system", "content": "Be brief."}, user("q"), says("A")],
        ["A<|e|>"],
        {"not_rendered/system": 1},
    ),
    "F10 tools": Kind(PLAIN, [user("q"), says("A")], ["A<|e|>"], {"not_rendered/tools": 1}, tools=TOOLS),
    "F10 a second call": Kind(
        EACH
        + "{{ m.content or '' }}{% if m.tool_calls %}<call>{{ m.tool_calls[0].function | tojson }}</call>{% endif %}"
        "<|e|>{% endfor %}" + PROMPT,
        [user("q"), {**calls("Look."), "tool_calls": [CALLED, CALLED]}, ANSWER, says("B")],
        ["Look." + CALL, "B<|e|>"],
        {"not_rendered/tool_call": 1},
    ),
    "F10 a result in parts, which are joined": Kind(
        CALLS.replace("m.content or ''", "m.content if m.content is string else ''"),
        [user("q"), calls(""), {**ANSWER, "content": parts("low ", "tide")}, says("B")],
        [CALL, "B<|e|>"],
    ),
    "F10 a text beside a call": Kind(
        EACH + "{% if m.tool_calls %}{{ m.tool_calls[0].function | tojson }}{% else %}{{ m.content }}{% endif %}<|e|>"
        "{% endfor %}" + PROMPT,
        [user("q"), calls("Look."), ANSWER, says("B")],
        ['{"name": "look", "arguments": {"at": 1}}<|e|>', "B<|e|>"],
        {"not_rendered/assistant": 1},
    ),
    "F10 a legacy call and an object as result": Kind(
        PLAIN.replace("m.content", "m.content if m.content is string else ''"),
        [
            user("q"),
            {**says("A"), "function_call": {"name": "look", "arguments": "{}"}},
            {**ANSWER, "content": {"b": "c"}},
            says("B"),
        ],
        ["A<|e|>", "B<|e|>"],
        {"not_rendered/tool_call": 1, "not_rendered/tool_result": 1},
    ),
    "N5 consecutive answers that think": Kind(
        THOUGHT,
        [user("q"), says("A", reasoning_content="hm"), says("B")],
        ["hm</think>A<|e|>", "</think>B<|e|>"],
    ),
    "N1 tools that the template asks for": Kind(
        "{{ raise_exception('no tools') if not tools }}{{ tools | tojson }}" + PLAIN,
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|e|>", "B<|e|>"],
        tools=TOOLS,
    ),
    "N3 strings for a template that takes parts": Kind(
        EACH + "{% for p in m.content %}{{ p.text }}{% endfor %}<|e|>{% endfor %}" + PROMPT,
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|e|>", "B<|e|>"],
    ),
    "N4 a conversation that must not be short": Kind(
        "{{ raise_exception('too short') if messages | length < 3 }}" + PLAIN,
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|e|>", "B<|e|>"],
    ),
    "marks of the template in a question": Kind(
        PLAIN,
        [user("say <|e|><|a|>x"), says("A <|u|>"), user("<|a|>p<|e|>"), says("B")],
        ["A <|u|><|e|>", "B<|e|>"],
        {"control_token_in_content": 1},
    ),
    "without a generation prompt": Kind(
        EACH + "{{ m.content }}<|e|>{% endfor %}",
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|e|>", "B<|e|>"],
    ),
    "an empty answer": Kind(PLAIN, [user("q"), says(""), user("p"), says("B")], ["<|e|>", "B<|e|>"]),
}
