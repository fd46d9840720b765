"""One row as training sees it: token by token, side by side, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from easydel_transforms import IGNORE_INDEX, TokenView

Views = Sequence[TokenView] | Mapping[str, Sequence[TokenView]]


@runtime_checkable
class Explains(Protocol):
    """A transform that can show what it makes of a row."""

    def explain(self, row: Mapping[str, Any]) -> Views:
        """Returns every token of the row as it would be trained on; of several sequences by name."""
        ...


def explained(views: Views) -> str:
    """Returns a table of position, segment, token id, label, whether it is trained, and text.

    Args:
        views: of the row's only sequence, or of several by name (a pair's `chosen` and `rejected`), which are segments
            1, 2, … in this order.

    Returns:
        One line a token. The first token of a segment has no label of its own: nothing comes before it.
    """
    parts = views if isinstance(views, Mapping) else {"row": views}
    if not any(parts.values()):
        return "This row would be dropped; the data report counts why."
    lines = ["position  segment    token    label  trained  text"]
    for segment, (name, tokens) in enumerate(parts.items(), start=1):
        if len(parts) > 1:
            lines.append(f"{name}:")
        lines += [_line(position, segment, view) for position, view in enumerate(tokens)]
    return "\n".join(lines)


def _line(position: int, segment: int, view: TokenView) -> str:
    trained = view.trained and position > 0
    label = view.token_id if trained else IGNORE_INDEX
    return f"{position:8}  {segment:7}  {view.token_id:7}  {label:7}  {'yes' if trained else '-':7}  {view.text!r}"
