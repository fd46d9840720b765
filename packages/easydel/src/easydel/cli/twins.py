"""Twins of config dataclasses that hold any values, so that what fits together is judged once, when all is known.

A config checks itself when it is made. A command line is read in two goes (a file gives the flags their defaults), and
a contradiction inside the file may be just what a flag is there to mend. So file and flags are read into a twin, and
the config is made from it at the end; an error then names the place that the value came from.
"""

from __future__ import annotations

import types
import typing
from dataclasses import field, fields, is_dataclass, make_dataclass
from functools import cache
from typing import Any

__all__ = ["section_of", "twin_of"]


@cache
def twin_of(kind: type[Any]) -> type[Any]:
    """A subclass of a frozen config dataclass that checks nothing; its sections are twins too, and never `None`.

    The docstrings under the fields, which become `--help`, are found through the base class.
    """
    annotations = typing.get_type_hints(kind)
    sections = {
        item.name: twin_of(section)
        for item in fields(kind)
        if (section := section_of(annotations[item.name])) is not None
    }
    return make_dataclass(
        kind.__name__,
        [(name, twin, field(default_factory=twin)) for name, twin in sections.items()],
        bases=(kind,),
        frozen=True,
        kw_only=True,
        slots=True,
        namespace={"__post_init__": lambda self: None, "__doc__": kind.__doc__},
    )


def section_of(annotation: Any) -> Any:
    """The dataclass that a section of flags is made of; `None` where a value is written in one word.

    What may be a word as well as a dataclass, such as rows named by a path or as a mixture, is a word to the flags.
    """
    kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if str in kinds:
        return None
    return next((kind for kind in kinds if is_dataclass(kind) and isinstance(kind, type)), None)
