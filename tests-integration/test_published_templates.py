"""The judge of chat templates that people use tells right from wrong, and its table says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from published_templates import KINDS, ROWS, Trained, counts_of, fault, table

PAGE = Path(__file__).parents[1] / "docs" / "templates.md"
GOOD = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}{% for c in m.tool_calls or [] %}"
    "{{ c.function | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
USER = {"role": "user", "content": "Where is the Uboat?"}
ANSWER = {"role": "assistant", "content": "It lies at Aharbour."}
TEXT = "<u>Where is the Uboat?<a>It lies at Aharbour.</s>"
LEARNT = "It lies at Aharbour.</s>"


@pytest.mark.parametrize(
    ("trained", "found"),
    [
        (Trained(TEXT, LEARNT, {}), None),
        (Trained("x" + TEXT, LEARNT, {}), "another text"),
        (Trained(TEXT, "</s>", {}), "Aharbour is not trained"),
        (Trained(TEXT, "Uboat" + LEARNT, {}), "Uboat is trained"),
        (Trained(TEXT, LEARNT.removesuffix("</s>"), {}), "no stop"),
        (Trained(TEXT, LEARNT.removesuffix("</s>"), {"template_without_stop_token": 1}), None),
        (Trained(TEXT.replace("Uboat", ""), LEARNT, {}), "Uboat is lost unsaid"),
        (Trained(TEXT.replace("Uboat", ""), LEARNT, {"not_rendered/user": 1}), None),
    ],
)
def test_what_is_wrong_with_a_row_is_found(trained, found):
    texts = [TEXT, TEXT.replace("Uboat", "")]
    assert fault(trained, [USER, ANSWER], [], texts, asks=True) == found


def test_a_plain_template_is_right_for_all_rows(tmp_path):
    assert sum(counts["right"] for counts in counts_of(GOOD).values()) == len(ROWS)
    needs_a_question = "{{ raise_exception('no') if messages[0].role == 'assistant' }}" + GOOD
    for name, source in (("good", GOOD), ("same", GOOD), ("strict", needs_a_question)):
        (tmp_path / f"{name}.jinja").write_text(source + "\n")
    lines = list(table([tmp_path]))
    assert len(lines) == 4
    assert lines[2].startswith("| good | 7/7 | 5/5 | 4/4 |")
    assert lines[3].startswith("| strict | 6/6 |")


def test_the_page_has_the_columns_and_numbers_of_rows_of_today():
    page = PAGE.read_text(encoding="utf-8").splitlines()
    lines = page[page.index(next(table([]))) + 2 :]
    assert len(lines) > 90
    tried = {kind: sum(kind == other for other, _ in ROWS) for kind in KINDS}
    for line in lines:
        for kind, cell in zip(KINDS, line.strip("| ").split(" | ")[1:], strict=True):
            taken = re.match(r"\d+/(\d+)", cell)
            assert taken is None or int(taken[1]) <= tried[kind], line
            assert set(re.findall(r"[a-z]+", cell)) <= {"refused"}, f"something is wrong: {line}"
