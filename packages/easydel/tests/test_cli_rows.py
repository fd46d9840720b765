"""Names of models and rows in a config."""

import json

import pytest
from easydata_sources import DataError, as_sharded_source
from easydata_sources.storage.package_files import PackageFileError
from easydel.cli.training.rows import open_rows
from easydel.demo.python_docs import python_docs_rows
from easydel_models.errors import ModelNotFoundError


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "carries_a_model"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('importing this needs what nobody has')")
    (folder / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_packages_file_is_found_without_importing_it(package, tmp_path):
    (package / "rows.jsonl").write_text('{"text": "a"}\n')
    assert list(open_rows("package://carries_a_model/rows.jsonl", tmp_path).rows()) == [{"text": "a"}]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("package://carries_a_model/big.jsonl", r"has no file `big\.jsonl`; it has tiny\.gguf"),
        ("package://no_such_package_here/x.jsonl", "No Python package"),
        ("package://not-a-name/x.jsonl", "No Python package"),
    ],
)
def test_a_file_that_no_package_has_is_refused(package, tmp_path, name, said):
    with pytest.raises(PackageFileError, match=said):
        open_rows(name, tmp_path)


def test_demo_rows_are_written_once_made_and_read_from_the_file(tmp_path):
    source = open_rows("demo://python-docs/held-out", tmp_path / "rows")
    rows = python_docs_rows("held-out")
    assert list(source.rows()) == rows
    assert len(source) == len(rows)
    written = tmp_path / "rows" / "python-docs-held-out.jsonl"
    assert [json.loads(line) for line in written.read_text().splitlines()] == rows
    assert list(written.parent.iterdir()) == [written], "nothing half-written stays"


def test_unknown_demo_rows_are_refused_with_those_there_are(tmp_path):
    with pytest.raises(DataError, match="there are demo://python-docs/train, demo://python-docs/held-out"):
        open_rows("demo://java-docs/train", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_are_opened_as_the_sources_do(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert list(open_rows(str(tmp_path / "*.jsonl"), tmp_path).rows()) == [{"text": "a"}, {"text": "b"}]


def test_python_takes_the_names_that_the_command_line_takes(package, tmp_path):
    """One way of naming data sets and models, everywhere."""
    from easydel_models import AutoEasyDeLModelForCausalLM, DecoderConfig

    (package / "rows.jsonl").write_text('{"text": "a"}\n')
    assert list(as_sharded_source("package://carries_a_model/rows.jsonl").rows()) == [{"text": "a"}]
    assert list(as_sharded_source("demo://python-docs/held-out").rows()) == python_docs_rows("held-out")
    with pytest.raises(DataError, match="there are demo://python-docs/train"):
        as_sharded_source("demo://java-docs/train")
    sizes = {"vocab_size": 8, "dim": 4, "num_layers": 1, "num_heads": 1, "num_kv_heads": 1, "mlp_dim": 4}
    AutoEasyDeLModelForCausalLM.from_config(DecoderConfig(**sizes)).save_pretrained(package / "model")
    assert AutoEasyDeLModelForCausalLM.from_pretrained("package://carries_a_model/model").config.vocab_size == 8
    with pytest.raises(ModelNotFoundError, match="has no model 'nothing'"):
        AutoEasyDeLModelForCausalLM.from_pretrained("package://carries_a_model/nothing")
    with pytest.raises(ModelNotFoundError, match="is not installed"):
        AutoEasyDeLModelForCausalLM.from_pretrained("package://no_such_package_here/x")
