"""Chat templates that people use, and what becomes of rows of every kind with them.

`python tests-integration/published_templates.py FOLDER …` prints the table of `docs/templates.md`. Each `.jinja` file
of the folders is a template; its text is read, rendered by transformers and by us, and goes nowhere else.

Every word of a row stands in it once, so that what is trained can be judged without knowing the template: the
assistant's words that are printed are trained, nobody else's ever is, what is not printed is counted, the text is one
that transformers makes of the row, and what is trained ends in a special token or that is counted.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from easydata_sources import DataError, DataReport
from easydata_tokenize import ChatTokenizer, load_tokenizer
from easydel_transforms import DPOPreprocessTransform, GRPOPreprocessTransform, SFTPreprocessTransform

GOLDEN = Path(__file__).with_name("golden") / "tokenizer"
KINDS = ("chats", "tools", "thoughts", "parts", "completions", "pairs", "prompts")
REPORTED = {"missing_stop_token": 1.0, "doubled_bos": 1.0, "fully_masked": 1.0}
SPECIAL = re.compile(
    r"<\|[A-Za-z][\w▁]*\|>|<｜[^｜<>'\"{}\n]+｜>|\[\|[a-z]+\|\]|<SPECIAL_\d+>|<extra_id_\d>|<seed:[a-z_]+>"
    r"|</?(?:start_of_turn|end_of_turn|end_of_utterance|sep|s)>|<(?:beginning|end)_of_sentence>|\]~b\]|\]~!b\[|\[e~\[|<\|(?:turn|channel)>"
    r"|<(?:turn|channel)\|>|</?(?:assistant|user|system)>"
)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def calls(content: Any, **arguments: Any) -> dict[str, Any]:
    function = {"name": "look", "arguments": arguments}
    return says(content, tool_calls=[{"id": "abcdefgh0", "type": "function", "function": function}])


SYSTEM = {"role": "system", "content": "Be Sbrief."}
RESULT = {"role": "tool", "name": "look", "content": "Ttide low", "tool_call_id": "abcdefgh0"}
PARAMETERS = {"type": "object", "properties": {"at": {"type": "string", "description": "Where."}}, "required": ["at"]}
TOOLS = [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": PARAMETERS}}]
ASKED, ANSWERED = user("Where is the Uboat?"), says("It lies at Aharbour.")
AGAIN, CLOSED = user("And the Utide?"), says("High at Aseven.")
CALLED = [ASKED, calls("", at="Aquay"), RESULT, ANSWERED]
THOUGHT = "<think>\nHmm Athought.\n</think>\n\nIt lies at Aharbour."

ROWS: list[tuple[str, dict[str, Any]]] = [
    ("chats", {"messages": [ASKED, ANSWERED]}),
    ("chats", {"messages": [ASKED, ANSWERED, AGAIN, CLOSED]}),
    ("chats", {"messages": [SYSTEM, ASKED, ANSWERED, AGAIN, CLOSED]}),
    ("chats", {"messages": [user("  Uboat \n"), says(" \n Aone \n\n"), AGAIN, says("\n\nAtwo  ")]}),
    ("chats", {"messages": [user("أين Uboat"), says("👩‍🚀 Aone é"), AGAIN, CLOSED]}),
    ("chats", {"messages": [ASKED, ANSWERED, CLOSED]}),
    ("chats", {"messages": [ANSWERED, AGAIN, CLOSED]}),
    ("tools", {"messages": CALLED, "tools": TOOLS}),
    ("tools", {"messages": [ASKED, calls(None, at="Aquay"), RESULT, ANSWERED], "tools": TOOLS}),
    ("tools", {"messages": [ASKED, calls("Let me Alook.", at="Aquay"), RESULT, ANSWERED], "tools": TOOLS}),
    ("tools", {"messages": [SYSTEM, *CALLED, AGAIN, CLOSED], "tools": TOOLS}),
    ("tools", {"messages": [ASKED, calls("", at="Aquay")], "tools": TOOLS}),
    ("thoughts", {"messages": [ASKED, says("It lies at Aharbour.", reasoning_content="Hmm Athought.")]}),
    ("thoughts", {"messages": [ASKED, says(THOUGHT), AGAIN, CLOSED]}),
    ("thoughts", {"messages": [ASKED, ANSWERED, AGAIN, says("High at Aseven.", reasoning_content="Hmm Athought.")]}),
    ("thoughts", {"messages": [ASKED, says("<table>Aone</table>"), AGAIN, says("<b>Atwo</b>")]}),
    ("parts", {"messages": [user(parts("Where is the Uboat?")), ANSWERED]}),
    ("parts", {"messages": [ASKED, says(parts("Aone and ", "Atwo."))]}),
    ("completions", {"prompt": [ASKED], "completion": [ANSWERED]}),
    ("completions", {"prompt": [ASKED, ANSWERED, AGAIN], "completion": [CLOSED]}),
    ("completions", {"prompt": CALLED[:3], "completion": CALLED[3:], "tools": TOOLS}),
    ("pairs", {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [CLOSED]}),
    ("pairs", {"prompt": CALLED[:3], "chosen": [ANSWERED], "rejected": [CLOSED], "tools": TOOLS}),
    ("prompts", {"prompt": [SYSTEM, ASKED]}),
    ("prompts", {"prompt": CALLED[:3], "tools": TOOLS}),
]
ENDING = re.compile(r"(?i)end(?!_thinking)|eot|eom|eos|return|</|e~")
PLAIN = (([ASKED, ANSWERED], None), (CALLED, TOOLS))
WORD = re.compile(r"\b[AUST][a-z]{2,}\b")


class Trained(NamedTuple):
    """What becomes of a row."""

    text: str
    """All of its tokens."""
    learnt: str
    """Those that are trained."""
    counted: dict[str, int]


def outcome(template: str, tokenizer: ChatTokenizer, kind: str, row: dict[str, Any]) -> str:
    """Return `right`, `no` (the template refuses the row), `refused` (we do) or what is wrong."""
    whole, given = messages_of(row)
    texts = list(renderings(template, tokenizer, whole, row.get("tools"), prompted=kind == "prompts"))
    try:
        trained = trained_of(tokenizer, kind, row)
    except DataError:
        return "refused" if texts else "no"
    return fault(trained, whole, given, texts, asks=kind != "prompts") or "right"


def fault(trained: Trained, whole: list[Any], given: list[Any], texts: list[str], *, asks: bool) -> str | None:
    """Return what is wrong with a row; None if nothing is."""
    if trained.text not in texts:
        return "another text"
    answers = words_in([message for message in whole[len(given) :] if message["role"] == "assistant"])
    for word in words_in(whole):
        if word not in trained.text and not any(reason.startswith("not_rendered/") for reason in trained.counted):
            return f"{word} is lost unsaid"
        if asks and word in answers and word in trained.text and word not in trained.learnt:
            return f"{word} is not trained"
        if word in trained.learnt and word not in answers:
            return f"{word} is trained"
    stopped = (
        re.search(rf"(?:{SPECIAL.pattern})\s*$", trained.learnt) or "template_without_stop_token" in trained.counted
    )
    return None if stopped or not asks or whole[-1].get("tool_calls") else "no stop"


def messages_of(row: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return the row's conversation, and the part of it that is given."""
    given = row.get("prompt", [])
    return [*given, *(row.get("messages") or row.get("completion") or row.get("chosen") or [])], given


