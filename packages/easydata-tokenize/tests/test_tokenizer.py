"""Loading tokenizers, and the pad-token rule."""

import subprocess
import sys

import pytest
from easydata_tokenize import ChatTokenizer, ensure_pad_token, load_tokenizer


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
