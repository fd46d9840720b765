"""The table of `docs/families.md` is the one that the decoder's own counts make."""

from __future__ import annotations

from pathlib import Path

from easydel_models.families.table import FAMILIES
from published_models import DEFAULTS, PUBLISHED, table

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
# The text models of two vision-language families are those of the families they are made of.
ALIKE = {"qwen2_5_vl_text": "qwen2", "qwen3_vl_text": "qwen3"}


def test_the_page_has_the_table_of_today():
    assert "\n".join(table()) in PAGE.read_text(encoding="utf-8")


def test_every_family_stands_in_it():
    shown = {hf["model_type"] for hf in (PUBLISHED | DEFAULTS).values()}
    assert FAMILIES.keys() - ALIKE.keys() == shown
