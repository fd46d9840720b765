"""The command line as a user meets it: overview, unknown commands, configs read, shown or refused."""

import subprocess
import sys

import pytest
import yaml
from easydel.cli.main import COMMANDS, main
from easydel.cli.output.errors import CommandError, GoalMissedError, is_for_users, show_error


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: some/folder\ntrain_dataset: rows.jsonl\ntraining:\n  max_length: 64\n  learning_rate: 1e-4\n"
    )
    return "run.yaml"


def printed_config(capsys, *arguments):
    assert main(["sft", *arguments, "--print-config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def refused(capsys, *arguments):
    assert main(["sft", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert len(captured.err.splitlines()) <= 24, "an error fits one screen"
    return " ".join(captured.err.replace("│", " ").split())


def test_the_overview_lists_the_commands_and_exit_codes(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "exit codes" in text


def test_a_misspelt_command_is_refused_with_the_nearest(capsys):
    assert main(["sfx"]) == 2
    assert "Did you mean `easydel sft`?" in capsys.readouterr().err


def test_help_explains_every_key(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["sft", "--help"])
    assert raised.value.code == 0
    text = capsys.readouterr().out
    for key in ("--model", "--set", "--print_config", "--training.learning_rate", "--training.assistant_only_loss"):
        assert key in text
    assert "Peak learning rate, reached after warm-up" in text


def test_flags_outweigh_overrides_and_those_the_file(config, capsys):
    training = printed_config(
        capsys, config, "--set", "training.max_length=32", "--set=training.seed=5", "--training.max-length", "16"
    )["training"]
    assert (training["max_length"], training["seed"], training["learning_rate"]) == (16, 5, 1e-4)


def test_a_flag_may_rely_on_what_the_file_says(config, capsys, tmp_path):
    with (tmp_path / config).open("a") as file:
        file.write("eval_dataset: held_out.jsonl\n")
    assert printed_config(capsys, config, "--require_nll_drop", "0.1")["require_nll_drop"] == 0.1


def test_held_out_rows_may_be_several_sets_by_name(config, capsys, tmp_path):
    sets = {"chat": "chats.jsonl", "code": "code.jsonl"}
    with (tmp_path / config).open("a") as file:
        yaml.safe_dump({"eval_dataset": sets}, file)
    assert printed_config(capsys, config)["eval_dataset"] == sets
    assert printed_config(capsys, config, "--eval-dataset", "one.jsonl")["eval_dataset"] == "one.jsonl"
    assert "expected None, one name of rows" in refused(capsys, config, "--set", "eval_dataset={}")


def test_the_file_comes_first(config, capsys):
    for words in (["--model", "m", "--train_dataset", "d", config], [config, "--dry-run", config]):
        assert "must come first: `easydel sft run.yaml …`" in refused(capsys, *words)


def test_flags_alone_will_do(capsys):
    printed = printed_config(capsys, "--model", "m", "--train_dataset", "d", "--training.optimizer", "lion")
    assert (printed["model"], printed["training"]["optimizer"]) == ("m", "lion")
    assert printed["training"]["save_directory"] == "runs/sft"


def test_a_printed_config_gives_the_same_config_again(config, capsys, tmp_path):
    first = printed_config(capsys, config)
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(first))
    assert printed_config(capsys, "again.yaml") == first


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.max_lenght=3", "no key `training.max_lenght`. Did you mean `training.max_length`?"),
        ("training.max_length=0", "`training.max_length` is 0; expected a whole number of at least 1"),
        (
            "training.optimizer=adma",
            "`training.optimizer` is the text 'adma'; expected one of adamw, lion, adafactor, muon, sgd, schedule_free",
        ),
        ("eval_rows=0", "`eval_rows` is 0"),
        ("preview_rows=2", "`preview_rows` is 2; expected an `eval_dataset` beside it"),
        ("require_nll_drop=0.1", "`require_nll_drop` is 0.1; expected an `eval_dataset`"),
    ],
)
def test_what_does_not_fit_is_refused(config, capsys, override, message):
    text = refused(capsys, config, "--set", override)
    assert f"--set {override}:" in text
    assert message in text


def test_a_wrong_value_in_the_file_is_refused_with_its_line(config, capsys, tmp_path):
    (tmp_path / config).write_text("model: m\ntrain_dataset: d\ntraining:\n  seed: one\n")
    assert "run.yaml, line 4: `training.seed` is the text 'one'; expected a whole number." in refused(capsys, config)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--training.max-lenght", "5"],
            "--training.max-lenght: there is no such flag. Did you mean `training.max_length`?",
        ),
        (["--max_length", "5"], "--max_length: there is no such flag. Did you mean `training.max_length`?"),
        (["--dryrun"], "--dryrun: there is no such flag. Did you mean `dry_run`?"),
        (["-v"], "-v: there is no such flag."),
        (
            ["--training.optimizer", "adma"],
            "--training.optimizer: `training.optimizer` is the text 'adma'; expected one of adamw, lion,",
        ),
        (["--training.max_length", "--json"], "`training.max_length` is without a value; expected a whole number"),
        (["--training.max_length", "1.5"], "`training.max_length` is the text '1.5'; expected a whole number or null."),
        (["--training.lora", "8"], "`training.lora` is the text '8'; expected a section of further keys, for example"),
        (["--json", "--training.packing=1"], "`training.packing` is the text '1'; expected true or false."),
    ],
)
def test_wrong_flags_are_refused_as_wrong_keys_are(config, capsys, flags, message):
    assert message in refused(capsys, config, *flags)


