"""Texts and conversations to tokens and masks, a batch at a time.

Every conversation is rendered once, then the whole batch goes through the Rust tokenizer: with offsets only where
masks need them. Special tokens are put at the front here and never by the tokenizer, so a rendered template and a
text that already begins with its BOS get no second one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np
from easydata_sources.errors import DataFormatError, RowError
from numpy.typing import NDArray

from easydata_tokenize.batch_tokenizer import BatchTokenizer, Tokens
from easydata_tokenize.examples import ChatExample, TextExample
from easydata_tokenize.masks import common_prefix, cut_at_spans, mask_spans, moved_over_space
from easydata_tokenize.rendering.rendered import Span
from easydata_tokenize.rendering.row_text import RowRenderer, RowText
from easydata_tokenize.tokenizer import ChatTokenizer

__all__ = ["EncodedRow", "RowEncoder", "located"]

Result = TypeVar("Result")

Ids: TypeAlias = NDArray[np.int32]
Specials: TypeAlias = tuple[int | None, int | None]  # BOS and EOS


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedRow:
    """One row in tokens, before any cut."""

    input_ids: NDArray[np.int32]
    """Shape [tokens]."""
    completion_start: int | None = None
    """Index of the completion's first token; None if the row has no prompt of its own."""
    assistant_mask: NDArray[np.bool_] | None = None
    """Which tokens the assistant generates, shape [tokens]; None unless they were asked for."""
    notes: tuple[str, ...] = ()
    """What a data report should count about this row: `doubled_bos`, `missing_stop_token`, `prefix_mismatch`,
    `split_at_turn`, `letters_without_token`, `control_token_in_content`, `template_without_stop_token`, and
    `not_rendered/KIND` for what the row has and the template does not print."""


