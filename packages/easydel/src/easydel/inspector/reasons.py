"""What the reasons of a data report mean, in a sentence, and what can be done."""

from __future__ import annotations

MEANINGS = {
    "truncated": "Longer than max_length: the end is not trained. Raise max_length, or pack with splitting.",
    "prompt_truncated": "The prompt was cut on its left. Raise max_prompt_length.",
    "completion_truncated": "The answer was cut on its right. Raise max_completion_length or max_length.",
    "dropped_too_long": "Left out, since an answer is too long to be scored whole. Raise max_length.",
    "dropped_prompt_too_long": "Left out: the prompt leaves no room for an answer. Raise max_length.",
    "dropped_empty": "Left out: there is nothing in it to train.",
    "fully_masked": "Left out: no token of it is trained. Look at the masks, or raise max_length.",
    "identical_pair": "Chosen and rejected are the same: such a pair teaches nothing.",
    "doubled_bos": "Begins with two BOS tokens: the template writes one, and the text has another.",
    "missing_stop_token": "Ends without a stop token: the model would not learn to stop.",
    "prefix_mismatch": "The tokens of the prompt alone are not how prompt and completion begin; mended on tokens.",
    "split": "Longer than a pack: split into several.",
    "unreadable": "Cannot be read as rows of this trainer. Training stops at the first.",
}


def meaning(reason: str) -> str:
    """One sentence on a reason; for those nobody described, its name in words."""
    return MEANINGS.get(reason, reason.replace("_", " ").capitalize() + ".")
