"""The tokenizer inside a GGUF file, rebuilt without torch.

A GGUF file stores the tokens, the merges, the special ids and the chat template, but of the pre-tokenizer only a
name. Names whose splitting rule is not known here raise instead of being read with another rule, which would tokenize
some texts differently from the model's training.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easydata_sources.errors import DataError, DataFormatError

from easydata_tokenize.tokenizer import TokenizerNotFoundError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["read_gguf_tokenizer"]

_CONTROL = 3
"""Token type of control tokens such as `<|im_end|>` (GGUF specification, `tokenizer.ggml.token_type`)."""

_USER_DEFINED = 4
"""Token type of added tokens that are ordinary text."""

_DIGITS_APART = ("smollm", "starcoder", "refact", "command-r")
"""Pre-tokenizers that split digits one by one, then as GPT-2 does."""

_GPT2 = ("gpt-2", "default", "phi-2", "mpt")


class MissingGGUFError(DataError, ImportError):
    """The package `gguf` is not installed."""


def read_gguf_tokenizer(path: str | os.PathLike[str]) -> PreTrainedTokenizerFast:
    """Returns the byte-level BPE tokenizer of a GGUF file, with its special tokens and chat template.

    Raises:
        MissingGGUFError: If the extra `gguf` is not installed. (An `ImportError`.)
        TokenizerNotFoundError: If the file does not exist.
        DataFormatError: If the file is no GGUF file, or its tokenizer is of another kind.
    """
    from transformers import PreTrainedTokenizerFast

    fields = _read_fields(Path(path))
    architecture = str(fields.get("general.architecture", ""))
    tokens = [str(token) for token in fields["tokenizer.ggml.tokens"]]
    named = {
        role: tokens[int(fields[f"tokenizer.ggml.{key}_token_id"])]
        for role, key in _SPECIAL_KEYS.items()
        if f"tokenizer.ggml.{key}_token_id" in fields
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=_build_backend(fields, tokens, named),
        chat_template=fields.get("tokenizer.chat_template"),
        model_max_length=int(fields.get(f"{architecture}.context_length", 1 << 30)),
        clean_up_tokenization_spaces=False,
        **named,
    )


_SPECIAL_KEYS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def _build_backend(fields: dict[str, Any], tokens: list[str], named: dict[str, str]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    pairs = (str(merge).partition(" ") for merge in fields["tokenizer.ggml.merges"])
    merges = [(left, right) for left, _, right in pairs]
    backend = Tokenizer(
        models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges, fuse_unk=False)
    )
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if fields["tokenizer.ggml.pre"] in _DIGITS_APART:
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), split])
    else:
        backend.pre_tokenizer = split
    backend.decoder = decoders.ByteLevel()
    kinds = [int(kind) for kind in fields.get("tokenizer.ggml.token_type", [])]
    control = [token for token, kind in zip(tokens, kinds, strict=False) if kind == _CONTROL]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    plain = [token for token, kind in zip(tokens, kinds, strict=False) if kind == _USER_DEFINED]
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    if fields.get("tokenizer.ggml.add_bos_token", False) and "bos_token" in named:
        bos = named["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokens.index(bos))]
        )
    return backend


def _read_fields(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise TokenizerNotFoundError(
            f"No GGUF file at {path}.\n  mend: check the path; a Hub id has no .gguf at its end"
        )
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise MissingGGUFError(
            "Reading a GGUF tokenizer needs the package `gguf`, which is not installed.\n"
            '  mend: pip install "easydata-tokenize[gguf]"'
        ) from error
    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError) as error:
        raise DataFormatError(
            "File cannot be read as GGUF.",
            file=str(path),
            found=str(error),
            expected="a GGUF file, version 2 or 3",
            mend="download it again; the file may be cut off",
        ) from error
    fields = {name: field.contents() for name, field in reader.fields.items()}
    kind, split = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if kind != "gpt2" or split not in _DIGITS_APART + _GPT2:
        raise DataFormatError(
            "The tokenizer of this GGUF file is of a kind that cannot be rebuilt exactly.",
            file=str(path),
            found=f"tokenizer.ggml.model = {kind!r}, tokenizer.ggml.pre = {split!r}",
            expected=f"model 'gpt2' with pre one of {', '.join(_DIGITS_APART + _GPT2)}",
            mend="give the tokenizer by itself: load_tokenizer(folder or Hub id of the original model)",
        )
    return fields