class RowEncoder:
    """Turns examples into tokens with one tokenizer.

    Args:
        tokenizer: A fast tokenizer. Padding and truncation set on its backend are switched off.
        assistant_masks: Whether to find the assistant's tokens; every row must then be a conversation with an
            assistant turn.
        drop_unrendered: Kinds of `not_rendered/KIND` that are not noted.

    Raises:
        DataFormatError: If assistant masks are asked for and the tokenizer has no chat template, or one whose
            generation marks leave out the stop token.
    """

    def __init__(
        self, tokenizer: ChatTokenizer, *, assistant_masks: bool = False, drop_unrendered: Collection[str] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._batch = BatchTokenizer(tokenizer)
        self._renderer = RowRenderer(tokenizer, assistant_spans=assistant_masks, drop_unrendered=drop_unrendered)
        self._assistant_masks = assistant_masks

    @property
    def has_template(self) -> bool:
        """Whether conversations can be rendered."""
        return self._renderer.has_template

    def encode(self, examples: Sequence[TextExample | ChatExample]) -> list[EncodedRow]:
        """Returns the tokens of every example, in order.

        Raises:
            RowError: If an example cannot be rendered or masked; `row_in_batch` is its index.
        """
        row_texts = [located(index, self._renderer.row, example) for index, example in enumerate(examples)]
        texts = [row_text.text for row_text in row_texts]
        prompts = [row_text.prompt for row_text in row_texts if row_text.prompt is not None]
        if self._assistant_masks:
            tokens, prompt_tokens = self._batch.encode(texts, offsets=True), self._batch.encode(prompts)
        else:
            both = self._batch.encode(texts + prompts)
            tokens, prompt_tokens = both[: len(texts)], both[len(texts) :]
        of_prompts = iter(prompt_tokens)
        # Asked once a batch: a tokenizer looks for its special tokens anew each time.
        specials = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        rows = [
            located(
                index,
                self._finish,
                row_text,
                whole,
                None if row_text.prompt is None else next(of_prompts).ids,
                specials,
            )
            for index, (row_text, whole) in enumerate(zip(row_texts, tokens, strict=True))
        ]
        return self._verified(row_texts, rows) if self._assistant_masks and self._batch.decodes_exactly else rows

    def encode_prompts(self, examples: Sequence[TextExample | ChatExample]) -> list[EncodedRow]:
        """Returns the tokens of every example as a prompt to be continued, in order.

        Raises:
            RowError: If an example cannot be rendered; `row_in_batch` is its index.
        """
        row_texts = [located(index, self._renderer.prompt, example) for index, example in enumerate(examples)]
        tokens = self._batch.encode([row_text.text for row_text in row_texts])
        return [
            EncodedRow(input_ids=np.concatenate([self._front(row_text, whole.ids), whole.ids]), notes=row_text.notes)
            for row_text, whole in zip(row_texts, tokens, strict=True)
        ]

    def encode_opening(self, example: ChatExample) -> NDArray[np.int32]:
        """Returns the tokens that a prompt begins with whatever is asked: its system messages, or its first header.

        Raises:
            DataFormatError: If the example cannot be rendered.
        """
        return self._batch.encode([self._renderer.opening(example)])[0].ids

    def decode_each(self, token_ids: Sequence[int]) -> list[str]:
        """Returns the text of every token by itself; half a letter shows as �."""
        return self._batch.decode([[int(token)] for token in token_ids])

    def _finish(self, row_text: RowText, tokens: Tokens, prompt: Ids | None, specials: Specials) -> EncodedRow:
        ids, mask, notes = tokens.ids, None, list(row_text.notes)
        if row_text.spans is not None:
            mask = mask_spans(tokens.offsets, row_text.spans, swallowed=self._batch.swallows_space)
            if mask is None and not self._batch.decodes_exactly:
                spans = moved_over_space(row_text.text, tokens.offsets, row_text.spans)
                mask = mask_spans(tokens.offsets, spans, swallowed=self._batch.swallows_space)
            if mask is None:
                ids, mask = self._encode_pieces(row_text.text, row_text.spans)
                notes.append("split_at_turn")
        front = self._front(row_text, ids)
        start = None if prompt is None else common_prefix(prompt, ids)
        if prompt is not None and start != len(prompt) and "prefix_mismatch" not in notes:
            notes.append("prefix_mismatch")
        whole = np.concatenate([front, ids]) if len(front) else ids
        return EncodedRow(
            input_ids=whole,
            completion_start=None if start is None else start + len(front),
            assistant_mask=mask,
            notes=(*notes, *_special_token_notes(row_text, whole, specials)),
        )

    def _front(self, row_text: RowText, ids: Ids) -> Ids:
        front = self._batch.special_front
        needed = row_text.plain and ids[: len(front)].tolist() != front
        return np.array(front if needed else [], np.int32)

    def _encode_pieces(self, text: str, spans: list[Span]) -> tuple[Ids, NDArray[np.bool_]]:
        if not self._batch.decodes_exactly:
            # Such a tokenizer puts a space before every piece, so the pieces would not say what the text says.
            raise _inexact(text, spans, "a token reaches over the edge of an assistant turn")
        pieces = cut_at_spans(text, spans)
        parts = [tokens.ids for tokens in self._batch.encode([piece for piece, _ in pieces])]
        inside = [np.full(len(part), trained) for part, (_, trained) in zip(parts, pieces, strict=True)]
        return np.concatenate(parts), np.concatenate(inside)

    def _verified(self, row_texts: Sequence[RowText], rows: Sequence[EncodedRow]) -> list[EncodedRow]:
        decoded = self._batch.decode([row.input_ids[row.assistant_mask].tolist() for row in rows])
        return [
            located(index, self._compare, row_text, row, text)
            for index, (row_text, row, text) in enumerate(zip(row_texts, rows, decoded, strict=True))
        ]

    def _compare(self, row_text: RowText, row: EncodedRow, decoded: str) -> EncodedRow:
        spans = row_text.spans or []
        assistant = [row_text.text[start:end] for start, end in spans]
        if decoded == self._batch.normalized("".join(assistant)):
            return row
        # Some vocabularies lack a byte or two and leave such letters out; the mask is as right as it can be then.
        encodable = [token for tokens in self._batch.encode(assistant) for token in tokens.ids.tolist()]
        if self._batch.decode([encodable]) != [decoded]:
            raise _inexact(row_text.text, spans, f"the trained tokens say {decoded[:80]!r}")
        return replace(row, notes=(*row.notes, "letters_without_token"))


def _special_token_notes(row_text: RowText, ids: Ids, specials: Specials) -> list[str]:
    bos, eos = specials
    notes = []
    if bos is not None and len(ids) > 1 and ids[0] == bos == ids[1]:
        notes.append("doubled_bos")
    if row_text.plain and not (len(ids) and ids[-1] == eos):
        notes.append("missing_stop_token")
    return notes


def located(row_in_batch: int, function: Callable[..., Result], *arguments: object) -> Result:
    """Returns `function(*arguments)`, with a `DataFormatError` in it raised as the `RowError` of that row.

    Raises:
        RowError: If the function raised a `DataFormatError`.
    """
    try:
        return function(*arguments)
    except DataFormatError as error:
        raise RowError(
            error.problem,
            row_in_batch=row_in_batch,
            file=error.file,
            row=error.row,
            column=error.column,
            found=error.found,
            expected=error.expected,
            mend=error.mend,
        ) from error


def _inexact(text: str, spans: Sequence[Span], reason: str) -> DataFormatError:
    start, end = spans[0]
    return DataFormatError(
        "The tokens of the assistant's turns are not exactly the assistant's text.",
        found=f"{reason}; the first turn is {text[start:end][:80]!r}",
        expected="tokens that begin and end where the assistant's turn does",
        mend="start answers without white space, e.g. with dataset.map(…), or train on all tokens with "
        "assistant_only_loss=False",
    )
