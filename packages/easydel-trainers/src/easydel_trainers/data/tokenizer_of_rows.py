"""Tokens that another tokenizer made mean other texts to this model: such a set is refused before any row is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from easydata_sources import DataError, ShardedDataSource
from easydata_tokenize import tokenizer_fingerprint
from easydata_tokenize.saved.tokenizers import SetTokenizer, set_tokenizers

__all__ = ["OtherTokenizerError", "refuse_other_tokenizer"]

logger = logging.getLogger(__name__)

# A chat template decides which tokens a conversation becomes, not what a token means.
_MEANING = ("rules", "bos_token_id", "eos_token_id")


class OtherTokenizerError(DataError):
    """A set was tokenized with another tokenizer than that of the model."""


def refuse_other_tokenizer(tokenizer: Any, sources: Mapping[str, ShardedDataSource | None], *, allowed: bool) -> None:
    """Compares the tokenizers that made saved sets with the one that is trained with.

    A chat template of another text is told in the log, and not refused: rows may be of plain text.

    Args:
        tokenizer: the trainer's; nothing is compared with one that is not a fast one.
        sources: what is trained and evaluated on, by the name that users gave it under.
        allowed: whether the user says that the tokens are right all the same.

    Raises:
        OtherTokenizerError: names both.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return
    own = tokenizer_fingerprint(tokenizer)
    name = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
    for given, source in sources.items():
        for made in [] if source is None else set_tokenizers(source):
            differing = [part for part in own if made.fingerprint.get(part) != own[part]]
            if not differing:
                continue
            if not allowed and any(part in _MEANING for part in differing):
                raise _other(given, made, name, own)
            logger.warning(
                "%s: the set in %s was tokenized with another %s than that of %s",
                given,
                made.folder,
                " and ".join(part.replace("_", " ") for part in differing),
                name,
            )


def _other(given: str, made: SetTokenizer, name: str, own: Mapping[str, Any]) -> OtherTokenizerError:
    return OtherTokenizerError(
        f"{given}: the set in {made.folder} was tokenized with another tokenizer than that of this model.\n"
        f"  found: {made.name or 'a tokenizer'} ({_shown(made.fingerprint)})\n"
        f"  expected: {name} ({_shown(own)})\n"
        "  mend: tokenize the rows with this model's tokenizer, or name the other as processing_class; if you know "
        "that the tokens mean the same, allow_other_tokenizer=True"
    )


def _shown(fingerprint: Mapping[str, Any]) -> str:
    return f"rules {str(fingerprint.get('rules'))[:8]}, BOS {fingerprint.get('bos_token_id')}, EOS " + str(
        fingerprint.get("eos_token_id")
    )
