from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from easydata_sources import DataError, DataQualityError, DataReport


def test_counts_add_up_and_go_through_json() -> None:
    report = DataReport()
    report.saw(10)
    report.saw(5)
    report.count("truncated", 3, example="row 4")
    report.count("truncated", example="row 9")
    assert (report.rows, report.counts) == (15, {"truncated": 4})
    saved = json.loads(json.dumps(report.to_dict()))
    other = DataReport()
    other.saw(99)
    other.load_dict(saved)
    assert other.to_dict() == report.to_dict()
    assert pickle.loads(pickle.dumps(report)).to_dict() == report.to_dict()


def test_counts_of_many_threads_are_all_kept() -> None:
    report = DataReport()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: (report.saw(1), report.count("truncated")), range(2000)))
    assert (report.rows, report.counts["truncated"]) == (2000, 2000)


@pytest.mark.parametrize("reason", ["unreadable", "doubled_bos", "missing_stop_token"])
def test_reasons_that_must_not_happen_raise_at_once(reason: str) -> None:
    report = DataReport()
    report.saw(1)
    report.check()
    report.count(reason, example="row 0 of train")
    with pytest.raises(DataQualityError) as caught:
        report.check()
    text = str(caught.value)
    assert f"1 of 1 rows (100.0%) are '{reason}'; at most 0.0% may be." in text
    assert "example: row 0 of train" in text
    assert "mend:" in text


def test_a_share_is_judged_on_200_rows_or_at_the_end() -> None:
    report = DataReport()
    report.saw(199)
    report.count("fully_masked", 11)
    report.check()
    with pytest.raises(DataQualityError, match=r"11 of 199 rows \(5\.5%\)"):
        report.check(final=True)
    report.saw(21)  # 11 of 220 are exactly 5 %
    report.check()
    report.count("fully_masked")
    with pytest.raises(DataQualityError):
        report.check()


def test_other_reasons_are_reported_only() -> None:
    report = DataReport()
    report.saw(300)
    report.count("truncated", 300)
    report.count("dropped_too_long", 300)
    report.check(final=True)


def test_a_threshold_holds_for_every_kind_that_has_none_of_its_own() -> None:
    report = DataReport(thresholds={"not_rendered": 0.0, "not_rendered/system": 1.0})
    assert [report.limit(f"not_rendered/{kind}") for kind in ("system", "tools")] == [1.0, 0.0]
    assert report.limit("truncated") is None
    report.saw(3)
    report.count("not_rendered/system")
    report.check(final=True)
    report.count("not_rendered/tools")
    with pytest.raises(DataQualityError, match="drop_unrendered"):
        report.check()


def test_thresholds_can_be_set_and_must_be_shares() -> None:
    report = DataReport({"doubled_bos": 1.0, "truncated": 0.5})
    report.saw(2)
    report.count("doubled_bos", 2)
    report.check(final=True)
    report.count("truncated", 2)
    with pytest.raises(DataQualityError, match="'truncated'; at most 50"):
        report.check(final=True)
    with pytest.raises(DataError, match="share between 0 and 1; found 5"):
        DataReport({"truncated": 5})
