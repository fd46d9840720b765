"""Templates and rows made up at random, of which it is known what the assistant says."""

import copy
import os

from easydata_tokenize import ChatExample, ChatTokenizer
from easydata_tokenize.rendering.row_text import RowRenderer
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = int(os.environ.get("TEMPLATE_CASES", "200"))
WORDS = st.text(alphabet="abz<>/ \n", min_size=1, max_size=6).filter(str.strip)
STOPS = ("<|im_end|>", "<|endoftext|><|im_end|>", "<|endoftext|>")


@st.composite
def templates(draw):
    """A template as literals: header, opened thought, call, stop in the middle and at the end, what follows a stop."""
    return {
        "front": draw(st.sampled_from(["", "<|endoftext|>", "<|im_start|>system\nBe good.<|im_end|>\n"])),
        "header": draw(st.sampled_from(["<|im_start|>{}\n", "<|im_start|>{}", "[{}] ", "<{}>\n"])),
        "thought": draw(st.sampled_from([None, ("<think>", "</think>"), ("<think>\n", "\n</think>\n\n")])),
        "opened": draw(st.booleans()),
        "stop": draw(st.sampled_from(STOPS)),
        "user_stop": draw(st.sampled_from(["", "<|im_end|>"])),
        "behind": draw(st.sampled_from(["", "\n"])),
        "trims": draw(st.booleans()),
    }


def source_of(parts):
    """The template in Jinja."""
    content = "m.content | trim" if parts["trims"] else "m.content"
    header = repr(parts["header"]).replace("{}", "' + m.role + '")
    thought = ""
    if parts["thought"]:
        before, after = map(repr, parts["thought"])
        thought = "{% if m.reasoning_content %}{{ " + before + " + m.reasoning_content + " + after + " }}{% endif %}"
    opened = repr(parts["thought"][0]) if parts["thought"] and parts["opened"] else "''"
    calls = "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}"
    stop, user_stop, behind, front = (repr(parts[name]) for name in ("stop", "user_stop", "behind", "front"))
    prompt = repr(parts["header"].format("assistant")) + " + " + opened
    return "".join(
        [
            "{{ " + front + " }}{% for m in messages %}{{ " + header + " }}",
            "{% if m.role == 'assistant' %}" + thought + "{{ " + content + " }}" + calls + "{{ " + stop + " }}",
            "{% else %}{{ " + content + " + " + user_stop + " }}{% endif %}{{ " + behind + " }}{% endfor %}",
            "{% if add_generation_prompt %}{{ " + prompt + " }}{% endif %}",
        ]
    )


def turn_of(parts, message):
    """What is trained of one turn."""
    said = message["content"].strip() if parts["trims"] else message["content"]
    call = '<call>{"name": "look", "arguments": {"at": "b"}}</call>' if message.get("tool_calls") else ""
    before = ""
    opened = parts["thought"][0] if parts["thought"] and parts["opened"] else ""
    if parts["thought"] and message.get("reasoning_content"):
        before = parts["thought"][0] + message["reasoning_content"] + parts["thought"][1]
    whole = before + said + call + parts["stop"]
    return whole.removeprefix(opened) if opened else whole


@st.composite
def conversations(draw):
    messages = []
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(WORDS)})
        answer = {"role": "assistant", "content": draw(WORDS)}
        if draw(st.booleans()):
            answer["reasoning_content"] = draw(WORDS)
        if draw(st.integers(0, 3)) == 0:
            call = {"type": "function", "function": {"name": "look", "arguments": {"at": "b"}}}
            messages += [{**answer, "tool_calls": [call]}, {"role": "tool", "content": draw(WORDS)}]
            answer = {"role": "assistant", "content": draw(WORDS)}
        messages.append(answer)
    return messages


def test_what_the_assistant_says_is_found_in_any_of_them(tokenizer_with):
    tokenizer: ChatTokenizer = copy.copy(tokenizer_with("chatml"))

    @settings(max_examples=CASES, deadline=None)
    @given(templates(), conversations())
    def agree(parts, messages):
        tokenizer.chat_template = source_of(parts)
        row = RowRenderer(tokenizer, assistant_spans=True).row(ChatExample(messages=messages))
        found = [row.text[start:end] for start, end in row.spans or []]
        assert found == [turn_of(parts, message) for message in messages if message["role"] == "assistant"]

    agree()
