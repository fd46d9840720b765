"""Getting a tokenizer, and what is needed of one.

Masks are made from lengths and positions, never by looking for the pad id, so `pad == eos` (the usual rule for models
without a pad token) cannot erase a real end of turn.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import tokenizers

__all__ = ["ChatTokenizer", "ensure_pad_token", "load_tokenizer"]


@runtime_checkable
class ChatTokenizer(Protocol):
    """What this package uses of a tokenizer; every fast `transformers` tokenizer has it.

    `special_tokens_map` (such as `{"eos_token": "</s>"}`) is visible to chat templates by these names.
    """

    chat_template: Any
    eos_token: str | None
    eos_token_id: int | None
    bos_token_id: int | None
    pad_token: str | None

    @property
    def backend_tokenizer(self) -> tokenizers.Tokenizer: ...

    @property
    def special_tokens_map(self) -> Mapping[str, Any]: ...

    def get_chat_template(self, chat_template: str | None = None, tools: Sequence[Any] | None = None) -> str:
        """Return the template that is used for these arguments; see `transformers`."""
        ...


def load_tokenizer(name_or_path: str | os.PathLike[str], *, revision: str | None = None) -> ChatTokenizer:
    """Return the tokenizer of a folder, a Hub repository or a `.gguf` file, with a pad token.

    Code that a repository brings along is never run.

    Args:
        name_or_path: Folder, Hub id, or GGUF file (needs the extra `gguf`; no torch).
        revision: Branch, tag or commit of a Hub repository; None = its default.

    Raises:
        ValueError: If the tokenizer is not a fast one (it has no Rust backend, so no batches and no offsets).
        FileNotFoundError: If a path does not exist.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix == ".gguf":
        from easydata_tokenize.gguf import read_gguf_tokenizer

        return ensure_pad_token(_require_fast(read_gguf_tokenizer(path), str(path)))
    if not path.is_dir() and _is_surely_a_path(str(name_or_path)):
        raise FileNotFoundError(
            f"No folder at {path}, so no tokenizer can be read from it.\n"
            '  mend: check the path; a Hub id looks like "HuggingFaceTB/SmolLM2-135M-Instruct"'
        )
    from transformers import AutoTokenizer

    name = str(path) if path.is_dir() else str(name_or_path)
    tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or "main", trust_remote_code=False)
    return ensure_pad_token(_require_fast(tokenizer, name))


def ensure_pad_token(tokenizer: ChatTokenizer) -> ChatTokenizer:
    """Give a tokenizer without a pad token its end-of-sequence token as pad; return the same tokenizer."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _is_surely_a_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1


def _require_fast(tokenizer: object, name: str) -> ChatTokenizer:
    if isinstance(tokenizer, ChatTokenizer):
        return tokenizer
    raise ValueError(
        f"The tokenizer of {name!r} is a {type(tokenizer).__name__} without a Rust backend.\n"
        "  expected: a fast tokenizer (a tokenizer.json beside the model)\n"
        "  mend: convert it once with transformers' convert_slow_tokenizer and save it as tokenizer.json"
    )
