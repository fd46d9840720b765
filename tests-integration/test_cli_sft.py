"""`easydel sft` from rows to a model folder, on the tiny golden model: what is printed, written, resumed, demanded."""

import json
from pathlib import Path

import pytest
import yaml
from easydata_tokenize import load_tokenizer
from easydel.cli import main
from easydel_models import AutoEasyDeLModelForCausalLM

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yaml"
    settings = {
        "model": str(GOLDEN / "models" / "policy"),
        "tokenizer": str(GOLDEN / "tokenizer"),
        "train_dataset": str(GOLDEN / "rows" / "prompt_completion.jsonl"),
        "eval_dataset": str(GOLDEN / "rows" / "prompt_completion.jsonl"),
        "eval_rows": 4,
        "preview_rows": 1,
        "preview_questions": ["Who are you?"],
        "preview_max_tokens": 4,
        "training": {
            "save_directory": "out",
            "learning_rate": 1e-2,
            "max_training_steps": 3,
            "total_batch_size": 4,
            "max_length": 64,
            "log_steps": 1,
        },
    }
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def test_a_run_shows_that_it_learned_and_leaves_a_model_folder(config, capsys):
    assert main(["sft", config, "--require_nll_drop", "0.01"]) == 0
    captured = capsys.readouterr()
    text = captured.out
    assert "training: step 2 of 3: loss " in captured.err
    assert "Who are you?" in text
    assert text.count("before") == 3, "two answers and the held-out loss"
    assert "Training loss by step" in text
    assert "Model folder: out/model" in text
    assert "\x1b" not in text
    tokenizer = load_tokenizer("out/model")
    model = AutoEasyDeLModelForCausalLM.from_pretrained("out/model")
    assert model(tokenizer("Hello", return_tensors="np")["input_ids"]).shape[-1] == model.config.vocab_size
    records = [json.loads(line) for line in Path("out/log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3]
    kept = json.loads(Path("out/held_out.json").read_text())
    assert kept["after"]["eval_loss"] < kept["before"]["eval_loss"]
    assert kept["answers"][0]["prompt"] == "Who are you?"


def test_sets_held_out_by_name_are_judged_apart(config, capsys):
    settings = yaml.safe_load(Path(config).read_text())
    rows = settings.pop("eval_dataset")
    settings |= {"eval_dataset": {"chat": rows, "again": rows}, "require_nll_drop": 0.01}
    Path(config).write_text(yaml.safe_dump(settings, sort_keys=False))
    assert main(["sft", config]) == 0
    text = capsys.readouterr().out
    chat, again = verdict(text)
    assert chat.replace("token of chat:", "token of again:") == again
    assert main(["sft", config, "--require_nll_drop", "0.99"]) == 1
    captured = capsys.readouterr()
    assert verdict(captured.out) == [chat, again], "all are shown before one is missed"
    assert "log-likelihood of chat went from" in captured.err


def test_a_finished_run_started_again_trains_nothing_and_says_the_same(config, capsys):
    assert main(["sft", config]) == 0
    before = capsys.readouterr().out
    assert main(["sft", config]) == 0
    captured = capsys.readouterr()
    assert verdict(captured.out) == verdict(before)
    assert "training: going on behind step 3 of 3" in captured.err
    was = Path("out/run.yaml").read_text()
    assert main(["sft", config, "--set", "training.learning_rate=0.5"]) == 2
    assert "belongs to another run" in capsys.readouterr().err
    assert Path("out/run.yaml").read_text() == was, "a refused command changes nothing"


def test_a_dry_run_says_what_would_happen_and_leaves_nothing(config, capsys):
    assert main(["sft", config, "--dry-run", "--json", "--set", "training.max_training_steps=null"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["total_steps"] * 4 >= found["rows"] > 4 * (found["total_steps"] - 1)
    assert found["trained_parameters"] == found["parameters"] > 1_000_000
    assert sum(found["shapes"].values()) == len(found["losses"])
    assert found["expected_seconds"] > found["seconds_per_step"] > 0
    assert found["held_out"]["eval_loss"] > 0
    assert found["data_report"]["rows"] > 0
    assert not Path("out").exists()


def test_the_end_of_a_run_as_json(config, capsys):
    assert main(["sft", config, "--json", "--set", "training.max_training_steps=1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 1
    assert result["held_out"]["after"]["eval_loss"] > 0
    assert result["previews"][0]["prompt"] == "Who are you?"
    assert Path(result["model"], "config.json").exists()
    assert Path(result["report"]).exists()


def test_a_missed_goal_ends_with_1_but_keeps_the_model(config, capsys):
    assert main(["sft", config, "--require_nll_drop", "0.99"]) == 1
    assert "require_nll_drop demands 99.0%" in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert Path("out/model/config.json").exists()


def verdict(text):
    return [line for line in text.splitlines() if line.startswith("Held-out negative log-likelihood")]
