"""The Jinja environment of chat templates: that of `transformers`, with budgets, and kind to traced texts.

A template that is given traced texts prints traced text. Jinja reads strings in a few places without asking them, in
operators (`a in b`, `a ~ b`, `a % b`), filters and methods of plain strings; those are led through functions that know
traced texts (`values.py`). Loops and calls are counted, long texts are refused before they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from datetime import datetime
from functools import cache, update_wrapper
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

from easydata_tokenize.rendering.budget import spend, spend_characters
from easydata_tokenize.rendering.trace import unrepeatable
from easydata_tokenize.rendering.traced_text import TracedText, joined
from easydata_tokenize.rendering.values import (
    call_string_method,
    check_widths,
    concatenated,
    filled,
    joined_values,
    note_raw_values,
    on_plain,
    on_text,
    printable,
    size_of,
    to_json,
)

__all__ = ["compile_template"]

# Filters that hand a text on, or reach it only by its own methods; all others get plain strings.
_KNOWING = {"attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items", "last", "length", "list"}
_KNOWING |= {"lower", "map", "max", "min", "random", "reject", "rejectattr", "replace", "reverse", "select"}
_KNOWING |= {"selectattr", "slice", "sort", "string", "sum", "trim", "unique", "upper", "capitalize"}
# Those among them that make a text of whatever they are given.
_MAKING_TEXT = ("capitalize", "lower", "replace", "string", "trim", "upper")


@cache
def compile_template(source: str) -> Any:
    """Returns the compiled template.

    Raises:
        jinja2.TemplateError: If it is no template.
    """
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControls])
    environment.finalize = printable
    environment.filters = {
        name: filter_ if name in _KNOWING else on_plain(filter_) for name, filter_ in environment.filters.items()
    }
    environment.filters |= {name: on_text(environment.filters[name]) for name in _MAKING_TEXT}
    environment.filters |= {"tojson": to_json, "join": joined_values, "_joined": concatenated, "_counted": _counted}
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
            sizes = [size_of(side) for side in (left, right)]
            if any(isinstance(side, str | list | tuple) for side in (left, right)):
                spend_characters(sizes[0] * sizes[1])
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            spend_characters(left.bit_length() * abs(right))
        elif operator == "%" and isinstance(left, str):
            check_widths(left)
            return filled(lambda form, values: form % values, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        spend(1)
        if type(__obj) is BuiltinMethodType and type(__obj.__self__) is str:
            given = {name: value for name, value in kwargs.items() if not name.startswith("_")}  # Jinja adds its own
            return call_string_method(__obj, args, given)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Any:
        safe = super().wrap_str_format(value)
        if safe is None:
            return None
        text = value.__self__

        def format_safely(*args: Any, **kwargs: Any) -> Any:
            check_widths(text)
            own = super(_Environment, self).wrap_str_format

            def fill(form: str, values: Any) -> str:
                safely: Any = own(getattr(form, value.__name__))
                return safely(*values[0], **values[1])

            note_raw_values(args)
            return filled(fill, text, (args, kwargs))

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
    unrepeatable()
    return datetime.now().strftime(form)


def _counted(items: Any) -> Any:
    spend(len(items) if isinstance(items, Sized) and not isinstance(items, str) else size_of(items))
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
