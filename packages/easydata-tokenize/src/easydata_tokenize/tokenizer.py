"""Getting a tokenizer, and what is needed of one.

Masks are made from lengths and positions, never by looking for the pad id, so `pad == eos` (the usual rule for models
without a pad token) cannot erase a real end of turn.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from easydata_sources.errors import DataError
from easydata_sources.storage.package_files import resolved

if TYPE_CHECKING:
    import tokenizers

__all__ = ["ChatTokenizer", "TokenizerError", "ensure_pad_token", "load_tokenizer"]

_SAID = 300  # characters of what a library says


class TokenizerError(DataError, OSError):
    """A tokenizer that is not there, cannot be read, or is of a kind that cannot be used."""


class TokenizerNotFoundError(TokenizerError, FileNotFoundError):
    """A path at which there is no tokenizer."""


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
        """Returns the template that is used for these arguments; see `transformers`."""
        ...


def load_tokenizer(name_or_path: str | os.PathLike[str], *, revision: str | None = None) -> ChatTokenizer:
    """Returns the tokenizer of a folder, a Hub repository or a `.gguf` file, with a pad token.

    Code that a repository brings along is never run.

    Args:
        name_or_path: Folder, Hub id, or GGUF file (needs the extra `gguf`; no torch), or one of these inside an
            installed Python package: `package://PACKAGE/FILE`.
        revision: Branch, tag or commit of a Hub repository; None = its default.

    Raises:
        TokenizerError: If the tokenizer is not a fast one (it has no Rust backend, so no batches and no offsets), its
            files cannot be read, or they ask for code of their own. (A `ValueError` and an `OSError`.)
        TokenizerNotFoundError: If a path does not exist. (A `FileNotFoundError`.)
    """
    name_or_path = resolved(name_or_path)
    path = Path(name_or_path).expanduser()
    if path.suffix == ".gguf":
        from easydata_tokenize.gguf import read_gguf_tokenizer

        with _raising_tokenizer_errors(str(path)):
            return ensure_pad_token(_require_fast(read_gguf_tokenizer(path), str(path)))
    if not _is_folder(path) and _is_surely_a_path(str(name_or_path)):
        raise TokenizerNotFoundError(
            f"No folder at {path}, so no tokenizer can be read from it.\n"
            '  mend: check the path; a Hub id looks like "HuggingFaceTB/SmolLM2-135M-Instruct"'
        )
    from transformers import AutoTokenizer

    name = str(path) if _is_folder(path) else str(name_or_path)
    with _raising_tokenizer_errors(name):
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or "main", trust_remote_code=False)
        return ensure_pad_token(_require_fast(tokenizer, name))


def ensure_pad_token(tokenizer: ChatTokenizer) -> ChatTokenizer:
    """Gives a tokenizer without a pad token its end-of-sequence token as pad; returns the same tokenizer."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextmanager
def _raising_tokenizer_errors(name: str) -> Iterator[None]:
    """Turns whatever the libraries raise at files of wrong types into one error that names the tokenizer."""
    try:
        yield
    except (DataError, ImportError):
        raise
    except BaseException as error:
        # What Rust code panics with is no `Exception`, and has no name to import.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if "trust_remote_code" in str(error):
            raise TokenizerError(
                f"The tokenizer of {name!r} is code of its own, which is never run.\n"
                "  expected: a tokenizer.json beside the model\n"
                "  mend: convert it once, where you trust the code: load it there with transformers, and save it with "
                "save_pretrained"
            ) from error
        said = (str(error).strip().splitlines() or [""])[0][:_SAID]
        raise TokenizerError(
            f"The tokenizer of {name!r} cannot be read.\n"
            f"  found: {type(error).__name__}: {said}\n"
            "  expected: a folder or Hub repository with tokenizer.json and tokenizer_config.json, or a .gguf file\n"
            "  mend: check the name, or fetch the files again; a tokenizer may be given apart from the model"
        ) from error


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name longer than the file system has
        return False


def _is_surely_a_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1


def _require_fast(tokenizer: object, name: str) -> ChatTokenizer:
    if isinstance(tokenizer, ChatTokenizer):
        template = tokenizer.chat_template
        texts = template.values() if isinstance(template, dict) else [] if template is None else [template]
        if not all(isinstance(text, str) for text in texts):
            raise TokenizerError(
                f"The chat template of the tokenizer {name!r} is no text.\n"
                f"  found: {type(template).__name__}\n"
                "  expected: a template, or several by name\n"
                "  mend: correct `chat_template` in its tokenizer_config.json"
            )
        return tokenizer
    raise TokenizerError(
        f"The tokenizer of {name!r} is a {type(tokenizer).__name__} without a Rust backend.\n"
        "  expected: a fast tokenizer (a tokenizer.json beside the model)\n"
        "  mend: convert it once with transformers' convert_slow_tokenizer and save it as tokenizer.json"
    )
