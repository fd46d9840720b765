"""What ends a completion: stop tokens, which the compiled block knows, and stop strings, looked for between blocks."""

from collections.abc import Callable, Sequence

import numpy as np

from easydel_models.config import DecoderConfig
from easydel_models.errors import OptionsError

Decode = Callable[[list[int]], str]
"""Text of some token ids: a tokenizer's ``decode``."""

_BUCKET = 8
"""Stop tokens are filled up to a multiple of this, so that their number is no new shape."""


def stop_ids(config: DecoderConfig, eos_token_ids: tuple[int, ...] | None) -> np.ndarray:
    """Returns the stop tokens (None = the model's) as an int32 array, filled up with -1, which is no token.

    Raises:
        OptionsError: If one is not in the vocabulary.
    """
    ids = config.eos_token_ids if eos_token_ids is None else eos_token_ids
    for token in ids:
        if not 0 <= token < config.vocab_size:
            raise OptionsError(f"`eos_token_id` {token} is outside the vocabulary of {config.vocab_size}")
    filled = np.full(max(-(-len(ids) // _BUCKET), 1) * _BUCKET, -1, np.int32)
    filled[: len(ids)] = ids
    return filled


def length_at_stop_string(
    tokens: list[int], looked_at: int, strings: Sequence[str], decode: Decode | None
) -> int | None:
    """Returns how many tokens a completion has up to the one that completes a stop string; None = there is none.

    The text is decoded from the first token on each time, because the text of a token depends on those before it: a
    stop string may begin in the middle of one token and end in another.

    Args:
        tokens: Of the completion so far.
        looked_at: How many of them were looked at before.
        strings: What to look for.
        decode: Turns tokens into text; not None if there are strings.
    """
    if not strings or decode is None or not _holds(decode(tokens), strings):
        return None
    for length in range(looked_at + 1, len(tokens)):
        if _holds(decode(tokens[:length]), strings):
            return length
    return len(tokens)


def _holds(text: str, strings: Sequence[str]) -> bool:
    return any(string in text for string in strings)
