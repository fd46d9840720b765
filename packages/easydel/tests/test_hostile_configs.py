"""Config files and run folders from somebody else: refused on one screen, and nothing they name is run."""

import pytest
from easydel.cli import main
from easydel.cli.output.errors import CommandError
from easydel.cli.settings.tree import Setting, read_settings, with_overrides


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: " + "[" * 50_000, "deeper than 32 levels"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(1000)), "deeper than 32 levels"),
        ("a: 2026-99-99\n", "no value that YAML knows"),
        ("a: " + "9" * 10_000 + "\n", "no value that YAML knows"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("a: &a [1]\nb: *a\n", "alias"),
        ("a: " + "x" * (1 << 21), "characters; a config has at most"),
    ],
)
def test_yaml_that_would_not_end_is_refused(tmp_path, text, said):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(CommandError, match=said):
        read_settings(path)


def test_an_override_is_bounded_too():
    with pytest.raises(CommandError, match="deeper than 32"):
        with_overrides(Setting({}, "here"), ("a=" + "[" * 500,))


def test_a_name_that_no_file_has_is_refused(capsys):
    assert main(["sft", "a\x00b"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert main(["generate", "m" * 5000, "hello"]) == 2
    assert len(capsys.readouterr().err) < 4000


@pytest.mark.parametrize("trainer", ["", "trainer: [sft]\n", "trainer: null\n", "trainer: nothing\n"])
def test_a_run_folder_that_does_not_say_its_trainer_is_refused(tmp_path, capsys, trainer):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "run.yaml").write_text(f"{trainer}model: nowhere/model\ntrain_dataset: a.jsonl\n")
    assert main(["export", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "does not say whose run it is" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_export_runs_no_code_that_a_run_folder_names(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    ran = tmp_path / "ran"
    (tmp_path / "code.py").write_text(f"open({str(ran)!r}, 'w')\n")
    text = f'trainer: grpo\nmodel: ./nowhere\ntrain_dataset: a.jsonl\nreward_funcs: ["{tmp_path}/code.py:reward"]\n'
    (tmp_path / "run.yaml").write_text(text)
    assert main(["export", str(tmp_path), str(tmp_path / "out")]) == 2
    capsys.readouterr()
    assert not ran.exists()
