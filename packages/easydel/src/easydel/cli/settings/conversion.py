"""One setting as the type that a config wants it in: a value of YAML, or the words behind a flag.

YAML's values have types of their own, and another type is a mistake; words have none, so that they are read as the type
that is wanted.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal

from easydel.cli.settings.tree import Setting, Words

_LISTS = (tuple, list, Sequence)
_SECTIONS = (dict, Mapping)
_FLAGS_NONE = ("None", "null")
_FLAGS_BOOL = {"True": True, "true": True, "False": False, "false": False}
#: Of a union the first of these that a word fits is meant; text fits always.
_WORD_ORDER = (type(None), bool, int, float)

_PLAIN_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    bool: "true or false",
    type(None): "null",
}


class MisfitError(Exception):
    """A value does not fit a type. Whoever asked says so, with the place."""


def converted(annotation: Any, setting: Setting) -> Any:
    """Returns a setting's value in the type that is wanted.

    Raises:
        MisfitError: if it is none.
    """
    if isinstance(setting.value, Words):
        return _from_words(annotation, setting.value)
    return _from_yaml(annotation, setting)


def takes_many(annotation: Any) -> bool:
    """Returns whether a flag of this type may be followed by several words."""
    return any(typing.get_origin(kind) in _LISTS + _SECTIONS for kind in kinds_of(annotation))


def is_switch(annotation: Any) -> bool:
    """Returns whether a flag of this type says something without a word behind it."""
    return bool in kinds_of(annotation)


def is_yes_or_no(word: str) -> bool:
    """Returns whether a word behind a switch belongs to it."""
    return word in _FLAGS_BOOL or word in _FLAGS_NONE


def kinds_of(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union; a type that is none is its own only member."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def found(setting: Setting) -> str:
    """Returns a setting's value as an error names it."""
    match setting.value:
        case Words() as words:
            return f"the text {' '.join(words)!r}" if words else "without a value"
        case dict() | list():
            return "a section" if isinstance(setting.value, dict) else "a list"
        case str() as text:
            return f"the text {text!r}"
        case None | bool():
            return {None: "null", True: "true", False: "false"}[setting.value]
        case other:
            return f"{other!r}"


def described(annotation: Any) -> str:
    """Returns a type as an error names it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    kinds = kinds_of(annotation)
    if len(kinds) > 1:
        return " or ".join(described(kind) for kind in kinds)
    if origin is Literal:
        choices = ", ".join(str(choice) for choice in arguments)
        return choices if len(arguments) == 1 else f"one of {choices}"
    if origin in _LISTS:
        length = _length(annotation)
        return f"a list{f' of {length}' if length else ''}, each item {described(arguments[0])}"
    if origin in _SECTIONS:
        return f"a section of names, each with {described(arguments[1])}"
    return "a section" if is_dataclass(annotation) else _PLAIN_NAMES.get(annotation, str(annotation))


def _length(annotation: Any) -> int | None:
    """Returns how many items a tuple of fixed length has."""
    arguments = typing.get_args(annotation)
    return len(arguments) if typing.get_origin(annotation) is tuple and arguments[-1] is not Ellipsis else None


def _from_yaml(annotation: Any, setting: Setting) -> Any:
    origin, arguments, value = typing.get_origin(annotation), typing.get_args(annotation), setting.value
    if origin in (typing.Union, types.UnionType):
        # An exact type wins over one that has to be converted: 3 stays whole where both int and float are accepted.
        exact_first = sorted(arguments, key=lambda kind: kind is not type(value))
        return _first_fitting(exact_first, lambda kind: _from_yaml(kind, setting))
    if origin in _LISTS and isinstance(value, list) and _length(annotation) in (None, len(value)):
        return tuple(_from_yaml(arguments[0], item) for item in value)
    if origin in _SECTIONS and isinstance(value, dict):
        return {key: _from_yaml(arguments[1], child) for key, child in value.items()}
    if annotation is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        return _number(value)  # YAML reads `1e-4` as text (it wants `1.0e-4`); everybody means the number
    if origin is Literal and any(value == choice and type(value) is type(choice) for choice in arguments):
        return value
    if isinstance(annotation, type) and type(value) is annotation:
        return value
    raise MisfitError


def _from_words(annotation: Any, words: Words) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _first_fitting(sorted(arguments, key=_rank_for_words), lambda kind: _from_words(kind, words))
    if origin in _LISTS and _length(annotation) in (None, len(words)):
        return tuple(_from_words(arguments[0], Words([word])) for word in words)
    if origin in _SECTIONS and len(words) % 2 == 0:
        pairs = zip(words[::2], words[1::2], strict=True)
        return {key: _from_words(arguments[1], Words([word])) for key, word in pairs}
    if annotation is bool and not words:
        return True
    if len(words) != 1:
        raise MisfitError
    return _from_word(annotation, words[0])


def _from_word(annotation: Any, word: str) -> Any:
    if typing.get_origin(annotation) is Literal:
        for choice in typing.get_args(annotation):
            if str(choice) == word:
                return choice
    if annotation is type(None) and word in _FLAGS_NONE:
        return None
    if annotation is bool and word in _FLAGS_BOOL:
        return _FLAGS_BOOL[word]
    if annotation is int:
        try:
            return int(word)
        except ValueError:  # no number, or one of thousands of digits
            raise MisfitError from None
    if annotation is float:
        return _number(word)
    if annotation in (str, Path):
        return annotation(word)
    raise MisfitError


def _rank_for_words(kind: Any) -> int:
    if typing.get_origin(kind) is Literal:
        return 0
    if kind in _WORD_ORDER:
        return 1 + _WORD_ORDER.index(kind)
    return 1 + len(_WORD_ORDER) + (typing.get_origin(kind) is not None)  # one word is text rather than a list of one


def _first_fitting(kinds: Sequence[Any], convert: Callable[[Any], Any]) -> Any:
    for kind in kinds:
        try:
            return convert(kind)
        except MisfitError:
            continue
    raise MisfitError


def _number(value: float | str) -> float:
    try:
        return float(value)
    except (ValueError, OverflowError):  # no number, or a whole one beyond what floats hold
        raise MisfitError from None