def test_a_flag_is_read_as_the_type_that_its_key_has(config, capsys):
    words = {
        "--tokenizer": ["12"],
        "--eval_dataset": ["None"],
        "--preview_questions": ["What is 1?", "-1?"],
        "--training.allow_other_tokenizer": [],
        "--training.assistant_only_loss": ["False"],
        "--training.progress_bar": ["null"],
        "--training.learning_rate": ["2"],
        "--training.clip_grad": ["-1e3"],
        "--training.length_buckets": ["64", "128"],
        "--training.data_thresholds": ["truncated", "0.5", "split", "1"],
    }
    assert main(["sft", config, *(word for flag, behind in words.items() for word in (flag, *behind))]) == 2
    assert "--training.clip_grad: `training.clip_grad` is -1000.0" in " ".join(capsys.readouterr().err.split())
    words.pop("--training.clip_grad")
    printed = printed_config(capsys, config, *(word for flag, behind in words.items() for word in (flag, *behind)))
    training = printed["training"]
    assert (printed["tokenizer"], printed["eval_dataset"]) == ("12", None)
    assert printed["preview_questions"] == ["What is 1?", "-1?"]
    assert (training["allow_other_tokenizer"], training["assistant_only_loss"]) == (True, False)
    assert training["progress_bar"] is None
    assert (training["learning_rate"], training["length_buckets"]) == (2.0, [64, 128])
    assert training["data_thresholds"] == {"truncated": 0.5, "split": 1.0}


def test_the_last_of_two_flags_counts(config, capsys):
    flags = ("--training.seed", "1", "--training.seed=2")
    assert printed_config(capsys, config, *flags)["training"]["seed"] == 2


def test_a_value_out_of_range_is_named_by_its_flag(config, capsys):
    text = refused(capsys, config, "--training.max-length", "0")
    assert "--training.max_length: `training.max_length` is 0; expected a whole number of at least 1" in text


def test_a_flag_mends_what_does_not_fit_inside_the_file(config, capsys, tmp_path):
    with (tmp_path / config).open("a") as file:
        file.write("  total_batch_size: 6\n  gradient_accumulation_steps: 4\n")
    assert "run.yaml, line 7" in refused(capsys, config)
    training = printed_config(capsys, config, "--training.total_batch_size", "8")["training"]
    assert (training["total_batch_size"], training["gradient_accumulation_steps"]) == (8, 4)


def test_a_flag_of_an_optional_section_turns_it_on(config, capsys, tmp_path):
    assert printed_config(capsys, config)["training"]["lora"] is None
    assert printed_config(capsys, config, "--training.lora.rank", "16")["training"]["lora"]["rank"] == 16
    with (tmp_path / config).open("a") as file:
        file.write("  lora: {rank: 4}\n")
    assert printed_config(capsys, config)["training"]["lora"]["rank"] == 4
    assert printed_config(capsys, config, "--set", "training.lora=null")["training"]["lora"] is None


def test_ctrl_c_ends_with_130(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("easydel.cli.commands.train.parse_run", interrupted)
    assert main(["sft"]) == 130
    assert "Stopped" in capsys.readouterr().err


def test_an_unexpected_error_keeps_its_traceback_in_a_file(config, monkeypatch, tmp_path, capsys):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("easydel.cli.commands.train.parse_run", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["sft", config]) == 1
    assert "unexpected error" in capsys.readouterr().err
    (kept,) = tmp_path.glob("easydel-*.traceback.txt")
    assert "in broken" in kept.read_text()


def test_errors_are_for_users_if_their_class_is_ours():
    class Ours(CommandError, ValueError):
        pass

    assert is_for_users(CommandError("x"))
    assert is_for_users(Ours("x"))
    assert not is_for_users(ValueError("x"))


def test_a_missed_goal_ends_with_1_and_notes_are_shown(capsys):
    error = GoalMissedError("not enough")
    error.add_note("try longer")
    assert show_error(error) == 1
    shown = capsys.readouterr().err
    assert "goal missed" in shown
    assert "try longer" in shown


def test_piped_output_has_no_control_codes(config):
    for arguments in (["--help"], ["sft", "--help"], ["sft", config, "--print-config"], ["sft", "nowhere.yaml"]):
        done = subprocess.run(
            [sys.executable, "-m", "easydel.cli", *arguments], capture_output=True, check=False, timeout=60
        )
        assert b"\x1b" not in done.stdout + done.stderr
