"""The tokenizer inside a GGUF file equals the one it was made from."""

import json

import gguf
import pytest
from easydata_sources.errors import DataFormatError
from easydata_tokenize import load_tokenizer

TEXTS = [
    "x =  12 and 3.14",
    "<|im_start|>user\nhé 👩‍🚀\t  two<|im_end|>\n",
    "  a\n\n\nb's  日本語",
    "",
]


def write_gguf(path, golden, *, split="smollm", add_bos=False, size=None):
    """Write a GGUF file that holds nothing but the golden tokenizer, or its first `size` tokens."""
    stored = json.loads((golden / "tokenizer" / "tokenizer.json").read_text())
    config = json.loads((golden / "tokenizer" / "tokenizer_config.json").read_text())
    vocabulary = stored["model"]["vocab"]
    special = {token["content"] for token in stored["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)[:size]
    kept = set(tokens)
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in stored["model"]["merges"]]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(8192)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in pairs if {*pair, "".join(pair)} <= kept])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(add_bos)
    writer.add_chat_template(config["chat_template"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def test_rebuilt_tokenizer_gives_the_same_ids_template_and_special_tokens(tmp_path, golden):
    write_gguf(tmp_path / "model.gguf", golden)
    rebuilt, original = load_tokenizer(tmp_path / "model.gguf"), load_tokenizer(golden / "tokenizer")
    for text in TEXTS:
        encoding = rebuilt.backend_tokenizer.encode(text)
        assert encoding.ids == original.backend_tokenizer.encode(text).ids
        assert rebuilt.backend_tokenizer.decode(encoding.ids, skip_special_tokens=False) == text
    assert rebuilt.chat_template == original.chat_template
    assert (rebuilt.bos_token, rebuilt.eos_token, rebuilt.pad_token) == ("<|im_start|>", "<|im_end|>", "<|im_end|>")


@pytest.mark.parametrize(
    ("split", "tokens"),
    [("smollm", ["<|im_start|>", "x", "ĠĠ", "1", "2"]), ("gpt-2", ["<|im_start|>", "x", "Ġ", "Ġ", "1", "2"])],
)
def test_digits_are_split_off_first_only_where_the_file_says_so(tmp_path, golden, split, tokens):
    write_gguf(tmp_path / "model.gguf", golden, split=split, add_bos=True, size=600)
    assert load_tokenizer(tmp_path / "model.gguf").backend_tokenizer.encode("x  12").tokens == tokens


def test_kinds_that_cannot_be_rebuilt_exactly_raise(tmp_path, golden):
    write_gguf(tmp_path / "model.gguf", golden, split="llama-bpe", size=300)
    with pytest.raises(DataFormatError, match="llama-bpe"):
        load_tokenizer(tmp_path / "model.gguf")


def test_a_file_that_is_no_gguf_raises(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"not a model" * 10)
    with pytest.raises(DataFormatError, match="cannot be read as GGUF"):
        load_tokenizer(tmp_path / "model.gguf")
