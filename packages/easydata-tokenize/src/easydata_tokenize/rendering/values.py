"""What templates make of values: text printed, joined, formatted, written as JSON, each letter with its origin.

Python and Jinja make these of plain strings. Where values hold traced texts, they are made with placeholders in their
places, which the traced texts then take; what cannot be made so comes, as a whole, from all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sized
from functools import wraps
from typing import Any

from jinja2 import nodes, pass_eval_context

from easydata_tokenize.rendering.budget import BudgetExceededError, spend, spend_characters
from easydata_tokenize.rendering.trace import current_trace, unrepeatable
from easydata_tokenize.rendering.traced_text import TracedFloat, TracedInt, TracedText, changed, joined

__all__ = [
    "call_string_method",
    "check_widths",
    "concatenated",
    "filled",
    "joined_values",
    "note_raw_values",
    "on_plain",
    "on_text",
    "printable",
    "size_of",
    "to_json",
]

_WIDEST = 100_000
_PLACEHOLDER = re.compile('("?)\ue0a8([0-9]+)\ue0a9("?)')


def printable(value: Any) -> Any:
    """Returns what Jinja prints of a value; None, lists and dicts have no text of their own, and Python's is noted."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, list | tuple | dict):
        trace = current_trace.get()
        given = list(_traced_in(value))
        if trace is not None and (value is None or given):
            trace.raw_values += 1
        if given:
            return changed(str(value), given)
    return value


def concatenated(values: list[Any]) -> str:
    """Returns values behind each other: `a ~ b`."""
    texts = [str(printable(value)) for value in values]
    spend_characters(sum(map(str.__len__, texts)))
    return joined(texts)


@pass_eval_context
def joined_values(_: nodes.EvalContext, values: Any, d: str = "", attribute: str | None = None) -> str:
    """Returns values with a text between them: Jinja's `join`."""
    if attribute is not None:
        values = [value.get(attribute) if isinstance(value, Mapping) else getattr(value, attribute) for value in values]
    separator = d if type(d) is TracedText else TracedText(str(d))
    texts = [str(value) for value in values]
    spend_characters(sum(map(str.__len__, texts)) + str.__len__(separator) * len(texts))
    return separator.join(texts) if any(type(text) is TracedText for text in texts) else str.join(str(d), texts)


