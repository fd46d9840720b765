"""Mixtures written in a config file: read, printed, opened, refused."""

import pytest
import yaml
from easydel.cli.main import main
from easydel.cli.training.rows import Mixture, open_rows

HEAD = "model: m\ntrain_dataset:\n  sources:\n    a: a.jsonl\n    b: b.jsonl\n"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, number in (("a", 30), ("b", 10)):
        lines = [f'{{"text": "{name}{index}"}}\n' for index in range(number)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))


def printed(tmp_path, capsys, text, *flags):
    (tmp_path / "run.yaml").write_text(text)
    assert main(["sft", "run.yaml", *flags, "--print-config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)["train_dataset"]


def refused(tmp_path, capsys, text):
    (tmp_path / "run.yaml").write_text(text)
    assert main(["sft", "run.yaml", "--print-config"]) == 2
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_it_is_printed_as_it_would_be_written(tmp_path, capsys):
    text = HEAD + "  weights: {a: 3, b: 1}\n  block_size: 4\n"
    mixture = printed(tmp_path, capsys, text)
    assert mixture["weights"] == {"a": 3, "b": 1}
    assert printed(tmp_path, capsys, yaml.safe_dump({"model": "m", "train_dataset": mixture})) == mixture


def test_a_flag_puts_one_data_set_in_its_place(tmp_path, capsys):
    assert printed(tmp_path, capsys, HEAD, "--train_dataset", "b.jsonl") == "b.jsonl"
    assert printed(tmp_path, capsys, HEAD, "--set", "train_dataset.seed=7")["seed"] == 7
    flags = ("--train_dataset.block_size", "8", "--train_dataset.weights", "a", "3", "b", "1")
    mixture = printed(tmp_path, capsys, HEAD, *flags)
    assert (mixture["block_size"], mixture["weights"]) == (8, {"a": 3.0, "b": 1.0})


def test_its_rows_come_in_the_shares_that_were_asked_for(tmp_path):
    sources = {"a": "a.jsonl", "b": "b.jsonl"}
    rows = open_rows(Mixture(sources=sources, weights={"a": 3, "b": 1}, block_size=4), tmp_path)
    texts = [row["text"] for row in rows.limit(8).rows()]
    assert [text[0] for text in texts].count("a") == 6
    assert len(rows) == 40


def test_a_schedule_moves_the_shares(tmp_path, capsys):
    points = "  schedule:\n  - {step: 0, weights: {a: 1, b: 0}}\n  - {step: 10, weights: {a: 0, b: 1}}\n"
    mixture = printed(tmp_path, capsys, HEAD + points)
    assert [point["step"] for point in mixture["schedule"]] == [0, 10]
    (tmp_path / "run.yaml").write_text(HEAD + points)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  weights: [1, 2]\n", "run.yaml, line 6: `train_dataset.weights` is a list; expected a section of names"),
        ("  weights_: {a: 1}\n", "there is no key `train_dataset.weights_`. Did you mean `train_dataset.weights`?"),
        ("  block_size: 0\n", "run.yaml, line 6: `train_dataset.block_size` is 0; expected a whole number of at least"),
        (
            "  schedule:\n  - {step: 0, weights: {a: 0.5, b: 0.6}}\n",
            "run.yaml, line 7: `train_dataset.schedule.0`: The weights at step 0 must sum to 1",
        ),
        ("  schedule:\n  - {step: 0}\n", "the key `train_dataset.schedule.0.weights` is required and missing"),
        (
            "  schedule: [{step: 0, weights: {a: 0, b: 1}}]\n  weights: {a: 1, b: 1}\n",
            "run.yaml, line 7: `train_dataset.weights` is",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused_with_its_place(tmp_path, capsys, text, message):
    assert message in refused(tmp_path, capsys, HEAD + text)


def test_a_file_for_another_command_is_refused(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("trainer: dpo\nmodel: m\ntrain_dataset: a.jsonl\n")
    assert main(["sft", "run.yaml"]) == 2
    assert "`trainer` is the text 'dpo'; expected sft." in " ".join(capsys.readouterr().err.replace("│", " ").split())
