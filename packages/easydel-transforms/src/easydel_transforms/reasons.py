"""The reasons under which transforms count rows in a data report: what each means, what can be done, an example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["NOT_RENDERED", "REASONS", "excerpt", "is_reason", "meaning"]

NOT_RENDERED = "not_rendered"
"""Counted as `not_rendered/KIND`: the kind is `reasoning`, `tool_call`, `tool_result`, `tools`, a role, or the type of
a part that is no text."""

REASONS: Mapping[str, str] = {
    "truncated": "Longer than max_length: the end is not trained. Raise max_length, or pack with splitting.",
    "prompt_truncated": "The prompt was cut on its left. Raise max_prompt_length.",
    "completion_truncated": "The answer was cut on its right. Raise max_completion_length or max_length.",
    "split": "Longer than a pack: split into several.",
    "dropped_too_long": "Left out, since an answer is too long to be scored whole. Raise max_length.",
    "dropped_prompt_too_long": "Left out: the prompt leaves no room for an answer. Raise max_length.",
    "dropped_empty": "Left out: there is nothing in it to train.",
    "fully_masked": "Left out: no token of it is trained. Look at the masks, or raise max_length.",
    "identical_pair": "Chosen and rejected are the same: such a pair teaches nothing.",
    "doubled_bos": "Begins with two BOS tokens: the template writes one, and the text has another.",
    "missing_stop_token": "Ends without a stop token: the model would not learn to stop.",
    "template_without_stop_token": "The chat template ends no answer: stopping is not learned from such rows.",
    "prefix_mismatch": "The tokens of the prompt alone are not how prompt and completion begin; mended on tokens.",
    "split_at_turn": "A token would have reached over the edge of a turn: the text was tokenized in pieces.",
    "letters_without_token": "The vocabulary has no token for some letters, and the tokenizer leaves them out.",
    "control_token_in_content": "A message itself holds a special token's text, which becomes that token.",
    "unreadable": "Cannot be read as rows of this trainer. Training stops at the first.",
}
"""Reason -> one sentence on it."""


def is_reason(name: str) -> bool:
    """Returns whether transforms may count rows under this name, or under kinds of it."""
    return name in REASONS or name == NOT_RENDERED or name.startswith(f"{NOT_RENDERED}/")


def meaning(reason: str) -> str:
    """Returns one sentence on a reason; for those nobody described, its name in words."""
    family, _, kind = reason.partition("/")
    if family == NOT_RENDERED and kind:
        what = kind.replace("_", " ")
        return f"The chat template does not print all of it: {what}. drop_unrendered says that nobody misses it."
    return REASONS.get(reason, reason.replace("_", " ").capitalize() + ".")


def excerpt(row: Mapping[str, Any]) -> str:
    """Returns the example of a row that a data report keeps for a reason: at most 200 letters of it."""
    text = str(row)
    return text if len(text) <= 200 else text[:199] + "…"
