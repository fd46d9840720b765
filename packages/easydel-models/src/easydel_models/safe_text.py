"""Text from files and servers, made fit for an error in somebody's terminal: short, and without control characters.

>>> quoted("ok"), quoted("a" * 500)[:12]
("'ok'", "'aaaaaaaaaaa")
"""

import unicodedata

_WORD = 300
_LINES = 32
_CHARACTERS = 3_000
_QUOTED = 80
_KEPT = "\n\t"


def quoted(value: object) -> str:
    """Returns the value as Python writes it, cut to 80 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes, lists within lists
        text = f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= _QUOTED else f"{text[: _QUOTED - 1]}…"


def readable(text: str) -> str:
    """Returns the text with control characters escaped, endless words cut in their middle, no longer than a screen."""
    words = (_shortened(word) for word in text.split(" "))
    lines = " ".join(words).split("\n")
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 2], f"… {len(lines) - _LINES + 1} more lines …", lines[-1]]
    text = "\n".join(lines)
    if len(text) > _CHARACTERS:
        text = f"{text[: _CHARACTERS * 3 // 4]} … {text[-_CHARACTERS // 4 :]}"
    return "".join(character if _is_plain(character) else _escaped(character) for character in text)


def _shortened(word: str) -> str:
    return word if len(word) <= _WORD else f"{word[: _WORD // 2]}…{word[-_WORD // 2 :]}"


def _is_plain(character: str) -> bool:
    # Controls, what reverses the direction of writing, halves of pairs, and the separators that end a line for some.
    return character in _KEPT or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