def words_in(messages: list[Any]) -> list[str]:
    said = [{key: value for key, value in message.items() if key not in ("id", "name")} for message in messages]
    return WORD.findall(json.dumps(said, ensure_ascii=False).replace("\\n", " "))


def trained_of(tokenizer: ChatTokenizer, kind: str, row: dict[str, Any]) -> Trained:
    report = DataReport(REPORTED)
    if kind == "pairs":
        ((output,),) = DPOPreprocessTransform(tokenizer, report=report).transform_batch([copy.deepcopy(row)])
        prompt, learnt = output["prompt_ids"], output["chosen_ids"]
        return Trained(tokenizer.decode([*prompt, *learnt]), tokenizer.decode(learnt), report.counts)
    if kind == "prompts":
        ((output,),) = GRPOPreprocessTransform(tokenizer, report=report).transform_batch([copy.deepcopy(row)])
        return Trained(tokenizer.decode(output["prompt_ids"]), "", report.counts)
    transform = SFTPreprocessTransform(tokenizer, None, assistant_only_loss=kind != "completions", report=report)
    ((output,),) = transform.transform_batch([copy.deepcopy(row)])
    ids, labels = output["input_ids"], output["labels"]
    return Trained(tokenizer.decode(ids), tokenizer.decode(ids[labels != -100]), report.counts)


