"""`--help`, and what a shell completes, drawn by tyro from dataclasses and the docstrings of their fields."""

from __future__ import annotations

import inspect
import typing
from dataclasses import field, make_dataclass
from functools import cache
from typing import Annotated, Any, NoReturn

import tyro

from easydel.cli.settings.build import section_of
from easydel.cli.settings.conversion import kinds_of

SWITCHES = (tyro.conf.FlagCreatePairsOff,)
"""How tyro draws flags without a word behind them: `--json`, and no `--no_json`."""


def print_help(flags: Any, config: Any = None, *, command: str, description: str | None = None) -> NoReturn:
    """Prints the help of a command.

    Args:
        flags: dataclass of its flags.
        config: the config that it makes of its other flags and a file, if it does.
        command: the command as typed.
        description: the head. `None` = the docstring of the config, or else of the flags.

    Raises:
        SystemExit: with 0, always.
    """
    head = description or inspect.getdoc(flags if config is None else config)
    kind = shape_of(flags, config)
    tyro.cli(kind, prog=command, description=head, args=["--help"], use_underscores=True, config=SWITCHES)
    raise SystemExit(0)


def shape_of(flags: Any, config: Any = None) -> Any:
    """Returns one type of all that a command takes, as tyro draws it."""
    if config is None:
        return flags
    run = Annotated[_drawn(config), tyro.conf.FlagConversionOff, tyro.conf.arg(name="")]
    return make_dataclass(flags.__name__, [("run", run)], bases=(flags,), frozen=True, kw_only=True)


@cache
def _drawn(kind: Any) -> Any:
    """Returns a subclass of a config of which no section may be `None`: tyro would ask to choose between the two.

    It checks nothing, as it holds no values. The docstrings under the fields are found through the base class.
    """
    sections = {}
    for name, annotation in typing.get_type_hints(kind).items():
        section = section_of(annotation)
        if section is not None and str not in kinds_of(annotation):  # what may be a word is a word to flags
            sections[name] = _drawn(section)
    return make_dataclass(
        kind.__name__,
        [(name, drawn, field(default_factory=drawn)) for name, drawn in sections.items()],
        bases=(kind,),
        frozen=True,
        kw_only=True,
        slots=True,
        namespace={"__post_init__": lambda self: None, "__doc__": kind.__doc__},
    )
