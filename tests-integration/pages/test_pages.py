"""Our pages in a real browser, wide and narrow, light and dark: nothing overlaps, is cut or stays empty.

Screenshots are left in the folder that `EASYDEL_SCREENSHOTS` names, for people to look at.
"""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import pytest
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


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {"run": a_run().write(folder)}


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["run"])
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
    if folder := os.environ.get("EASYDEL_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}-{width}-{colours}.png", full_page=True)
    assert page.evaluate(LAYOUT) == []
    assert closed.count() == 0
    assert requested == [pages[name].as_uri()]
    page.close()
