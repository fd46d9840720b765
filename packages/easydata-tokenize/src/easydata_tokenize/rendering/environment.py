"""The Jinja environment of chat templates: that of `transformers`, with budgets, and kind to traced texts.

A template that is given traced texts prints traced text. Jinja reads strings in a few places without asking them, in
operators (`a in b`, `a ~ b`, `a % b`), filters and methods of plain strings; those are led through functions that know
traced texts. Loops and calls are counted, long texts are refused before they are made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sized
from datetime import datetime
from functools import cache, update_wrapper, wraps
from types import BuiltinMethodType
from typing import Any, NoReturn, final

from jinja2 import TemplateError, nodes, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from easydata_tokenize.rendering.budget import BudgetExceededError, spend, spend_characters
from easydata_tokenize.rendering.traced_text import (
    TracedFloat,
    TracedInt,
    TracedText,
    changed,
    current_trace,
    joined,
)

__all__ = ["compile_template"]

# Filters that hand a text on, or reach it only by its own methods; all others get plain strings.
_KNOWING = {"attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items", "last", "length", "list"}
_KNOWING |= {"lower", "map", "max", "min", "random", "reject", "rejectattr", "replace", "reverse", "select"}
_KNOWING |= {"selectattr", "slice", "sort", "string", "sum", "trim", "unique", "upper", "capitalize"}
_WIDEST = 100_000
_PLACEHOLDER = re.compile('("?)\ue0a8([0-9]+)\ue0a9("?)')


@cache
def compile_template(source: str) -> Any:
    """Return the compiled template.

    Raises:
        jinja2.TemplateError: If it is no template.
    """
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControls])
    environment.finalize = _printable
    environment.filters = {
        name: filter_ if name in _KNOWING else _on_plain(filter_) for name, filter_ in environment.filters.items()
    }
    environment.filters |= {"tojson": _tojson, "join": _join, "_joined": _concatenated, "_counted": _counted}
    environment.tests["in"] = _in
    environment.globals |= {"raise_exception": _raise, "strftime_now": _now, "namespace": _Namespace, "dict": _Dict()}
    tree = _Rewriting().visit(environment.parse(source))
    return environment.from_string(tree)


@final
class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "%", "**"})

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:  # type: ignore[override]
        texts, length = [], 0
        for piece in pieces:
            texts.append(piece)
            length += str.__len__(piece)
            if length > 100_000:
                spend_characters(length)
        return joined(texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            spend_characters(str.__len__(left) + str.__len__(right))
        elif operator == "*":
            sizes = [_size(side) for side in (left, right)]
            if any(isinstance(side, str | list | tuple) for side in (left, right)):
                spend_characters(sizes[0] * sizes[1])
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            spend_characters(left.bit_length() * abs(right))
        elif operator == "%" and isinstance(left, str):
            _check_widths(left)
            return _filled(lambda form, values: form % values, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        spend(1)
        if type(__obj) is BuiltinMethodType and type(__obj.__self__) is str:
            given = {name: value for name, value in kwargs.items() if not name.startswith("_")}  # Jinja adds its own
            return _string_method(__obj, args, given)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Any:
        safe = super().wrap_str_format(value)
        if safe is None:
            return None
        text = value.__self__

        def format_safely(*args: Any, **kwargs: Any) -> Any:
            _check_widths(text)
            own = super(_Environment, self).wrap_str_format

            def fill(form: str, values: Any) -> str:
                safely: Any = own(getattr(form, value.__name__))
                return safely(*values[0], **values[1])

            _note_raw_values(args)
            return _filled(fill, text, (args, kwargs))

        return update_wrapper(format_safely, value)


@final
class _Generation(Extension):
    """`{% generation %}` … `{% endgeneration %}`: what the assistant generates."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja has it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    @pass_eval_context
    def _mark(self, _: nodes.EvalContext, caller: Callable[[], str]) -> str:
        text = caller()
        traced = text if type(text) is TracedText else TracedText(text)
        return TracedText(traced.plain, tuple(run._replace(generated=True) for run in traced.runs if run.length))


