"""Whether a set was made of what is given now: by content, as far as that is known.

What cannot be known (a stream from elsewhere, a lock in a function) is named, and whoever runs a call again must say
that it is the same. Functions whose code differs may be declared the same too, since a mended one may give equal rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from easydata_sources.identity import UNIDENTIFIED, unidentified

__all__ = ["Difference", "differences", "not_comparable"]

# Of a difference below these keys a user can know that it changes no row.
_DECLARABLE = {"code", "function", "uses", "defaults", "holds", "python", "version", "changed", UNIDENTIFIED}
_NAMES = {"tokenizer_name"}  # which one thing may have several of
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs.

    Attributes:
        where: its name.
        then: the value that the set was made of.
        now: the value that is given.
        declarable: whether it may be declared to make no difference.
    """

    where: str
    then: Any
    now: Any
    declarable: bool

    def __str__(self) -> str:
        where = self.where.replace("source.", "source: ", 1) if self.where.startswith("source.") else self.where
        return f"{where}: {_short(self.then)} then, {_short(self.now)} now"


def differences(then: Any, now: Any, where: str = "", *, declarable: bool = False) -> Iterator[Difference]:
    """Yields what differs between two identities."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in sorted((then.keys() | now.keys()) - _NAMES):
            inner = f"{where}.{key}" if where else key
            known = declarable or key in _DECLARABLE
            yield from differences(then.get(key), now.get(key), inner, declarable=known)
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for index, (old, new) in enumerate(zip(then, now, strict=True)):
            yield from differences(old, new, f"{where}[{index}]", declarable=declarable)
    elif then != now:
        yield Difference(where, then, now, declarable)


def not_comparable(identity: Mapping[str, Any]) -> list[str]:
    """Returns what of an identity is not known, each once."""
    return list(dict.fromkeys(unidentified(identity)))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
