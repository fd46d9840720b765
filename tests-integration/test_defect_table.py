"""The page of defects names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
OBSERVED = {1, 2, 4, 5, 6, 7, 9, 10, 12, 13, 14, 18, 20, 22, 23, 24, 25, 29, 34, 35, 44}
"""Numbers of the defects that were seen in a run, without those of parts that this project does not have."""


def test_every_test_named_there_exists_and_no_observed_defect_is_missing():
    page = (ROOT / "docs" / "explanation" / "defects-we-test-against.md").read_text()
    named = re.findall(r"`([\w/.-]+\.py)::(\w+)`", page)
    assert len(named) > 30
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file} has no {test}"
    rows = {int(number): line for number, line in re.findall(r"^\| (\d+) \| (.*)$", page, re.MULTILINE)}
    assert rows.keys() >= OBSERVED
    assert all("::test_" in line for line in rows.values())
