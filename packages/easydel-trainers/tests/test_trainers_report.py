import math
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from easydel_trainers import SFTConfig, SFTTrainer
from easydel_trainers.report.charts import Line, bar_chart, histogram, line_chart, share_chart
from easydel_trainers.report.run_report import RunReport, Sample
from easydel_trainers.report.scales import Scale, short, ticks
from hypothesis import given
from hypothesis import strategies as st

VOID = {"meta", "br"}


class Balanced(HTMLParser):
    """Fails on tags that are not closed in order, and collects what the page would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href") and not value.startswith("#")]

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    page = Balanced()
    page.feed(html)
    assert page.open == []
    return page


def report(records, **changes):
    facts = {
        "title": "SFTTrainer · a model",
        "state": "finished 3 of 3 steps",
        "directory": "runs/first",
        "records": records,
        "data_report": {"rows": 24, "truncated": 6},
        "config": {"learning_rate": 2e-5, "lora": None},
        "versions": {"jax": "0.10.2"},
    }
    return RunReport(**facts | changes)


RECORDS = [
    {"step": 1, "loss": 2.5, "grad_norm": 1.0, "num_tokens": 100},
    {"step": 2, "loss": math.nan, "grad_norm": math.inf, "num_tokens": 200},
    {"step": 3, "loss": 1.5, "grad_norm": 0.5, "num_tokens": 300},
    {"step": 3, "eval_loss": 1.75},
]


def test_the_page_is_well_formed_and_fetches_nothing():
    page = parsed(report(RECORDS).html())
    assert page.fetched == []
    assert "@import" not in report(RECORDS).html()


def test_it_shows_the_curves_the_data_and_the_settings():
    text = " ".join(parsed(report(RECORDS).html()).text)
    for shown in ("1.5, held out 1.75", "learning_rate", "2e-05", "truncated", "25.0%", "0.10.2", "finished 3 of 3"):
        assert shown in text
    assert report(RECORDS).html().count("<svg") == 2  # loss with its held-out points, grad_norm; clocks have none


def test_a_metric_that_was_never_finite_has_no_chart():
    html = report([{"step": 1, "loss": math.nan}]).html()
    assert "<svg" not in html
    assert "Nothing has been logged yet" in html


def test_what_a_model_or_a_user_wrote_is_text_not_markup():
    sample = Sample(step=1, prompt="<b>why</b>", answer="</pre><script>alert(1)</script>")
    html = report(RECORDS, title="<i>", samples=[sample]).html()
    assert "<script" not in html
    assert "<b>why" not in html
    assert "".join(parsed(html).text).count("</pre><script>alert(1)</script>") == 1


def test_it_is_written_whole(tmp_path):
    path = report(RECORDS).write(tmp_path)
    assert path.read_text(encoding="utf-8") == report(RECORDS).html()
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_long_line_is_thinned_without_losing_a_spike():
    ys = [1.0] * 10_000
    ys[1234] = 99.0
    drawn = line_chart([Line("loss", range(10_000), ys)], label="loss")
    assert drawn.count(",") < 400
    top = min(float(point.split(",")[1]) for point in drawn.split('points="')[1].split('"')[0].split())
    flat = line_chart([Line("loss", range(10_000), [1.0] * 10_000)], label="loss")
    assert top < 30
    assert "NaN" not in flat


def test_a_chart_of_nothing_is_refused():
    with pytest.raises(ValueError, match="finite point"):
        line_chart([Line("loss", [1], [math.nan])], label="loss")


def test_bars_and_shares_are_drawn_where_they_belong():
    bars = bar_chart([0, 1, 2], [1, 2], label="lengths", mark=3)
    assert bars.count("<rect") == 2
    assert 'class="mark"' in bars
    shares = share_chart([0, 10], {"easy": [0.9, 0.1], "hard": [0.1, 0.9]}, label="shares")
    assert shares.count("<polygon") == 2


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=200))
def test_a_histogram_counts_every_value_once(values):
    edges, counts = histogram(values)
    assert sum(counts) == len(values)
    for (left, right), count in zip(pairwise(edges), counts, strict=True):
        assert count == sum(left <= value < right for value in values)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low, span):
    high = low + span
    found = ticks(low, high, at_most=5)
    assert len(found) <= 6
    assert all(low - span * 1e-6 <= tick <= high + span * 1e-6 for tick in found)
    scale = Scale(low, high, 0, 100)
    assert scale(low) == pytest.approx(0, abs=1e-6)
    assert scale(high) == pytest.approx(100)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (2e-5, "2e-5"), (1.087654, "1.088"), (1234.5, "1.23k"), (240_000, "240k"), (-0.5, "-0.5"), (110, "110")],
)
def test_numbers_are_short(value, text):
    assert short(value) == text


def test_a_run_leaves_its_page_in_its_folder(tiny_model, tokenizer, text_rows, tmp_path):
    config = SFTConfig(max_length=8, max_training_steps=2, log_steps=1, save_directory=str(tmp_path / "run"))
    SFTTrainer(tiny_model, config, processing_class=tokenizer, train_dataset=text_rows).train()
    text = " ".join(parsed((tmp_path / "run" / "report.html").read_text(encoding="utf-8")).text)
    for shown in ("SFTTrainer", "finished behind step 2", "max_training_steps", "grad_norm", "read"):
        assert shown in text


def test_the_page_says_how_to_go_on():
    text = " ".join("".join(parsed(report(RECORDS).html()).text).split())
    assert "runs/first/checkpoints" in text
    assert 'ed.AutoEasyDeLModelForCausalLM.from_pretrained("runs/first/model")' in text
    assert "easydel chat runs/first/model easydel export runs/first exported" in text
    scores = report(RECORDS, auto_class="AutoEasyDeLModelForSequenceClassification").html()
    assert "easydel chat" not in scores, "a model that scores answers has none of its own"
