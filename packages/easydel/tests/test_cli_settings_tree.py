"""Reading YAML and overrides into a tree that knows where each value was written."""

import pytest
from easydel.cli.output.errors import CommandError
from easydel.cli.settings.tree import Setting, read_settings, with_overrides


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path.relative_to(tmp_path)

    return write


def plain(setting):
    if isinstance(setting.value, dict):
        return {key: plain(child) for key, child in setting.value.items()}
    if isinstance(setting.value, list):
        return [plain(child) for child in setting.value]
    return setting.value


def test_values_know_their_line(write):
    settings = read_settings(write("model: tiny\ntraining:\n  seed: 3\n  lengths: [1, 2]\n"))
    assert plain(settings) == {"model": "tiny", "training": {"seed": 3, "lengths": [1, 2]}}
    assert settings.value["model"].where == "run.yaml, line 1"
    assert settings.value["training"].where == "run.yaml, line 2"
    assert settings.value["training"].value["seed"].where == "run.yaml, line 3"


def test_an_empty_file_sets_nothing(write):
    assert plain(read_settings(write("# nothing yet\n"))) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: a\nmodel: b\n", "run.yaml, line 2: `model` is given twice (first at run.yaml, line 1)"),
        ("model: [a\n", "run.yaml, line 2, column 1: not valid YAML"),
        ("- a\n- b\n", "expected lines of the form `key: value`"),
        ("just words\n", "expected lines of the form `key: value`"),
        ("a: &x 1\nb: *x\n", "uses a YAML alias"),
        ("a: !!python/object/apply:os.getcwd []\n", "line 1, column 4: not valid YAML"),
        ("a: !!python/name:os.getcwd ''\n", "line 1, column 4: not valid YAML"),
        ("? [a, b]\n: 1\n", "a key must be a plain word"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(write, text, message):
    with pytest.raises(CommandError) as raised:
        read_settings(write(text))
    assert message in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CommandError, match=r"nowhere\.yaml does not exist"):
        read_settings(tmp_path / "nowhere.yaml")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(CommandError, match="cannot be read"):
        read_settings(path)


def test_overrides_are_yaml_values_under_dotted_keys():
    settings = Setting({"training": Setting({"seed": Setting(1, "f, line 2")}, "f, line 1")}, "f")
    changed = with_overrides(settings, ("training.seed=2", "training.loss_type=dft", "names=[a, b]", "tokenizer=null"))
    assert plain(changed) == {
        "training": {"seed": 2, "loss_type": "dft"},
        "names": ["a", "b"],
        "tokenizer": None,
    }
    assert changed.value["training"].value["seed"].where == "--set training.seed=2"
    assert plain(settings) == {"training": {"seed": 1}}, "the tree given is left alone"


def test_a_later_override_wins():
    assert plain(with_overrides(Setting({}, "f"), ("seed=1", "seed=2"))) == {"seed": 2}


@pytest.mark.parametrize("text", ["seed", "=3", "training..seed=1", ".seed=1"])
def test_an_override_without_key_or_equals_is_refused(text):
    with pytest.raises(CommandError, match="not of the form --set key=value"):
        with_overrides(Setting({}, "f"), (text,))
