"""Loading tokenizers, and the pad-token rule."""

import subprocess
import sys

import pytest
from easydata_tokenize import ChatTokenizer, ensure_pad_token, load_tokenizer
from easydata_tokenize.tokenizer import TokenizerError


def test_a_folder_gives_a_tokenizer_with_all_that_is_needed(golden):
    tokenizer = load_tokenizer(golden / "tokenizer")
    assert isinstance(tokenizer, ChatTokenizer)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token) == (1, 2, "<|im_end|>")


def test_pad_becomes_eos_only_where_there_is_none(golden):
    tokenizer = load_tokenizer(golden / "tokenizer")
    tokenizer.pad_token = None
    assert ensure_pad_token(tokenizer).pad_token == "<|im_end|>"
    tokenizer.pad_token = "<|endoftext|>"
    assert ensure_pad_token(tokenizer).pad_token == "<|endoftext|>"


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such", "no/such/folder", "missing.gguf"])
def test_a_mistyped_path_is_never_looked_up_on_the_hub(name):
    with pytest.raises(FileNotFoundError, match="mend: check the path"):
        load_tokenizer(name)


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import sys\nfrom easydata_tokenize import *\n"
        "heavy = {'jax', 'flax', 'torch', 'transformers', 'tokenizers', 'pyarrow', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", "[]", "cannot be read"),
        ("tokenizer.json", "[" * 100_000, "cannot be read"),
        ("tokenizer.json", '{"model": 3}', "cannot be read"),
        ("tokenizer_config.json", "[" * 100_000, "cannot be read"),
        ("tokenizer_config.json", '{"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": 3}', "is no text"),
        (
            "tokenizer_config.json",
            '{"tokenizer_class": "E", "auto_map": {"AutoTokenizer": ["e.E", null]}}',
            "is code of",
        ),
    ],
)
def test_tokenizer_files_of_wrong_types_are_one_error(tmp_path, name, content, said):
    model = '{"type": "BPE", "vocab": {"a": 0}, "merges": []}'
    (tmp_path / "tokenizer.json").write_text(f'{{"version": "1.0", "added_tokens": [], "model": {model}}}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert load_tokenizer(tmp_path).eos_token is None, "before anything is wrong"
    (tmp_path / name).write_text(content)
    with pytest.raises(TokenizerError, match=said) as caught:
        load_tokenizer(tmp_path)
    assert "trust_remote_code" not in str(caught.value), "nobody can pass it here"
    assert len(str(caught.value)) < 2000
