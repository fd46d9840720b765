"""Labels: the token to predict, or `IGNORE_INDEX` where nothing is to be learnt."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from easydata_sources.errors import DataFormatError
from easydata_tokenize import EncodedRow, TokenExample
from easydata_tokenize.token_ids import IGNORE_INDEX
from numpy.typing import NDArray

__all__ = ["IGNORE_INDEX", "TokenView", "labels_of_encoded", "labels_of_tokens", "trains_nothing"]

Labels = NDArray[np.int32]


class TokenView(NamedTuple):
    """One token of a row, for people to look at."""

    token_id: int
    text: str
    """Half a letter (a token that is part of a multi-byte character) shows as �."""
    trained: bool


def labels_of_encoded(row: EncodedRow, completion_only_loss: bool | None) -> Labels:
    """Returns the labels of a row: the id where every mask that is in force is on, else `IGNORE_INDEX`.

    Args:
        row: Tokens, completion start and assistant mask of one row; a mask the row has is in force.
        completion_only_loss: Whether prompt tokens are ignored. None = yes for rows with a prompt of their own;
            True demands such a prompt of every row.

    Raises:
        DataFormatError: If it is True and the row has no prompt.
    """
    labels = row.input_ids.copy()
    if completion_only_loss and row.completion_start is None:
        raise _no_prompt("a row without a prompt of its own (text or messages)")
    if row.completion_start is not None and completion_only_loss is not False:
        labels[: row.completion_start] = IGNORE_INDEX
    if row.assistant_mask is not None:
        labels[~row.assistant_mask] = IGNORE_INDEX
    return labels


def labels_of_tokens(example: TokenExample, completion_only_loss: bool | None, assistant_only_loss: bool) -> Labels:
    """Returns the labels of a pre-tokenized row: its own if it has any, else made from its masks.

    Raises:
        DataFormatError: If a mask that was demanded is missing, or the assistant says nothing.
    """
    if example.labels is not None:
        return example.labels
    labels = example.input_ids.copy()
    if completion_only_loss and example.completion_mask is None:
        raise _no_prompt("input_ids without labels and without completion_mask")
    if example.completion_mask is not None and completion_only_loss is not False:
        labels[~example.completion_mask] = IGNORE_INDEX
    if assistant_only_loss and (example.assistant_mask is None or not example.assistant_mask.any()):
        raise DataFormatError(
            "Only the assistant's part is to be trained, and this tokenized row marks no assistant token.",
            column="assistant_masks",
            found="no such column" if example.assistant_mask is None else "a mask of zeros",
            expected="1 for every token the assistant generates, or `labels`",
            mend="tokenize the conversations again with assistant masks, or set assistant_only_loss=False",
        )
    if example.assistant_mask is not None:
        labels[~example.assistant_mask] = IGNORE_INDEX
    return labels


def trains_nothing(labels: Labels) -> bool:
    """Returns whether no token is predicted; the first token never is, as nothing comes before it.

    >>> trains_nothing(np.array([7, IGNORE_INDEX], np.int32)), trains_nothing(np.array([IGNORE_INDEX, 7], np.int32))
    (True, False)
    """
    return bool((labels[1:] == IGNORE_INDEX).all())


def _no_prompt(found: str) -> DataFormatError:
    return DataFormatError(
        "Only completions are to be trained, and this row does not say where its completion begins.",
        found=found,
        expected="prompt and completion columns, or a completion_mask",
        mend="leave completion_only_loss at None (rows with a prompt train on the completion, others on all tokens)",
    )
