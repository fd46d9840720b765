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
TOOLS = [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {}}}]


@st.composite
def templates(draw):
    """A template as literals: header, opened thought, call, stop in the middle and at the end, what follows a stop.

    `last` is the stop of a turn behind which the text ends, `parts` says that contents are lists of parts.
    """
    stop = draw(st.sampled_from(STOPS))
    # A token that follows the stop in the middle only may as well belong to the message behind it.
    last = draw(st.sampled_from([None, *(other for other in STOPS if not stop.startswith(other))]))
    return {
        "front": draw(st.sampled_from(["", "<|endoftext|>", "<|im_start|>system\nBe good.<|im_end|>\n"])),
        "header": draw(st.sampled_from(["<|im_start|>{}\n", "<|im_start|>{}", "[{}] ", "<{}>\n"])),
        "thought": draw(st.sampled_from([None, ("<think>", "</think>"), ("<think>\n", "\n</think>\n\n")])),
        "opened": draw(st.booleans()),
        "stop": stop,
        "last": last,
        "tools": draw(st.booleans()),
        "parts": draw(st.booleans()),
        "user_stop": draw(st.sampled_from(["", "<|im_end|>"])),
        "behind": draw(st.sampled_from(["", "\n"])),
        "trims": draw(st.booleans()),
    }


def source_of(parts):
    """The template in Jinja."""
    trim = " | trim" if parts["trims"] else ""
    content = "{{ m.content" + trim + " }}"
    if parts["parts"]:
        content = "{% for p in m.content %}{{ p.text" + trim + " }}{% endfor %}"
    header = repr(parts["header"]).replace("{}", "' + m.role + '")
    thought = ""
    if parts["thought"]:
        before, after = map(repr, parts["thought"])
        thought = "{% if m.reasoning_content %}{{ " + before + " + m.reasoning_content + " + after + " }}{% endif %}"
    opened = repr(parts["thought"][0]) if parts["thought"] and parts["opened"] else "''"
    calls = "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}"
    stop, user_stop, behind, front = (repr(parts[name]) for name in ("stop", "user_stop", "behind", "front"))
    if parts["last"]:
        stop = "(" + repr(parts["last"]) + " if loop.last else " + stop + ")"
    tools = "{% if tools %}{{ tools | tojson }}{% endif %}" if parts["tools"] else ""
    prompt = repr(parts["header"].format("assistant")) + " + " + opened
    return "".join(
        [
            "{{ " + front + " }}" + tools + "{% for m in messages %}{{ " + header + " }}",
            "{% if m.role == 'assistant' %}" + thought + content + calls + "{{ " + stop + " }}",
            "{% else %}" + content + "{{ " + user_stop + " }}{% endif %}{{ " + behind + " }}{% endfor %}",
            "{% if add_generation_prompt %}{{ " + prompt + " }}{% endif %}",
        ]
    )


def said_in(parts, content):
    """What the template prints of a content."""
    pieces = [part["text"] for part in content] if isinstance(content, list) else [content]
    pieces = pieces if parts["parts"] else ["".join(pieces)]
    return "".join(piece.strip() if parts["trims"] else piece for piece in pieces)


def turn_of(parts, message, is_last):
    """What is trained of one turn."""
    call = '<call>{"name": "look", "arguments": {"at": "b"}}</call>' if message.get("tool_calls") else ""
    before = ""
    opened = parts["thought"][0] if parts["thought"] and parts["opened"] else ""
    if parts["thought"] and message.get("reasoning_content"):
        before = parts["thought"][0] + message["reasoning_content"] + parts["thought"][1]
    stop = parts["last"] if is_last and parts["last"] else parts["stop"]
    whole = before + said_in(parts, message["content"]) + call + stop
    return whole.removeprefix(opened) if opened else whole


def lost_in(parts, messages, tools):
    """What is not printed, by kind."""
    thought = any(message.get("reasoning_content") for message in messages) and not parts["thought"]
    return {*(["tools"] if tools and not parts["tools"] else []), *(["reasoning"] if thought else [])}


@st.composite
def contents(draw):
    """Words, as a string or cut into two parts."""
    words = draw(WORDS)
    if draw(st.integers(0, 3)):
        return words
    cut = draw(st.integers(1, len(words)))
    return [{"type": "text", "text": text} for text in (words[:cut], words[cut:]) if text.strip()] or words


@st.composite
def conversations(draw):
    messages = []
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(contents())})
        answer = {"role": "assistant", "content": draw(contents())}
        if draw(st.booleans()):
            answer["reasoning_content"] = draw(WORDS)
        if draw(st.integers(0, 3)) == 0:
            call = {"type": "function", "function": {"name": "look", "arguments": {"at": "b"}}}
            messages += [{**answer, "tool_calls": [call]}, {"role": "tool", "content": draw(contents())}]
            answer = {"role": "assistant", "content": draw(contents())}
        messages.append(answer)
    return messages


def test_what_the_assistant_says_is_found_in_any_of_them(tokenizer_with):
    tokenizer: ChatTokenizer = copy.copy(tokenizer_with("chatml"))

    @settings(max_examples=CASES, deadline=None)
    @given(templates(), conversations(), st.sampled_from([None, TOOLS]))
    def agree(parts, messages, tools):
        tokenizer.chat_template = source_of(parts)
        spoken = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        truth = [turn_of(parts, messages[index], index == len(messages) - 1) for index in spoken]
        lost = {f"not_rendered/{kind}" for kind in lost_in(parts, messages, tools)}
        row = RowRenderer(tokenizer, assistant_spans=True).row(ChatExample(messages=messages, tools=tools))
        assert [row.text[start:end] for start, end in row.spans or []] == truth
        assert lost == {note for note in row.notes if note.startswith("not_rendered/")}

        opened = parts["thought"][0] if parts["thought"] and parts["opened"] else ""
        answer = ChatExample(messages=messages, tools=tools, prompt_turns=spoken[-1])
        completion = RowRenderer(tokenizer).row(answer)
        assert completion.text == row.text
        assert completion.text.removeprefix(completion.prompt or "").startswith(truth[-1])
        asked = RowRenderer(tokenizer).prompt(ChatExample(messages=messages[: spoken[-1]], tools=tools))
        assert asked.text.endswith(parts["header"].format("assistant") + opened)

    agree()