def renderings(
    template: str, tokenizer: ChatTokenizer, messages: list[Any], tools: Any, *, prompted: bool
) -> Iterator[str]:
    """Yield what transformers makes of the row in the ways in which it can be written down."""
    from transformers.utils.chat_template_utils import render_jinja_template

    names = {name: text for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
    for contents in ("given", "strings", "parts"):
        for empty in ("given", "", None):
            for arguments in (dict, str):
                form = [written(message, contents, empty, arguments) for message in copy.deepcopy(messages)]
                try:
                    yield render_jinja_template(
                        [form], tools=tools, chat_template=template, add_generation_prompt=prompted, **names
                    )[0][0]
                except Exception:  # noqa: BLE001 - a template by anybody refuses what it refuses in any way
                    continue


def written(message: dict[str, Any], contents: str, empty: str | None, arguments: type) -> dict[str, Any]:
    content = message.get("content")
    if contents == "strings" and isinstance(content, list):
        message["content"] = "".join(part["text"] for part in content)
    if contents == "parts" and isinstance(content, str) and content:
        message["content"] = parts(content)
    if message.get("tool_calls"):
        function = message["tool_calls"][0]["function"]
        function["arguments"] = json.dumps(function["arguments"]) if arguments is str else function["arguments"]
        message["content"] = empty if empty != "given" and not content else message["content"]
    return message


def tokenizer_with(template: str) -> ChatTokenizer:
    """Return SmolLM2's tokenizer with the template and the special tokens that it names.

    Its EOS is the last token behind an answer whose name says so, as in the model's own configuration.
    """
    tokenizer = load_tokenizer(GOLDEN)
    tokenizer.add_special_tokens({"additional_special_tokens": sorted({*SPECIAL.findall(template), "<s>", "</s>"})})
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.chat_template = "<s>", "</s>", template
    chats = [renderings(template, tokenizer, chat, tools, prompted=False) for chat, tools in PLAIN]
    text = next((text for texts in chats for text in texts if "Aharbour" in text), "")
    behind = SPECIAL.findall(text.rpartition("Aharbour")[2]) or ["</s>"]
    tokenizer.eos_token = [behind[-1], *(token for token in behind if ENDING.search(token))][-1]
    return tokenizer


def counts_of(template: str) -> dict[str, Counter[str]]:
    """Return by kind how many rows had which outcome."""
    tokenizer = tokenizer_with(template)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for kind, row in ROWS:
        counts[kind][outcome(template, tokenizer, kind, row)] += 1
    return counts


def cell(counts: Counter[str]) -> str:
    """Return rows that are right of those that the template takes, and what became of the others."""
    taken = counts.total() - counts["no"]
    if not taken:
        return "–"
    others = [f"{number} {name}" for name, number in counts.items() if name not in ("right", "no")]
    return f"{counts['right']}/{taken}" + (f" ({', '.join(others)})" if others else "")


def table(folders: list[Path]) -> Iterator[str]:
    """Yield the lines of the table; templates that are the same but for their name stand in it once."""
    yield "| template | " + " | ".join(KINDS) + " |"
    yield "|---|" + "---|" * len(KINDS)
    seen: set[str] = set()
    for file in sorted(
        (file for folder in folders for file in folder.glob("*.jinja")), key=lambda file: file.stem.lower()
    ):
        template = file.read_text(encoding="utf-8").removesuffix("\n")
        if template in seen:
            continue
        seen.add(template)
        counts = counts_of(template)
        yield f"| {file.stem} | " + " | ".join(cell(counts[kind]) for kind in KINDS) + " |"


if __name__ == "__main__":
    for line in table([Path(name) for name in sys.argv[1:]]):
        print(line, flush=True)
