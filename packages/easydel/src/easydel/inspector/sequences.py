"""One row's sequences, token by token: what is trained, what is special, and what was cut away."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from easydel_transforms import TokenView


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A token of a row.

    Attributes:
        token_id: its number.
        text: what it stands for; half a letter shows as �.
        trained: whether the model learns to predict it. The first token of a sequence never is.
        special: whether the tokenizer counts it among its special tokens.
        cut: whether it is lost to a limit of length; then it is shown, and not trained.
    """

    token_id: int
    text: str
    trained: bool
    special: bool
    cut: bool = False


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Tokens that a model reads in one go.

    Attributes:
        name: `row`, or what the trainer calls it: `chosen`, `rejected`, `good`, `bad`, `prompt`.
        tokens: those that are cut included, where they were.
    """

    name: str
    tokens: tuple[ShownToken, ...]

    @property
    def length(self) -> int:
        """Tokens that the model reads."""
        return sum(not token.cut for token in self.tokens)

    @property
    def trained(self) -> int:
        """Tokens that it learns to predict."""
        return sum(token.trained for token in self.tokens)

    @property
    def cut(self) -> int:
        """Tokens that were cut away."""
        return sum(token.cut for token in self.tokens)


def shown_sequences(
    kept: Mapping[str, Sequence[TokenView]], whole: Mapping[str, Sequence[TokenView]], special: Collection[int]
) -> tuple[TokenSequence, ...]:
    """Joins what a row's sequences are with what they would be without limits.

    Args:
        kept: tokens by sequence, as they are trained.
        whole: the same with no limit of length; sequences that are missing here were not cut.
        special: ids of special tokens.
    """
    return tuple(
        TokenSequence(name, _joined(list(tokens), list(whole.get(name, tokens)), special))
        for name, tokens in kept.items()
    )


def runs(tokens: Sequence[ShownToken]) -> list[tuple[str, list[ShownToken]]]:
    """Returns neighbours of one kind together: `cut`, `trained` or `read`."""
    return [(kind, list(group)) for kind, group in groupby(tokens, key=_kind)]


def shared_start(sequences: Sequence[TokenSequence]) -> int:
    """Returns how many leading tokens, none of them trained, all sequences have in common: their prompt."""
    count = 0
    for tokens in zip(*(sequence.tokens for sequence in sequences), strict=False):
        first = tokens[0]
        if any(token.trained or (token.token_id, token.cut) != (first.token_id, first.cut) for token in tokens):
            break
        count += 1
    return count


def _kind(token: ShownToken) -> str:
    return "cut" if token.cut else "trained" if token.trained else "read"


def _joined(kept: list[TokenView], whole: list[TokenView], special: Collection[int]) -> tuple[ShownToken, ...]:
    if len(kept) >= len(whole):
        return tuple(_shown(view, special, index) for index, view in enumerate(kept))
    # A limit cuts prompt and answer apart from each other, each in one go.
    ours, theirs = _prompt_length(kept), _prompt_length(whole)
    joined = [*_with_gap(kept[:ours], whole[:theirs]), *_with_gap(kept[ours:], whole[theirs:])]
    return tuple(_shown(view, special, index, cut=cut) for index, (view, cut) in enumerate(joined))


def _prompt_length(views: list[TokenView]) -> int:
    return next((index for index, view in enumerate(views) if view.trained), len(views))


def _with_gap(kept: list[TokenView], whole: list[TokenView]) -> list[tuple[TokenView, bool]]:
    """Returns every token of `whole` with whether it is missing in `kept`, which lacks one stretch of it."""
    front = 0
    while front < len(kept) and kept[front].token_id == whole[front].token_id:
        front += 1
    missing = len(whole) - len(kept)
    return [(view, front <= index < front + missing) for index, view in enumerate(whole)]


def _shown(view: TokenView, special: Collection[int], index: int, *, cut: bool = False) -> ShownToken:
    trained = view.trained and not cut and index > 0
    return ShownToken(view.token_id, view.text, trained, view.token_id in special, cut)
