"""The Rust tokenizer, a batch of texts at a time.

Special tokens part a text before anything else happens to it, so what lies between two of them is tokenized by itself.
Chats repeat themselves there — system prompts, headers, the turns of one dialogue tree, and every prompt, which is
rendered once alone and once with its completion — and each distinct piece of a batch is tokenized only once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from easydata_tokenize.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

__all__ = ["BatchTokenizer", "Tokens"]

# Leading and inner white space, a tab, a ligature, an accent and an emoji: what decoders are known to alter.
_ROUND_TRIP = " A b\n\n  c\td ﬁ é 😀"


class Tokens(NamedTuple):
    """One tokenized text."""

    ids: NDArray[np.int32]
    """Shape [tokens]."""
    offsets: NDArray[np.int32]
    """Character `[start, end)` of every token, shape [tokens, 2]; shape [0, 2] if they were not asked for."""


class BatchTokenizer:
    """Tokenizes and decodes batches, without adding special tokens, padding or cutting anything."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str], *, offsets: bool = False) -> list[Tokens]:
        """Returns the tokens of every text; offsets cost time, so only if they are asked for."""
        if self._special_pattern is None or self._backend.encode_special_tokens:
            return self._encode_whole(texts, offsets)
        # A prompt comes once with each of its answers.
        pieces = {text: self._special_pattern.split(text) for text in dict.fromkeys(texts)}
        distinct = list(dict.fromkeys(chain.from_iterable(pieces.values())))
        known = dict(zip(distinct, self._encode_whole(distinct, offsets), strict=True))
        joined = {
            text: _join([(piece, known[piece]) for piece in row if piece], offsets) for text, row in pieces.items()
        }
        return [joined[text] for text in texts]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Returns the text of every row of ids, special tokens included; half a letter shows as �."""
        return self._backend.decode_batch([list(row) for row in rows], skip_special_tokens=False)

    def normalized(self, text: str) -> str:
        """Returns the text as the tokenizer reads it (in Unicode form NFC, say)."""
        normalizer = self._backend.normalizer
        return text if normalizer is None else normalizer.normalize_str(text)

    @cached_property
    def special_front(self) -> list[int]:
        """The special tokens that the tokenizer itself would put before a text, usually the BOS or none."""
        bare = self._backend.encode("a", add_special_tokens=False).ids
        framed = self._backend.encode("a", add_special_tokens=True).ids
        starts = range(len(framed) - len(bare) + 1)
        return next((framed[:at] for at in starts if framed[at : at + len(bare)] == bare), [])

    @property
    def swallows_space(self) -> bool:
        """Whether special tokens swallow the white space beside them."""
        return bool(self._stripping_ids)

    @cached_property
    def decodes_exactly(self) -> bool:
        """Whether decoding gives back the text; not so where the tokenizer adds or swallows spaces."""
        texts = [_ROUND_TRIP, _ROUND_TRIP.lstrip()]  # some add a space, but not to one that is there
        tokens = [row.ids.tolist() for row in self._encode_whole(texts, False)]
        return not self._stripping_ids and self.decode(tokens) == [self.normalized(text) for text in texts]

    def _encode_whole(self, texts: Sequence[str], offsets: bool) -> list[Tokens]:
        encode = self._backend.encode_batch if offsets else self._backend.encode_batch_fast
        encodings = encode(list(texts), add_special_tokens=False)
        return [
            Tokens(np.array(encoding.ids, np.int32), self._offsets(text, encoding) if offsets else _NO_OFFSETS)
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _offsets(self, text: str, encoding: Encoding) -> NDArray[np.int32]:
        offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        if not self._stripping_ids:
            return offsets
        # An added token may swallow the white space beside it, which is not part of the token's own text.
        for index in np.flatnonzero(np.isin(np.array(encoding.ids), self._stripping_ids)):
            start, end = offsets[index]
            token = text[start:end]
            offsets[index] = end - len(token.lstrip()), start + len(token.rstrip())
        return offsets

    @cached_property
    def _special_pattern(self) -> re.Pattern[str] | None:
        """What parts texts into pieces that can be tokenized apart; None if this tokenizer's pieces cannot be."""
        added = self._backend.get_added_tokens_decoder().values()
        parting = [token for token in added if not token.normalized and token.content]
        if not parting or any(token.lstrip or token.rstrip or token.single_word for token in parting):
            return None
        texts = sorted((token.content for token in parting), key=len, reverse=True)
        pattern = re.compile("(" + "|".join(map(re.escape, texts)) + ")")
        # Some tokenizers put a space before the first word of a text only, so the second piece would differ.
        probe = [_ROUND_TRIP, "b c", texts[-1], _ROUND_TRIP, texts[0], "b c"]
        (whole,) = self._encode_whole(["".join(probe)], False)
        apart = [tokens.ids for tokens in self._encode_whole([_ROUND_TRIP + "b c", *probe[2:]], False)]
        return pattern if whole.ids.tolist() == np.concatenate(apart).tolist() else None

    @cached_property
    def _stripping_ids(self) -> list[int]:
        added = self._backend.get_added_tokens_decoder()
        return [index for index, token in added.items() if token.lstrip or token.rstrip]

    @property
    def _backend(self) -> Tokenizer:
        backend = self._tokenizer.backend_tokenizer
        # Both are left behind on the backend by earlier calls of the tokenizer with padding or truncation.
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        return backend


_NO_IDS = np.zeros(0, np.int32)
_NO_OFFSETS = np.zeros((0, 2), np.int32)


def _join(pieces: Iterable[tuple[str, Tokens]], offsets: bool) -> Tokens:
    if not offsets:
        return Tokens(np.concatenate([_NO_IDS, *(tokens.ids for _, tokens in pieces)]), _NO_OFFSETS)
    ids, spans, position = [_NO_IDS], [_NO_OFFSETS], 0
    for text, tokens in pieces:
        ids.append(tokens.ids)
        spans.append(tokens.offsets + position)
        position += len(text)
    return Tokens(np.concatenate(ids), np.concatenate(spans))
