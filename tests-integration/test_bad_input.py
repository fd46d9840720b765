"""Bad input at the command line: one screen that names the place and the way out, and nothing half-written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from easydel.cli import main
from safetensors.numpy import load_file, save_file

GOLDEN = Path(__file__).parent / "golden"
GOOD_ROWS = str(GOLDEN / "rows" / "messages.jsonl")


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def refused(rows, *flags, model=GOLDEN / "models" / "policy", tokenizer=GOLDEN / "tokenizer"):
        words = ["sft", "--model", str(model), "--tokenizer", str(tokenizer), "--train_dataset", str(rows), *flags]
        assert main([*words, "--training.max_training_steps", "1"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        assert len(captured.err.splitlines()) <= 24, "an error fits one screen"
        left = [path for path in Path("runs").rglob("*") if path.is_file()] if Path("runs").exists() else []
        assert left == [], "nothing half-written is left behind"
        return " ".join(captured.err.replace("│", " ").split())

    return refused


@pytest.fixture
def model(tmp_path):
    """A copy of the tiny model, to be broken."""
    folder = tmp_path / "model"
    shutil.copytree(GOLDEN / "models" / "policy", folder)
    return folder


def joined(text):
    """Long paths are wrapped inside the panel."""
    return text.replace(" ", "")


def test_a_missing_file(refused):
    assert "nowhere.jsonl" in refused("nowhere.jsonl")


def test_a_pattern_that_matches_nothing(refused):
    assert "rows-*.parquet" in refused("rows-*.parquet")


def test_a_corrupt_parquet_footer(refused, tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1" + b"\x00" * 64 + b"PAR1")
    assert "broken.parquet" in joined(refused("broken.parquet"))


def test_a_truncated_json_line(refused, tmp_path):
    line = Path(GOOD_ROWS).read_text().splitlines()[0]
    (tmp_path / "cut.jsonl").write_text(line[: len(line) // 2] + "\n")
    text = refused("cut.jsonl")
    assert "cut.jsonl" in joined(text)
    assert "1" in text


def test_a_row_of_no_known_layout(refused, tmp_path):
    (tmp_path / "odd.jsonl").write_text('{"colour": "red", "size": 3}\n')
    text = refused("odd.jsonl")
    assert "odd.jsonl" in joined(text)
    assert "colour" in text
    assert "messages" in text


def test_chat_rows_and_a_tokenizer_without_a_template(refused, tmp_path):
    shutil.copytree(GOLDEN / "tokenizer", tmp_path / "plain")
    path = tmp_path / "plain" / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("chat_template")
    path.write_text(json.dumps(settings))
    assert "chat template" in refused(GOOD_ROWS, tokenizer=tmp_path / "plain").replace("chat_template", "chat template")


def test_a_model_folder_with_a_missing_tensor(refused, model):
    tensors = load_file(model / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, model / "model.safetensors")
    assert "model.layers.1.mlp.up_proj.weight" in joined(refused(GOOD_ROWS, model=model))


def test_a_model_folder_with_a_tensor_of_another_shape(refused, model):
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"] = np.ones(7, np.float32)
    save_file(tensors, model / "model.safetensors")
    text = refused(GOOD_ROWS, model=model)
    assert "model.norm.weight" in joined(text)
    assert "7" in text


def test_a_model_folder_that_is_not_there(refused):
    assert "no-such-model" in refused(GOOD_ROWS, model="./no-such-model")


def test_a_tokenizer_that_is_not_there(refused):
    assert "no-such-tokenizer" in refused(GOOD_ROWS, tokenizer="./no-such-tokenizer")


def test_max_length_of_nothing(refused):
    assert "`training.max_length` is 0" in refused(GOOD_ROWS, "--set", "training.max_length=0")


def test_an_unknown_optimizer(refused):
    text = refused(GOOD_ROWS, "--set", "training.optimizer=adamm")
    assert "'adamm'" in text
    assert "adamw" in text
