"""Rows that are measured on and never trained: one set, or in a config file several by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from tyro.constructors import PrimitiveConstructorSpec


def _from_words(words: Sequence[str]) -> str | None:
    return None if words[0] == "None" else words[0]


def _to_words(value: Any) -> list[str]:
    return [f"the sets {', '.join(value)}" if isinstance(value, dict) else str(value)]


#: A path, glob, URL or name of ours; in a file also several of them by names of your choice. A flag is one word.
HeldOut: TypeAlias = Annotated[
    str | dict[str, str] | None,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="None|ROWS",
        instance_from_str=_from_words,
        is_instance=lambda value: isinstance(value, str | dict | None),
        str_from_instance=_to_words,
    ),
]


def prefixes(sets: str | Mapping[str, str] | None) -> dict[str, str]:
    """What the metrics of each held-out set begin with, by the set's name; a single set has the name ""."""
    if sets is None:
        return {}
    return {"": "eval_"} if isinstance(sets, str) else {name: f"eval_{name}_" for name in sets}