@final
class _Rewriting(NodeTransformer):
    """Leads through functions what Jinja would do to strings without asking them."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes), "_joined", node)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_counted", node)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if len(node.ops) != 1 or not node.ops[0].op.endswith("in"):
            return node
        within = nodes.Test(node.expr, "in", [node.ops[0].expr], [], None, None).set_lineno(node.lineno)
        return nodes.Not(within).set_lineno(node.lineno) if node.ops[0].op.startswith("not") else within


def _filtered(value: Any, name: str, node: nodes.Node) -> nodes.Filter:
    made = nodes.Filter(value, name, [], [], None, None)
    made.set_lineno(node.lineno)
    if node.environment is not None:
        made.set_environment(node.environment)
    return made


class _Namespace(Namespace):
    def __init__(*args: Any, **kwargs: Any) -> None:
        self, rest = args[0], args[1:]
        for name in dict(*rest, **kwargs):
            _refuse_private(name)
        Namespace.__init__(self, *rest, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        Namespace.__setitem__(self, name, value)


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and str.startswith(name, "_"):
        raise SecurityError(f"a namespace of a chat template has no attribute {name!r}")


class _Dict:
    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _raise(message: str) -> NoReturn:
    raise TemplateError(str.__str__(message) if isinstance(message, str) else message)


def _now(form: str) -> str:
    trace = current_trace.get()
    if trace is not None:
        trace.repeatable = False
    return datetime.now().strftime(form)


def _printable(value: Any) -> Any:
    """What Jinja prints of a value; None, lists and dicts have no text of their own, and Python's is noted."""
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


def _concatenated(values: list[Any]) -> str:
    texts = [str(_printable(value)) for value in values]
    spend_characters(sum(map(str.__len__, texts)))
    return joined(texts)


def _counted(items: Any) -> Any:
    spend(len(items) if isinstance(items, Sized) and not isinstance(items, str) else _size(items))
    if isinstance(items, Sized) or not isinstance(items, Iterable):
        return items
    return _counting(items)


def _counting(items: Iterable[Any]) -> Iterable[Any]:
    for item in items:
        spend(1)
        yield item


def _in(value: Any, container: Any) -> bool:
    if type(container) is str and type(value) is TracedText:
        container = TracedText(container)
    return value in container


@pass_eval_context
def _join(_: nodes.EvalContext, values: Any, d: str = "", attribute: str | None = None) -> str:
    if attribute is not None:
        values = [value.get(attribute) if isinstance(value, Mapping) else getattr(value, attribute) for value in values]
    separator = d if type(d) is TracedText else TracedText(str(d))
    texts = [str(value) for value in values]
    spend_characters(sum(map(str.__len__, texts)) + str.__len__(separator) * len(texts))
    return separator.join(texts) if any(type(text) is TracedText for text in texts) else str.join(str(d), texts)


def _tojson(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
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


def _filled(fill: Callable[[str, Any], str], form: str, values: Any) -> str:
    """Return `fill(form, values)`, with the origins of the values that are traced texts."""
    plain_form = str.__str__(form)
    given = list(_traced_in(values))
    _note_raw_values(values)
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


def _note_raw_values(values: Any) -> None:
    trace = current_trace.get()
    for value in values if isinstance(values, tuple) else (values,):
        if trace is not None and isinstance(value, list | dict) and any(True for _ in _traced_in(value)):
            trace.raw_values += 1


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


def _string_method(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a method of a plain string with arguments that may be traced."""
    name, text = method.__name__, method.__self__
    if name == "join" and args:
        args = (list(args[0]),)
        spend_characters(sum(map(_size, args[0])) + len(text) * len(args[0]))
    elif name == "replace" and len(args) > 1:
        spend_characters(len(text) + (text.count(args[0]) if args[0] else len(text) + 1) * _size(args[1]))
    elif name in ("center", "ljust", "rjust", "zfill") and args:
        spend_characters(args[0])
    elif name == "expandtabs":
        spend_characters(len(text) * max([8, *(arg for arg in args if isinstance(arg, int))]))
    if any(True for _ in _traced_in([*args, *kwargs.values()])):
        return getattr(TracedText(text), name)(*args, **kwargs)
    return method(*args, **kwargs)


def _on_plain(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is given plain strings; what it makes of traced ones comes from all of them."""

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
        return changed(str(made), given) if isinstance(made, str) else _noted(made)

    return wrapper


def _noted(value: Any) -> Any:
    trace = current_trace.get()
    if trace is not None:
        trace.repeatable = False
    return value


def _check_widths(form: str) -> None:
    if re.search(r"\d{6,}", str.__str__(form)) or "*" in str.__str__(form):
        raise BudgetExceededError(f"the format {str.__str__(form)[:40]!r} makes texts of any length")


def _size(value: Any) -> int:
    if isinstance(value, str):
        return str.__len__(value)
    if isinstance(value, int):
        return abs(int(value))
    return len(value) if isinstance(value, Sized) else 1
