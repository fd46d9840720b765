"""The commands on preferences: their configs, and what is refused."""

import pytest
import yaml
from easydel.cli.main import main
from easydel.demo.python_docs import python_docs_preferences, python_docs_rows

COMMANDS = ("dpo", "orpo", "cpo", "kto", "bco", "reward")
SHORT = "model: some/folder\ntrain_dataset: rows.jsonl\n"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    return "run.yaml"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_printed_config_gives_itself_again(command, tmp_path, capsys):
    assert main([command, write(tmp_path, SHORT), "--print-config"]) == 0
    printed = capsys.readouterr().out
    whole = yaml.safe_load(printed)
    assert whole["training"]["save_directory"] == f"runs/{command}"
    assert ("reference_model" in whole) == (command in ("dpo", "kto", "bco"))
    assert main([command, write(tmp_path, printed), "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == whole


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_its_own_options(command, capsys):
    with pytest.raises(SystemExit) as raised:
        main([command, "--help"])
    assert raised.value.code == 0
    assert "--training.max_length" in capsys.readouterr().out


def test_what_cannot_work_is_refused_with_its_place(tmp_path, capsys):
    budgets = "training:\n  max_length: 64\n  max_prompt_length: 64\n  max_completion_length: 64\n"
    assert main(["dpo", write(tmp_path, SHORT + budgets)]) == 2
    text = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "run.yaml" in text
    assert "at least 128" in text
    assert main(["dpo", write(tmp_path, SHORT + "eval_rows: 8\n")]) == 2
    assert "`eval_dataset`" in capsys.readouterr().err


def test_rejected_answers_explain_something_else(tmp_path):
    (tmp_path / "a.py").write_text("def f(x):\n    'Return the square of a number, whatever it is.'\n")
    (tmp_path / "b.py").write_text("def g(x):\n    'Write the lines of a file in reverse order to it.'\n")
    rows = [row for split in ("train", "held-out") for row in python_docs_preferences(split, library=tmp_path) if row]
    plain = [row for split in ("train", "held-out") for row in python_docs_rows(split, library=tmp_path)]
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in plain]
    assert [row["chosen"] for row in rows] == [row["completion"] for row in plain]
    assert all(row["rejected"] in [other["completion"] for other in plain] for row in rows)
