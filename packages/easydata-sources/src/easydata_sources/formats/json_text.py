"""Parsing JSON text; what Python's parser takes, but no row can hold, is refused here, in one place.

That is: halves of surrogate pairs, which are no characters and cannot be written as UTF-8; names that an object holds
twice, of which the last would win; numbers of more digits than Python converts; brackets nested without end, which
Python would take or refuse according to how deep its own calls are nested just then.
"""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 128
"""Brackets within brackets that a row may have."""


class JsonFaultError(ValueError):
    """Text that is no JSON, or not the JSON of a row.

    Args:
        found: What is there.
        reason: Short name under which such rows are counted.
        at: Character of the text at which it is; None = unknown.
        unfinished: Whether more text behind it could mend it.
    """

    def __init__(self, found: str, reason: str, *, at: int | None = None, unfinished: bool = False) -> None:
        super().__init__(found)
        self.found = found
        self.reason = reason
        self.at = at
        self.unfinished = unfinished


def parse_json(text: str) -> Any:
    """Returns the value that a text is.

    Raises:
        JsonFaultError: If it is none.
    """
    value, end = parse_json_at(text, _WHITE.match(text).end())  # type: ignore[union-attr]
    end = _WHITE.match(text, end).end()  # type: ignore[union-attr]
    if end < len(text):
        raise JsonFaultError("Extra data", "broken_json", at=end)
    return value


def parse_json_at(text: str, at: int) -> tuple[Any, int]:
    """Returns the value that begins at a character, which must not be white space, and the character behind it.

    Raises:
        JsonFaultError: If there is none, or it does not end.
    """
    try:
        value, end = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        # Long strings are reported at their beginning.
        unfinished = error.pos >= len(text) - 16 or error.msg.startswith("Unterminated string")
        raise JsonFaultError(error.msg, "broken_json", at=error.pos, unfinished=unfinished) from error
    except JsonFaultError:
        raise
    except RecursionError as error:
        raise JsonFaultError(f"brackets nested deeper than {DEEPEST}", "broken_json", at=at) from error
    except ValueError as error:
        raise JsonFaultError("a number of more digits than can be read", "number_too_long") from error
    # The escapes are rare, and most of them are halves that belong together.
    if (half := _HALF.search(text, at, end)) and _holds_half(value):
        raise JsonFaultError("half of a surrogate pair, which is no character", "undecodable", at=half.start())
    if text.count("[", at, end) + text.count("{", at, end) > DEEPEST and _is_deeper(value, DEEPEST):
        raise JsonFaultError(f"brackets nested deeper than {DEEPEST}", "broken_json", at=at)
    return value, end


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonFaultError(f"an object that holds {twice[:60]!r} twice", "duplicate_names")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    stack = [(value, 1)]
    while stack:
        held, level = stack.pop()
        if level > levels:
            return True
        inner = held.values() if isinstance(held, dict) else held
        stack += [(item, level + 1) for item in inner if isinstance(item, dict | list)]
    return False


def _holds_half(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_WHITE = re.compile(r"[ \t\r\n]*")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
