"""`easydel grpo`: its config, and the names of reward functions."""

import re

import pytest
import yaml
from easydel.cli.main import main
from easydel.cli.output.errors import CommandError
from easydel.cli.training.rewards import reward_at
from easydel.demo.arithmetic import arithmetic_rows, only_a_number, right_answer

SHORT = "model: some/folder\ntrain_dataset: rows.jsonl\nreward_funcs: [rewards.py:score]\n"
REWARDS = "def score(completions):\n    return [1.0 for _ in completions]\n\nLIMIT = 3\n"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    return "run.yaml"


def test_the_printed_config_gives_itself_again(tmp_path, capsys):
    assert main(["grpo", write(tmp_path, SHORT), "--print-config", "--training.num_return_sequences", "4"]) == 0
    printed = capsys.readouterr().out
    whole = yaml.safe_load(printed)
    assert whole["training"]["num_return_sequences"] == 4
    assert whole["reward_funcs"] == ["rewards.py:score"]
    assert main(["grpo", write(tmp_path, printed), "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == whole


def test_something_must_judge(tmp_path, capsys):
    assert main(["grpo", write(tmp_path, SHORT.replace("[rewards.py:score]", "[]"))]) == 2
    assert "reward_funcs" in capsys.readouterr().err


def test_functions_of_files_and_modules_and_models_by_name(tmp_path):
    (tmp_path / "rewards.py").write_text(REWARDS)
    assert reward_at("rewards.py:score")(completions=["a", "b"]) == [1.0, 1.0]
    assert reward_at(f"{tmp_path}/rewards.py:score")(completions=["a"]) == [1.0]
    assert reward_at("easydel.demo.arithmetic:right_answer") is right_answer
    assert reward_at("runs/reward/model") == "runs/reward/model"
    assert reward_at("someone/judge-1.5B") == "someone/judge-1.5B"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.py:score", "no file missing.py"),
        ("rewards.py:scores", "there is no function `scores`; there are score"),
        ("rewards.py:LIMIT", "no function `LIMIT`"),
        ("no_such_module.rewards:score", "no_such_module/rewards.py:NAME"),
        ("rewards.py", r"write rewards.py:FUNCTION \(it has score\)"),
        ("gone/rewards.py", "write gone/rewards.py:FUNCTION"),
        ("my_package.rewards.correct", "a colon stands before it: my_package.rewards:correct"),
    ],
)
def test_a_name_without_a_function_says_what_there_is(tmp_path, name, said):
    (tmp_path / "rewards.py").write_text(REWARDS)
    with pytest.raises(CommandError, match=said):
        reward_at(name)


def test_sums_are_right_and_held_out_ones_are_others():
    rows, held_out = list(arithmetic_rows("train")), list(arithmetic_rows("held-out"))
    assert (len(rows), len(held_out)) == (320, 80)
    questions = [row["prompt"][0]["content"] for row in (*rows, *held_out)]
    assert len(set(questions)) == 400
    for row in rows:
        first, second = map(int, re.findall(r"\d+", row["prompt"][0]["content"]))
        assert row["answer"] == str(first + second)
    said = ["It is 7.", "7", [{"role": "assistant", "content": "5 + 2 = 7"}], "none"]
    assert right_answer(said, ["7", "8", "7", "7"]) == [1.0, 0.0, 1.0, 0.0]
    assert only_a_number(said) == [0.0, 1.0, 0.0, 0.0]
