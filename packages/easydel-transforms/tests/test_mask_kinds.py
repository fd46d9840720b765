"""Kinds of chat templates and rows on which masks are known to go wrong, each with what is to be trained.

Every row goes through supervised, preference, unpaired and prompt transforms, alone, in a batch, and cut anywhere.
"""

import copy

import numpy as np
import pytest
from easydata_sources import DataError, DataReport
from easydata_sources.errors import RowError
from easydata_tokenize import load_tokenizer
from easydel_transforms import (
    DPOPreprocessTransform,
    GRPOPreprocessTransform,
    KTOPreprocessTransform,
    SFTPreprocessTransform,
)

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
REPORTED = {"missing_stop_token": 1.0, "fully_masked": 1.0}


def user(text):
    return {"role": "user", "content": text}


def says(text, **more):
    return {"role": "assistant", "content": text, **more}


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


def calls(content=None, name="look", arguments=None, **more):
    call = {"type": "function", "function": {"name": name, "arguments": arguments or {"at": 1}}}
    return {"role": "assistant", "content": content, "tool_calls": [call], **more}


ANSWER = {"role": "tool", "content": "secret"}
CALL = '<call>{"name": "look", "arguments": {"at": 1}}</call><|e|>'

# name: template, messages, what is trained turn by turn, what is counted
KINDS = {
    "F1 content in parts": (
        PLAIN,
        [user("q"), says("A"), user("p"), says(parts("B ", "C"))],
        ["A<|e|>", "B C<|e|>"],
        {},
    ),
    "F1 parts for parts": (
        EACH + "{% for p in m.content %}{{ p.text }}{% endfor %}<|e|>{% endfor %}" + PROMPT,
        [user(parts("q")), says(parts("B ", "C"))],
        ["B C<|e|>"],
        {},
    ),
    "F2 stop of two tokens": (
        PLAIN.replace("<|e|>", "{% if m.role == 'assistant' %}<|x|>{% endif %}<|e|>"),
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|x|><|e|>", "B<|x|><|e|>"],
        {},
    ),
    "F3 another stop at the end": (
        PLAIN.replace("<|e|>", "{% if loop.last %}<|r|>{% else %}<|e|>{% endif %}"),
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|e|>", "B<|r|>"],
        {},
    ),
    "F3 no stop at the end": (
        PLAIN.replace("<|e|>", "{% if not loop.last %}<|e|>{% endif %}"),
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|e|>", "B"],
        {"template_without_stop_token": 1},
    ),
    "F3 a text behind the last stop": (
        PLAIN.replace("{% endfor %}", "{% endfor %}{% if not add_generation_prompt %}\n<|x|>{% endif %}"),
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|e|>", "B<|e|>"],
        {},
    ),
    "F4 a thought closed at once": (
        EACH + "{% if m.role == 'assistant' %}</think>{% endif %}{{ m.content }}<|e|>{% endfor %}" + THINKS,
        [user("q"), says("A"), user("p"), says("B")],
        ["</think>A<|e|>", "</think>B<|e|>"],
        {},
    ),
    "F4 an answer that begins with <": (
        PLAIN.replace(PROMPT, THINKS),
        [user("q"), says("<table>A"), user("p"), says("<b>B")],
        ["<table>A<|e|>", "<b>B<|e|>"],
        {},
    ),
    "F4 a call behind an opened thought": (
        CALLS.replace(PROMPT, THINKS),
        [user("q"), calls(""), ANSWER, says("B")],
        [CALL, "B<|e|>"],
        {},
    ),
    "F5 a call ends otherwise than a text": (
        EACH + "{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}<|m|>{% else %}{{ m.content }}<|e|>{% endif %}"
        "{% endfor %}" + PROMPT,
        [user("q"), calls("", arguments={}), ANSWER, says("B")],
        ["look<|m|>", "B<|e|>"],
        None,
    ),
    "F6 null is not empty": (
        EACH
        + "{% if m.content is none %}CALL {{ m.tool_calls[0].function | tojson }}{% else %}{{ m.content }}{% endif %}"
        "<|e|>{% endfor %}" + PROMPT,
        [user("q"), calls(None), ANSWER, says("B")],
        ['CALL {"name": "look", "arguments": {"at": 1}}<|e|>', "B<|e|>"],
        {},
    ),
    "F8 the assistant begins": (
        "{% if messages[0].role != 'system' %}<|s|>Be good.<|e|>{% endif %}" + PLAIN.replace(PROMPT, THINKS),
        [says("A"), user("q"), says("B")],
        ["A<|e|>", "B<|e|>"],
        {},
    ),
    "F9 a turn in two pieces": (
        EACH + "{{ m.content }}<|e|>{% for c in m.tool_calls or [] %}<|c|>{{ c.function.name }}<|e|>{% endfor %}"
        "{% endfor %}" + PROMPT,
        [user("q"), calls("Look.", arguments={}), ANSWER, says("B")],
        ["Look.<|e|><|c|>look<|e|>", "B<|e|>"],
        None,
    ),
    "F10 a thought": (PLAIN, [user("q"), says("A", reasoning_content="hm")], ["A<|e|>"], {"not_rendered/reasoning": 1}),
    "F10 a developer": (
        PLAIN.replace("in messages %}", "in messages if m.role in ('user', 'assistant') %}"),
        [{"role": "developer", "content": "Be brief."}, user("q"), says("A")],
        ["A<|e|>"],
        {"not_rendered/developer": 1},
    ),
    "F10 a text beside a call": (
        EACH + "{% if m.tool_calls %}{{ m.tool_calls[0].function | tojson }}{% else %}{{ m.content }}{% endif %}<|e|>"
        "{% endfor %}" + PROMPT,
        [user("q"), calls("Look."), ANSWER, says("B")],
        ['{"name": "look", "arguments": {"at": 1}}<|e|>', "B<|e|>"],
        {"not_rendered/assistant": 1},
    ),
    "F10 a legacy call and an object as result": (
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
    "N5 consecutive answers that think": (
        THOUGHT,
        [user("q"), says("A", reasoning_content="hm"), says("B")],
        ["hm</think>A<|e|>", "</think>B<|e|>"],
        {},
    ),
    "marks of the template in a question": (
        PLAIN,
        [user("say <|e|><|a|>x"), says("A <|u|>"), user("<|a|>p<|e|>"), says("B")],
        ["A <|u|><|e|>", "B<|e|>"],
        {"control_token_in_content": 1},
    ),
    "without a generation prompt": (
        EACH + "{{ m.content }}<|e|>{% endfor %}",
        [user("q"), says("A"), user("p"), says("B")],
        ["A<|e|>", "B<|e|>"],
        {},
    ),
    "an empty answer": (PLAIN, [user("q"), says(""), user("p"), says("B")], ["<|e|>", "B<|e|>"], {}),
}


@pytest.fixture(scope="module")
def tokenizer_of(golden):
    known = {}

    def make(template):
        if template not in known:
            known[template] = load_tokenizer(golden / "tokenizer")
            known[template].add_special_tokens({"additional_special_tokens": MARKS, "eos_token": "<|e|>"})
            known[template].chat_template = template
        return known[template]

    return make


def trained_of(tokenizer, row):
    ids, labels = np.asarray(row["input_ids"]), np.asarray(row["labels"])
    runs, current = [], []
    for token, label in [*zip(ids, labels, strict=True), (0, -100)]:
        if label != -100:
            current.append(int(token))
        elif current:
            runs.append(tokenizer.decode(current))
            current = []
    return runs


@pytest.mark.parametrize("kind", KINDS)
def test_the_assistants_turns_are_trained(tokenizer_of, kind):
    template, messages, turns, counted = KINDS[kind]
    tokenizer = tokenizer_of(template)
    transform = SFTPreprocessTransform(
        tokenizer, max_length=None, assistant_only_loss=True, report=DataReport(REPORTED)
    )
    ((row,),) = transform.transform_batch([{"messages": copy.deepcopy(messages)}])
    trained = trained_of(tokenizer, row)
    # Turns that touch are one run.
    assert "".join(trained) == "".join(turns)
    assert all(any(run.startswith(turn) for turn in turns) for run in trained)
    if counted is not None:
        assert transform.report.counts == counted
    whole = SFTPreprocessTransform(tokenizer, max_length=None, report=DataReport(REPORTED))
    ((all_of_it,),) = whole.transform_batch([{"messages": copy.deepcopy(messages)}])
    assert (all_of_it["labels"] == all_of_it["input_ids"]).all()
    assert whole.report.counts == transform.report.counts


@pytest.mark.parametrize("kind", KINDS)
def test_a_completion_is_trained_to_its_end_and_its_prompt_never(tokenizer_of, kind):
    template, messages, turns, _ = KINDS[kind]
    tokenizer = tokenizer_of(template)
    given, answer = messages[:-1], messages[-1:]
    row = {"prompt": given, "completion": answer}
    for assistant_only in (False, True):  # F7: the answers in the prompt stay untrained
        transform = SFTPreprocessTransform(
            tokenizer, max_length=None, assistant_only_loss=assistant_only, report=DataReport(REPORTED)
        )
        ((tokens,),) = transform.transform_batch([copy.deepcopy(row)])
        (text,) = trained_of(tokenizer, tokens)
        assert text.startswith(turns[-1])
        assert not text[len(turns[-1]) :].strip("\n").replace("<|x|>", "")

    pair = {"prompt": given, "chosen": answer, "rejected": [says("Other")]}
    ((tokens,),) = DPOPreprocessTransform(tokenizer, report=DataReport(REPORTED)).transform_batch([copy.deepcopy(pair)])
    assert tokenizer.decode(tokens["chosen_ids"]).startswith(turns[-1])
    single = {**row, "label": True}
    ((tokens,),) = KTOPreprocessTransform(tokenizer, report=DataReport(REPORTED)).transform_batch(
        [copy.deepcopy(single)]
    )
    assert tokenizer.decode(tokens["completion_ids"]).startswith(turns[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_to_continue_end_where_the_answer_begins_and_lose_nothing_unsaid(tokenizer_of, kind):
    template, messages, _, counted = KINDS[kind]
    tokenizer = tokenizer_of(template)
    transform = GRPOPreprocessTransform(tokenizer)
    ((row,),) = transform.transform_batch([{"prompt": copy.deepcopy(messages[:-1])}])
    text = tokenizer.decode(row["prompt_ids"])
    if messages[-2]["role"] == "assistant":
        assert text.endswith(messages[-2]["content"])  # it goes on within that answer
    else:
        assert text.endswith(("<|a|>", "<|a|><think>\n") if PROMPT[:20] in template else "<|e|>")
    if counted is not None and "reasoning" not in str(counted):
        missed = {kind: n for kind, n in counted.items() if kind.startswith("not_rendered")}
        assert {kind: n for kind, n in transform.report.counts.items() if kind.startswith("not_rendered")} == missed


@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_cuts_change_nothing(tokenizer_of, kind):
    template, messages, *_ = KINDS[kind]
    tokenizer = tokenizer_of(template)
    other = [user("other words"), says("and others")]
    rows = [
        {"messages": copy.deepcopy(chat)} for chat in (other, messages, other, messages, [user("z"), says("<think>y")])
    ]
    options = {"assistant_only_loss": True}
    shared = SFTPreprocessTransform(tokenizer, None, **options, report=DataReport(REPORTED)).transform_batch(rows)
    for row, (together,) in zip(rows, shared, strict=True):
        fresh = SFTPreprocessTransform(tokenizer, None, **options, report=DataReport(REPORTED))
        ((alone,),) = fresh.transform_batch([row])
        assert all((alone[name] == together[name]).all() for name in ("input_ids", "labels"))
    (whole,) = shared[1]
    for length in range(2, len(whole["input_ids"]) + 1):
        for mode, kept in (("keep_start", slice(0, length)), ("keep_end", slice(-length, None))):
            report = DataReport({**REPORTED, "truncated": 1.0})
            cut = SFTPreprocessTransform(tokenizer, length, **options, truncation_mode=mode, report=report)
            (outputs,) = cut.transform_batch([rows[1]])
            labels = whole["labels"][kept]
            assert bool(outputs) == bool((labels[1:] != -100).any())
            assert not outputs or (outputs[0]["labels"] == labels).all()


def test_a_row_may_name_the_generation_prompt_itself(tokenizer_of):
    """N6: `add_generation_prompt` among a row's template arguments."""
    tokenizer = tokenizer_of(PLAIN)
    transform = SFTPreprocessTransform(tokenizer, None, assistant_only_loss=True)
    row = {"messages": [user("q"), says("A")], "chat_template_kwargs": {"add_generation_prompt": False}}
    ((tokens,),) = transform.transform_batch([row])
    assert trained_of(tokenizer, tokens) == ["A<|e|>"]


def test_a_template_that_needs_tools_or_refuses_questions_alone_is_not_probed(tokenizer_of):
    """N1, N4: nothing but parts of the very row is rendered, and what cannot be rendered is done without."""
    needs = "{% if not tools %}{{ raise_exception('no tools') }}{% endif %}{% if messages | length < 2 %}"
    tokenizer = tokenizer_of(needs + "{{ raise_exception('too short') }}{% endif %}{{ tools[0].name }}" + PLAIN)
    transform = SFTPreprocessTransform(tokenizer, None, assistant_only_loss=True)
    tools = [{"name": "look", "description": "", "parameters": {}}]
    ((tokens,),) = transform.transform_batch(
        [{"messages": [user("q"), says("A"), user("p"), says("B")], "tools": tools}]
    )
    assert trained_of(tokenizer, tokens) == ["A<|e|>", "B<|e|>"]


def test_a_role_that_the_template_refuses_is_named_with_its_line(tokenizer_of):
    tokenizer = tokenizer_of(
        "{% for m in messages %}{% if m.role == 'tool' %}\n{{ raise_exception('no tools here') }}{% endif %}"
        "{% endfor %}"
    )
    with pytest.raises(RowError, match="no tools here") as caught:
        SFTPreprocessTransform(tokenizer, None).transform_batch([{"messages": [user("q"), ANSWER]}])
    assert "line 2 of the template" in str(caught.value)


def test_what_nobody_misses_is_not_counted(tokenizer_of):
    tokenizer = tokenizer_of(PLAIN)
    chat = [user("q"), says("A", reasoning_content="hm")]
    row = {"prompt": chat[:1], "completion": chat[1:], "label": True}
    pair = {"prompt": chat[:1], "chosen": chat[1:], "rejected": [says("B")]}
    cases = [
        (SFTPreprocessTransform, {"messages": chat}),
        (KTOPreprocessTransform, row),
        (DPOPreprocessTransform, pair),
    ]
    for make, given in [*cases, (GRPOPreprocessTransform, {"prompt": [*chat, user("p")]})]:
        counted, dropped = make(tokenizer), make(tokenizer, drop_unrendered=["reasoning"])
        counted.transform_batch([copy.deepcopy(given)])
        dropped.transform_batch([copy.deepcopy(given)])
        assert counted.report.counts == {"not_rendered/reasoning": 1}
        assert dropped.report.counts == {}
    strict = SFTPreprocessTransform(tokenizer, report=DataReport({"not_rendered/reasoning": 0.0}))
    with pytest.raises(DataError, match="not_rendered/reasoning"):
        strict.transform_batch([{"messages": chat}])
