"""Text that remembers where each of its letters comes from, through whatever a template does with it.

`"<a>" + content.strip() + "<e>"` is a string like any other, and beside it stands that its first three letters are the
template's own, the next ones are the content from its second letter on, and the last three the template's again.

A text also notes in the trace what a template asks of it (is it empty? does it begin with …?).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex, final

from easydata_tokenize.rendering.trace import ASKING, CHANGING, Answer, Run, Runs, current_trace, unrepeatable

__all__ = ["TracedFloat", "TracedInt", "TracedText", "changed", "joined"]


@final
class TracedText(str):
    """A string and the origins of its letters.

    Args:
        text: The string.
        runs: Origins of its letters, in order; None = the template wrote them all.
        leaf: The leaf of the conversation that it is, whole and unchanged; None = it is none.
    """

    __slots__ = ("leaf", "runs")
    runs: Runs
    leaf: int | None

    def __new__(cls, text: str, runs: Runs | None = None, leaf: int | None = None) -> TracedText:
        made = str.__new__(cls, text)
        made.runs = (Run(str.__len__(text), (), 0, False),) if runs is None else runs
        made.leaf = leaf
        return made

    @property
    def plain(self) -> str:
        """The string alone."""
        return str.__str__(self)

    def __str__(self) -> str:
        return self

    def __repr__(self) -> str:
        return repr(self.plain)

    def __reduce__(self) -> Any:
        return str, (self.plain,)

    # What is only put together stays exact.

    def __add__(self, other: Any) -> Any:
        return joined((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return joined((other, self)) if isinstance(other, str) else NotImplemented

    def join(self, texts: Iterable[str]) -> str:
        pieces: list[str] = []
        for text in texts:
            pieces += (self, text)
        return joined(pieces[1:])

    # What is cut stays exact.

    def cut(self, start: int, stop: int) -> TracedText:
        """Returns the letters `[start, stop)`; asks nothing of the text."""
        return TracedText(self.plain[start:stop], tuple(_cut(self.runs, start, stop)))

    def __getitem__(self, key: Any) -> TracedText:
        unrepeatable()
        length = str.__len__(self)
        if isinstance(key, slice):
            start, stop, step = key.indices(length)
            return self.cut(start, stop) if step == 1 else self._changed(self.plain[key])
        index = range(length)[key]
        return self.cut(index, index + 1)

    def __iter__(self) -> Iterator[str]:
        unrepeatable()
        return (self.cut(index, index + 1) for index in range(str.__len__(self)))

    def strip(self, chars: str | None = None) -> TracedText:
        return self._stripped("strip", chars, str.lstrip, str.rstrip)

    def lstrip(self, chars: str | None = None) -> TracedText:
        return self._stripped("lstrip", chars, str.lstrip, None)

    def rstrip(self, chars: str | None = None) -> TracedText:
        return self._stripped("rstrip", chars, None, str.rstrip)

    def _stripped(self, name: str, chars: str | None, left: Any, right: Any) -> TracedText:
        text = self.plain
        stop = len(right(text, chars)) if right else len(text)
        start = min(len(text) - len(left(text, chars)), stop) if left else 0
        if self._unchanged(name, (chars,), start == 0 and stop == len(text)):
            return self
        return self.cut(start, stop)

    def removeprefix(self, prefix: str) -> TracedText:
        begins = self.startswith(prefix)
        return self.cut(len(_plain(prefix)), str.__len__(self)) if begins else self

    def removesuffix(self, suffix: str) -> TracedText:
        ends = bool(_plain(suffix)) and self.endswith(suffix)
        return self.cut(0, str.__len__(self) - len(_plain(suffix))) if ends else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[Any]:
        return self._split(sep, str.split(self.plain, _plain(sep), maxsplit))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[Any]:
        return self._split(sep, str.rsplit(self.plain, _plain(sep), maxsplit))

    def splitlines(self, keepends: bool = False) -> list[Any]:
        whole = self.plain.splitlines(keepends=True)
        if len(whole) == 1 and whole == self.plain.splitlines():
            self._asked("splitlines", (), True)
            return [self]
        unrepeatable()
        lines, start = [], 0
        for full, bare in zip(whole, self.plain.splitlines(), strict=True):
            lines.append(self.cut(start, start + len(full if keepends else bare)))
            start += len(full)
        return lines

    def partition(self, sep: str) -> tuple[Any, Any, Any]:
        before, found, after = self.plain.partition(_plain(sep))
        return self._three(sep, before, found, after)

    def rpartition(self, sep: str) -> tuple[Any, Any, Any]:
        before, found, after = self.plain.rpartition(_plain(sep))
        return self._three(sep, before, found, after)

    def replace(self, old: str, new: str, count: SupportsIndex = -1) -> str:
        if not _plain(old):
            return self._changed(self.plain.replace(_plain(old), _plain(new), count))
        pieces = self.split(old, count)
        return pieces[0] if len(pieces) == 1 else TracedText(new).join(pieces) if type(new) is str else new.join(pieces)

    def _split(self, sep: str | None, pieces: list[str]) -> list[Any]:
        if sep is not None and self._unchanged("split", (_plain(sep),), len(pieces) == 1):
            return [self]
        unrepeatable()
        parts, start = [], 0
        for piece in pieces:
            start = self.plain.index(piece, start) if sep is None else start
            parts.append(self.cut(start, start + len(piece)))
            start += len(piece) + (0 if sep is None else len(_plain(sep)))
        return parts

    def _three(self, sep: str, before: str, found: str, after: str) -> tuple[Any, Any, Any]:
        if self._unchanged("split", (_plain(sep),), not found):
            return (self, "", "") if before or not self.plain else ("", "", self)
        middle = len(before) + len(found)
        return self.cut(0, len(before)), self.cut(len(before), middle), self.cut(middle, middle + len(after))

    # What is asked is noted.

    def _asked(self, question: str, arguments: tuple[Any, ...], answer: Any) -> None:
        trace = current_trace.get()
        if trace is None or not trace.repeatable:
            return
        if self.leaf is None or not all(map(_is_constant, arguments)):
            trace.repeatable = False
        else:
            trace.answers[Answer(self.leaf, question, arguments, answer)] = None

    def _unchanged(self, question: str, arguments: tuple[Any, ...], unchanged: bool) -> bool:
        self._asked(question, arguments, True) if unchanged else unrepeatable()
        return unchanged

    def _changed(self, text: str) -> TracedText:
        """Returns a text made of this one's letters by other means than cutting."""
        return changed(text, [self])

    def __bool__(self) -> bool:
        answer = str.__len__(self) > 0
        self._asked("bool", (), answer)
        return answer

    def __len__(self) -> int:
        answer = str.__len__(self)
        self._asked("len", (), answer)
        return answer

    def __eq__(self, other: object) -> bool:
        answer = self.plain == (_plain(other) if isinstance(other, str) else other)
        self._asked("eq", (other,), answer)
        return answer

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __contains__(self, part: object) -> bool:
        answer = _plain(part) in self.plain  # type: ignore[operator]
        self._asked("contains", (part,), answer)
        return answer

    def __hash__(self) -> int:
        unrepeatable()
        return str.__hash__(self)

    def __mod__(self, values: Any) -> Any:
        unrepeatable()
        return self._changed(str.__mod__(self.plain, values))

    def __mul__(self, times: Any) -> Any:
        return joined([self] * times) if isinstance(times, int) else NotImplemented

    def __rmul__(self, times: Any) -> Any:
        return self * times

    def __format__(self, spec: str) -> str:
        unrepeatable()
        return format(self.plain, spec)


