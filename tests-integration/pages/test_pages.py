"""Our pages in a real browser, wide and narrow, light and dark: nothing overlaps, is cut or stays empty.

Screenshots are left in the folder that `EASYDEL_SCREENSHOTS` names, for people to look at.
"""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import pytest
from easydata_mix import MixedShardedSource, WeightSchedulePoint, WeightScheduler
from easydata_tokenize import load_tokenizer
from easydel.inspector import inspect_rows, inspection_page
from easydel_trainers import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from easydel_trainers.report.run_report import RunReport, Sample
from playwright.sync_api import Browser

LAYOUT = (Path(__file__).parent / "layout.js").read_text(encoding="utf-8")


def a_run() -> RunReport:
    """A run with everything that strains a layout: long names, long answers, spikes, tiny numbers."""
    chance = random.Random(0)
    records = []
    for step in range(1, 401):
        records.append(
            {
                "step": step,
                "loss": 2.8 * math.exp(-step / 80) + 0.8 + chance.random() * 0.2 + (3 if step == 77 else 0),
                "grad_norm": 1 + chance.random(),
                "learning_rate": 5e-7 * (1 - step / 400),
                "rewards/accuracies": 0.5 + step / 1000,
                "rewards/a_reward_function_with_a_rather_long_name/mean": -1234.5 + step,
                "constant": 1.0,
                "num_tokens": step * 1_234_567,
                "tokens_per_second": 1.1e6 * (1 + chance.random()),
            }
        )
        if step % 100 == 0:
            records.append({"step": step, "eval_loss": 2.7 * math.exp(-step / 80) + 0.9})
    return RunReport(
        title="GRPOTrainer · an-organisation-with-a-long-name/a-model-with-a-name-that-does-not-end-Instruct-v0.3",
        state="step 400 of 1,000",
        directory="/a/folder/whose/name/goes/on/and/on/and/on/for/longer/than/any/narrow/window/is/wide",
        records=records,
        data_report={"rows": 123_456, "truncated": 12_000, "missing_stop_token": 1},
        config={f"setting_number_{index}": "x" * (index * 9) for index in range(12)},
        versions={"jax": "0.10.2", "easydel-trainers": "0.1.0"},
        samples=[
            Sample(step=200, prompt="Why? " * 40, answer="Because. " * 200),
            Sample(step=400, prompt="One word", answer="Pneumonoultramicroscopicsilicovolcanoconiosis" * 9),
        ],
        written="2026-01-01 12:00 UTC",
    )


def inspected_conversations() -> str:
    """A mixture with a schedule, long words, markup, other scripts, rows that are cut or left out."""
    golden = Path(__file__).parent.parent / "golden"
    tokenizer = load_tokenizer(golden / "tokenizer")
    odd = [
        {"prompt": "Pneumonoultramicroscopicsilicovolcanoconiosis" * 5, "completion": "x" * 300},
        {"prompt": "<b>markup</b> & 'quotes'", "completion": "多语言文本 👩‍👩‍👧 עברית\n\n\tcode"},
        {"prompt": "Count. " * 200, "completion": "1"},
    ]
    chat = golden / "rows" / "messages.jsonl"
    points = [
        WeightSchedulePoint(0, {"a_source_with_a_long_name": 0.1, "odd": 0.8, "chat": 0.1}),
        WeightSchedulePoint(200, {"a_source_with_a_long_name": 0.6, "odd": 0.1, "chat": 0.3}),
    ]
    mixed = MixedShardedSource(
        {"a_source_with_a_long_name": str(golden / "rows" / "prompt_completion.jsonl"), "odd": odd, "chat": str(chat)},
        weight_scheduler=WeightScheduler(points, "linear"),
        block_size=8,
    )
    config = SFTConfig(max_length=96, max_training_steps=300, total_batch_size=16, gradient_accumulation_steps=4)
    trainer = SFTTrainer.without_model(config, processing_class=tokenizer, train_dataset=mixed)
    return inspection_page(inspect_rows(trainer, sample=64), command="sft", source="examples/a/config.yaml")


def inspected_pairs() -> str:
    """Pairs of which some are cut."""
    golden = Path(__file__).parent.parent / "golden"
    config = DPOConfig(max_prompt_length=40, max_completion_length=12, total_batch_size=4)
    trainer = DPOTrainer.without_model(
        config,
        processing_class=load_tokenizer(golden / "tokenizer"),
        train_dataset=str(golden / "rows" / "preference.jsonl"),
    )
    return inspection_page(inspect_rows(trainer, sample=32), command="dpo", source="pairs.yaml")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    written = {"run": a_run().write(folder)}
    for name, html in {"inspect": inspected_conversations(), "pairs": inspected_pairs()}.items():
        written[name] = folder / f"{name}.html"
        written[name].write_text(html, encoding="utf-8")
    return written


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["run", "inspect", "pairs"])
def test_nothing_overlaps_is_cut_or_empty(
    browser: Browser, pages: dict[str, Path], name: str, width: int, colours: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=colours)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(pages[name].as_uri())
    closed = page.locator("details:not([open]) > summary")
    for _ in range(closed.count()):
        closed.first.focus()
        page.keyboard.press("Enter")  # everything can be opened without a mouse
    page.evaluate("scrollTo(0, 0)")
    if folder := os.environ.get("EASYDEL_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}-{width}-{colours}.png", full_page=True)
    assert page.evaluate(LAYOUT) == []
    assert closed.count() == 0
    assert requested == [pages[name].as_uri()]
    page.close()


def test_the_inspector_is_worked_with_the_keyboard_alone(browser: Browser, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(pages["inspect"].as_uri())
    focused = "document.activeElement.id"
    seen = []
    for key in "jjk":
        page.keyboard.press(key)
        seen.append(page.evaluate(focused))
    assert seen == ["row-1", "row-2", "row-1"]
    rows = page.locator(".row")
    odd = page.locator(".row[data-odd='1']")
    assert 0 < odd.count() < rows.count()
    page.keyboard.press("o")
    assert page.locator(".row:visible").count() == odd.count()
    page.keyboard.press("o")
    assert page.locator(".row:visible").count() == rows.count()
    plain = page.locator(".row .k:not(.t):not(.x):not(.s)").first
    page.keyboard.press("f")
    assert plain.evaluate("node => getComputedStyle(node).opacity") == "0.35"
    assert page.locator(".k.t").first.evaluate("node => getComputedStyle(node).opacity") == "1"
    page.close()


def test_trained_special_and_cut_tokens_look_different(browser: Browser, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(pages["inspect"].as_uri())
    looks = {}
    for kind in (".k.t:not(.s)", ".k:not(.t):not(.s):not(.x)", ".k.s:not(.t):not(.x)", ".k.s.t", ".k.x"):
        node = page.locator(f".row {kind}").first
        style = "node => { const s = getComputedStyle(node); return s.background + s.color + s.textDecoration; }"
        looks[kind] = node.evaluate(style)
    assert len(set(looks.values())) == len(looks), looks
    page.close()