def to_json(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Returns a value as JSON, as `transformers` has `tojson`; a list of content parts is noted, being no text."""

    def dumped(value: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    spend_characters(indent)
    whole, given = dumped(x), list(_traced_in(x))
    if not given:
        return whole
    trace = current_trace.get()
    if trace is not None and _is_content_in_parts(x):
        trace.raw_values += 1
    known: dict[str, str] = {}
    pieces = _PLACEHOLDER.split(
        json.dumps(
            _with_placeholders(x, known), ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys
        )
    )
    # Four pieces at a time: text between, quote, number, quote.
    texts: list[str] = []
    for at in range(0, len(pieces) - 3, 4):
        leaf: Any = known[pieces[at + 2]]
        if isinstance(leaf, str):
            inner = json.dumps(leaf, ensure_ascii=ensure_ascii)[1:-1]
            exact = leaf if inner == str.__str__(leaf) else changed(inner, [leaf])  # type: ignore[list-item]
            texts += [pieces[at], pieces[at + 1], exact, pieces[at + 3]]
        else:
            texts += [pieces[at], str(leaf)]
    made = joined([*texts, pieces[-1]])
    return made if str.__str__(made) == whole else changed(whole, given)


def filled(fill: Callable[[str, Any], str], form: str, values: Any) -> str:
    """Returns `fill(form, values)`, with the origins of the values that are traced texts."""
    plain_form = str.__str__(form)
    given = list(_traced_in(values))
    note_raw_values(values)
    if not given:
        made = fill(plain_form, values)
        return changed(made, [form]) if type(form) is TracedText else made
    whole = fill(plain_form, _without_traces(values))
    if type(form) is TracedText:
        return changed(whole, [form, *given])
    known: dict[str, Any] = {}
    try:
        pieces = _PLACEHOLDER.split(fill(plain_form, _with_placeholders_in(values, known)))
    except (TypeError, ValueError):
        return changed(whole, given)
    texts = [pieces[0]]
    for at in range(0, len(pieces) - 3, 4):
        texts += [pieces[at + 1], str(known[pieces[at + 2]]), pieces[at + 3], pieces[at + 4]]
    made = joined(texts)
    return made if str.__str__(made) == whole else changed(whole, given)


def note_raw_values(values: Any) -> None:
    """Notes lists and dicts that a format prints as Python shows them."""
    trace = current_trace.get()
    for value in values if isinstance(values, tuple) else (values,):
        if trace is not None and isinstance(value, list | dict) and any(True for _ in _traced_in(value)):
            trace.raw_values += 1


def call_string_method(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a method of a plain string with arguments that may be traced."""
    name, text = method.__name__, method.__self__
    if name == "join" and args:
        args = (list(args[0]),)
        spend_characters(sum(map(size_of, args[0])) + len(text) * len(args[0]))
    elif name == "replace" and len(args) > 1:
        spend_characters(len(text) + (text.count(args[0]) if args[0] else len(text) + 1) * size_of(args[1]))
    elif name in ("center", "ljust", "rjust", "zfill") and args:
        spend_characters(args[0])
    elif name == "expandtabs":
        spend_characters(len(text) * max([8, *(arg for arg in args if isinstance(arg, int))]))
    if any(True for _ in _traced_in([*args, *kwargs.values()])):
        return getattr(TracedText(text), name)(*args, **kwargs)
    return method(*args, **kwargs)


def on_plain(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a filter that is given plain strings; what it makes of traced ones comes from all of them."""

    @wraps(filter_)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        spend(1)
        for value in (*args, *kwargs.values()):
            if isinstance(value, int) and value > _WIDEST:
                raise BudgetExceededError(f"a filter is asked for {value:,} of something")
        given = list(_traced_in([*args, *kwargs.values()]))
        if not given:
            return filter_(*args, **kwargs)
        plain = {name: _without_traces(value) for name, value in kwargs.items()}
        made = filter_(*(_without_traces(value) for value in args), **plain)
        if isinstance(made, str):
            return changed(str(made), given)
        unrepeatable()
        return made

    return wrapper


def on_text(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a filter of texts to which lists and dicts are given as they would be printed, with their origins."""

    @wraps(filter_)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return filter_(*(printable(arg) if isinstance(arg, list | tuple | dict) else arg for arg in args), **kwargs)

    return wrapper


def check_widths(form: str) -> None:
    """Refuses a format that pads.

    Raises:
        BudgetExceededError: If it may make a text of any length.
    """
    if re.search(r"\d{6,}", str.__str__(form)) or "*" in str.__str__(form):
        raise BudgetExceededError(f"the format {str.__str__(form)[:40]!r} makes texts of any length")


def size_of(value: Any) -> int:
    """Returns how many letters or items a value has; of a number, itself."""
    if isinstance(value, str):
        return str.__len__(value)
    if isinstance(value, int):
        return abs(int(value))
    return len(value) if isinstance(value, Sized) else 1


# Values that hold traced texts.


def _is_content_in_parts(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(part, dict) and part.get("type") == "text" for part in value)


def _traced_in(value: Any) -> Iterable[TracedText]:
    if type(value) is TracedText:
        yield value
    elif type(value) in (TracedInt, TracedFloat):
        yield value.__str__()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _traced_in(key)
            yield from _traced_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _traced_in(item)


def _with_placeholders(value: Any, known: dict[str, Any]) -> Any:
    if type(value) in (TracedText, TracedInt, TracedFloat):
        known[str(len(known))] = value
        return f"\ue0a8{len(known) - 1}\ue0a9"
    if isinstance(value, Mapping):
        return {key: _with_placeholders(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_placeholders(item, known) for item in value]
    return value


def _with_placeholders_in(values: Any, known: dict[str, Any]) -> Any:
    replaced = _with_placeholders(values, known)
    return tuple(replaced) if isinstance(values, tuple) else replaced


def _without_traces(value: Any) -> Any:
    if type(value) is TracedText:
        return value.plain
    if isinstance(value, Mapping):
        return {key: _without_traces(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_traces(item) for item in value)
    return value