@final
class TracedInt(int):
    """A whole number of a conversation; what is printed of it is traced."""

    leaf: int

    def __str__(self) -> str:
        return _number(int.__repr__(self), self.leaf)


@final
class TracedFloat(float):
    """A number of a conversation; what is printed of it is traced."""

    leaf: int

    def __str__(self) -> str:
        return _number(float.__repr__(self), self.leaf)


def joined(pieces: Iterable[str]) -> str:
    """Returns the texts behind each other; a plain string if the template wrote all of them."""
    texts = list(pieces)
    whole = "".join(texts)
    if not any(type(text) is TracedText for text in texts):
        return whole
    runs: list[Run] = []
    for text in texts:
        if type(text) is TracedText:
            runs += text.runs
        elif text:
            runs.append(Run(len(text), (), 0, False))
    return TracedText(whole, tuple(runs))


def changed(text: str, given: Iterable[TracedText]) -> TracedText:
    """Returns a text that a template made out of others: its letters come from all of their leaves."""
    unrepeatable()
    runs = [run for one in given for run in one.runs]
    sources = tuple(dict.fromkeys(source for run in runs for source in run.sources))
    whole = Run(len(text), sources, -1, any(run.generated for run in runs))
    return TracedText(text, (whole,) if text else ())


def _cut(runs: Runs, start: int, stop: int) -> Iterator[Run]:
    position = 0
    for length, sources, offset, generated in runs:
        first, last = max(start, position), min(stop, position + length)
        if first < last:
            moved = offset if offset < 0 or not sources else offset + first - position
            yield Run(last - first, sources, moved, generated)
        position += length


def _plain(text: Any) -> Any:
    return text.plain if type(text) is TracedText else text


def _number(text: str, leaf: int) -> TracedText:
    unrepeatable()
    return TracedText(text, (Run(len(text), (leaf,), 0, False),))


def _is_constant(value: Any) -> bool:
    if type(value) is tuple:
        return all(map(_is_constant, value))
    return type(value) in (str, int, bool, type(None), float)


_ORDERING = ("__lt__", "__le__", "__gt__", "__ge__")


def _asking(name: str) -> Callable[..., Any]:
    ask = getattr(str, name)

    def method(self: TracedText, *arguments: Any) -> Any:
        given = tuple(map(_plain, arguments))
        answer = ask(self.plain, *given)
        # A text that is asked for may itself come from the conversation.
        self._asked(name, arguments, answer)
        return answer

    return method


def _changing(name: str) -> Callable[..., Any]:
    change = getattr(str, name)

    def method(self: TracedText, *arguments: Any) -> str:
        text = change(self.plain, *arguments)
        return self if self._unchanged(name, arguments, text == self.plain) else self._changed(text)

    return method


def _ordering(name: str) -> Callable[..., Any]:
    compare = getattr(str, name)

    def method(self: TracedText, other: Any) -> Any:
        unrepeatable()
        return compare(self.plain, _plain(other))

    return method


for _names, _make in ((ASKING, _asking), (CHANGING, _changing), (_ORDERING, _ordering)):
    for _name in _names:
        setattr(TracedText, _name, _make(_name))
