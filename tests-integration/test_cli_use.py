"""The commands around training, each run for real on the tiny golden model: export, generate, chat, tokenize, …"""

import io
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from easydata_tokenize import load_tokenizer, open_saved
from easydel.cli import main
from easydel_models import AutoEasyDeLModelForCausalLM

GOLDEN = Path(__file__).parent / "golden"
ROWS = str(GOLDEN / "rows" / "prompt_completion.jsonl")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, a config of a short LoRA run, and that run."""
    folder = tmp_path_factory.mktemp("use")
    shutil.copytree(GOLDEN / "models" / "policy", folder / "model")
    shutil.copytree(GOLDEN / "tokenizer", folder / "model", dirs_exist_ok=True)
    training = {
        "save_directory": "run",
        "max_length": 64,
        "max_training_steps": 1,
        "total_batch_size": 4,
        "learning_rate": 1e-2,
        "lora": {"rank": 2},
        "length_buckets": [256],
    }
    settings = {"trainer": "sft", "model": "model", "train_dataset": ROWS, "training": training}
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["sft", "run.yaml", "--json"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def in_the_place(place, monkeypatch):
    monkeypatch.chdir(place)


def spoken(capsys, *arguments):
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def logits(folder):
    return np.asarray(AutoEasyDeLModelForCausalLM.from_pretrained(folder)(np.arange(1, 9)[None]))


def test_a_run_is_exported_whole_and_as_adapters_that_merge_to_the_same(capsys):
    whole = json.loads(spoken(capsys, "export", "run", "whole", "--json"))
    assert whole["step"] == 1
    assert "step 1 of run" in spoken(capsys, "export", "run", "adapters", "--format", "peft")
    assert sorted(path.name for path in Path("adapters").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    spoken(capsys, "export", "model", "merged", "--adapter", "adapters")
    np.testing.assert_allclose(logits("merged"), logits("whole"), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(logits("whole"), logits("run/model"), rtol=1e-6, atol=1e-6)
    assert np.abs(logits("whole") - logits("model")).max() > 1e-3, "one step changes something"
    assert load_tokenizer("whole").chat_template == load_tokenizer("model").chat_template


def test_generate_answers_every_prompt_as_a_line_of_json(capsys, monkeypatch):
    options = ("--max_new_tokens", "3", "--json")
    first = [json.loads(line) for line in spoken(capsys, "generate", "model", "One", "Two", *options).splitlines()]
    assert [answer["prompt"] for answer in first] == ["One", "Two"]
    assert all(answer["tokens"] == 3 and answer["finish_reason"] == "length" for answer in first)
    monkeypatch.setattr("sys.stdin", io.StringIO("One\n\nTwo\n"))
    assert [json.loads(line) for line in spoken(capsys, "generate", "model", *options).splitlines()] == first


def test_chat_remembers_and_streams_what_generate_gives_whole(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("One\n"))
    answer = spoken(capsys, "chat", "model", "--max_new_tokens", "20", "--temperature", "0")
    whole = json.loads(spoken(capsys, "generate", "model", "One", "--max_new_tokens", "20", "--json"))
    assert answer == whole["text"] + "\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("One\nTwo\n/undo\nTwo\n/reset\nOne\n"))
    turns = spoken(capsys, "chat", "model", "--max_new_tokens", "3", "--temperature", "0").splitlines()
    assert len(turns) == 4
    assert turns[1] == turns[2], "undone, the second question is asked again after the same turns"
    assert turns[3] == turns[0], "reset, the first question begins a conversation"
    assert turns[1] != turns[0]


def test_chat_on_a_terminal():
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "easydel.cli", "chat", "model", "--max_new_tokens", "2"]
    environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": ""}
    environment.pop("NO_COLOR")
    running = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        seen = read_until(ours, b"you> ")
        os.write(ours, b"/help\n")
        seen += read_until(ours, b"/exit")
        os.write(ours, b"Hello\n")
        seen += read_until(ours, b"model> ")
        os.write(ours, b"/exit\n")
        assert running.wait(timeout=120) == 0
    finally:
        running.kill()
        os.close(ours)
    assert b"\x1b[" in seen, "colours where there is a terminal"


def read_until(terminal, wanted):
    seen, deadline = b"", time.monotonic() + 180
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 4096)
    return seen


def test_tokenized_like_a_training_rows_are_those_it_would_make(capsys):
    from easydel_trainers import SFTConfig, SFTTrainer

    told = json.loads(spoken(capsys, "tokenize", ROWS, "tokens", "--like", "run.yaml", "--json"))
    rows = list(open_saved("tokens").rows())
    assert told["rows"] == len(rows)
    assert told["data_report"]["truncated"] > 0
    trainer = SFTTrainer.without_model(
        SFTConfig(max_length=64, shuffle_train_dataset=False, total_batch_size=4),
        processing_class=load_tokenizer("model"),
        train_dataset=ROWS,
    )
    batch = next(trainer.padded_batches())
    for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=False):
        assert list(row["input_ids"]) == ids[mask > 0].tolist()
    assert "rows" in spoken(capsys, "tokenize", ROWS, "open", "--tokenizer", "model", "--max_length", "16")


def test_a_mixture_is_simulated(capsys):
    mixture = {
        "sources": {"a": ROWS, "b": str(GOLDEN / "rows" / "text.jsonl")},
        "weights": {"a": 3, "b": 1},
        "block_size": 8,
    }
    settings = {"trainer": "sft", "model": "model", "train_dataset": mixture, "training": {"total_batch_size": 8}}
    Path("mixed.yaml").write_text(yaml.safe_dump(settings))
    simulation = json.loads(spoken(capsys, "mix", "simulate", "mixed.yaml", "--steps", "100", "--json"))
    assert simulation["rows"] == {"a": 600, "b": 200}
    text = spoken(capsys, "mix", "simulate", "mixed.yaml", "--steps", "100", "--points", "4")
    assert "800 rows in 100 steps" in text
    assert text.count("█") > text.count("▓") > 4


def test_doctor_finds_this_installation_healthy(capsys):
    health = json.loads(spoken(capsys, "doctor", "--json"))
    assert health["healthy"]
    assert health["packages"]["easydel"] != "not installed"
    assert health["devices"]


def test_bash_reads_the_completion(capsys):
    script = spoken(capsys, "completion", "bash")
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    for word in ("inspect", "--training.learning_rate", "doctor", "mix"):
        assert word in script


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sft", "--model", "nowhere", "--train_dataset", ROWS), "nowhere"),
        (("sft", "--model", "model", "--train_dataset", "nothing/*.jsonl"), "nothing/*.jsonl"),
        (("dpo", "--model", "model", "--train_dataset", ROWS), "column 'chosen' and column 'rejected'"),
        (("inspect", "--model", "model", "--train_dataset", ROWS, "--html", "no/such/folder.html"), "--html"),
        (("inspect", "nowhere.yaml"), "nowhere.yaml does not exist"),
        (("generate", "nowhere", "Hello"), "nowhere"),
        (("generate", "model", "Hello", "--top_p", "3", "--temperature", "1"), "`top_p` must be in (0, 1]"),
        (("export", "model", "out", "--format", "peft"), "LoRA run"),
        (("export", "run", "out", "--adapter", "adapters"), "--adapter goes on a model"),
        (("tokenize", ROWS, "out"), "--tokenizer MODEL, or --like CONFIG.yaml"),
        (("mix", "simulate", "run.yaml"), "expected a mixture"),
    ],
)
def test_every_error_fits_one_screen_and_ends_with_2(arguments, message, capsys):
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    panel = captured.err[captured.err.index("╭") :]
    assert "Traceback" not in captured.err
    assert len(panel.splitlines()) <= 24
    assert message in " ".join(panel.replace("│", " ").split())


def test_a_run_is_exported_without_its_rows_rewards_or_a_trace_in_its_folder(capsys, tmp_path):
    """Its config may name files of rewards, which are code, and rows that are far away or gone."""
    told = yaml.safe_load(Path("run", "run.yaml").read_text())
    folder = tmp_path / "stranger"
    shutil.copytree("run", folder)
    code = tmp_path / "rewards.py"
    code.write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()\ndef good(completions, **rest): return [0.0]\n")
    grpo = {"model": told["model"], "tokenizer": told["tokenizer"], "trainer": "grpo"}
    grpo |= {"train_dataset": "gone.jsonl", "reward_funcs": [f"{code}:good"]}
    training = {"lora": told["training"]["lora"], "max_training_steps": 1}
    (folder / "run.yaml").write_text(yaml.safe_dump({**grpo, "training": training}))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert "step 1" in spoken(capsys, "export", str(folder), str(tmp_path / "out"))
    assert not (tmp_path / "executed").exists()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert (tmp_path / "out" / "config.json").is_file()


def test_told_to_stop_while_it_loads_a_command_ends_with_75(tmp_path):
    command = [
        sys.executable,
        "-m",
        "easydel.cli",
        "sft",
        "run.yaml",
        "--training.save_directory",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    while "reading rows and model" not in (line := process.stderr.readline()):
        assert line, "it ended"
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 75, errors
