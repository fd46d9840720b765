"""What a chat template does with the text of messages: found by following it through the template's source.

Most templates only print it. Such a template renders every conversation of the same roles to the same text with other
contents in the same places, so it needs to run only once for each sequence of roles. Whatever else a template might do
with a text (compare it, cut it, measure it, hand it to a function) makes `only_prints` say no; so does every construct
that this module does not know.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import nodes

__all__ = ["only_prints"]


class _Kind(Enum):
    """What a value depends on."""

    CLEAN = "the roles of the messages, and what is the same for all conversations"
    CONTENT = "one message's text, as it is"
    TEXT = "a text that may hold messages' texts"
    MESSAGE = "a message"
    MESSAGES = "a list of messages"


_TEXTS = {_Kind.CLEAN, _Kind.CONTENT, _Kind.TEXT}
_TYPE_TESTS = {"boolean", "defined", "false", "integer", "iterable", "mapping", "none", "number", "sequence", "string"}
_TYPE_TESTS |= {"true", "undefined"}
_PLACES = {"first", "last", "index", "index0", "revindex", "revindex0", "length"}
_PURE_CALLS = {"dict", "namespace", "raise_exception", "range"}


class _UnknownError(Exception):
    """The template does something with a text that may depend on more than its place."""


def only_prints(template: nodes.Template) -> bool:
    """Return whether a template, given messages of `role` and a text that is not blank at either end, only prints it.

    Args:
        template: The parsed source.
    """
    flow = _Flow()
    try:
        # Loops carry what is assigned at their end to their beginning; kinds only grow, so a few rounds are enough.
        for _ in range(2 + len(list(template.find_all(_nodes().Assign)))):
            known = dict(flow.kinds)
            flow.run(template.body)
            if flow.kinds == known:
                return True
    except _UnknownError:
        pass
    return False


class _Flow:
    """Follows values through statements; `kinds` are those of the variables, wherever they are assigned."""

    def __init__(self) -> None:
        self.kinds: dict[str, _Kind] = {"messages": _Kind.MESSAGES}

    def run(self, body: list[Any]) -> None:
        for statement in body:
            handler = getattr(self, f"_run_{type(statement).__name__.lower()}", None)
            if handler is None:
                raise _UnknownError
            handler(statement)

    def _run_output(self, node: nodes.Output) -> None:
        for part in node.nodes:
            if self.kind(part) not in _TEXTS:
                raise _UnknownError

    def _run_if(self, node: nodes.If) -> None:
        self.test(node.test)
        self.run(node.body)
        self.run(node.elif_)
        self.run(node.else_)

    def _run_for(self, node: nodes.For) -> None:
        kind = self.kind(node.iter)
        if node.recursive or kind in (_Kind.CONTENT, _Kind.TEXT, _Kind.MESSAGE):
            raise _UnknownError
        self._assign(node.target, _Kind.MESSAGE if kind is _Kind.MESSAGES else _Kind.CLEAN)
        if node.test is not None:
            self.test(node.test)
        self.run(node.body)
        self.run(node.else_)

    def _run_assign(self, node: nodes.Assign) -> None:
        self._assign(node.target, self.kind(node.node))

    def _run_callblock(self, node: nodes.CallBlock) -> None:
        # `{% generation %}` prints what is in it.
        if getattr(node.call.node, "name", None) != "_generation_support":
            raise _UnknownError
        self.run(node.body)

    def _run_break(self, node: Any) -> None:
        """Depends on nothing but what led here."""

    _run_continue = _run_break

    def _assign(self, target: Any, kind: _Kind) -> None:
        names = _nodes()
        if isinstance(target, names.Name):
            name = target.name
        elif isinstance(target, names.NSRef):
            name = f"{target.name}.{target.attr}"
        else:
            raise _UnknownError
        self.kinds[name] = kind if name not in self.kinds else _either(self.kinds[name], kind)

    def test(self, node: Any) -> None:
        """Follow what is only asked for being true; a text that is not empty always is."""
        names = _nodes()
        if isinstance(node, names.And | names.Or):
            self.test(node.left)
            self.test(node.right)
        elif isinstance(node, names.Not):
            self.test(node.node)
        else:
            self.kind(node)

    def kind(self, node: Any) -> _Kind:
        """Return what an expression depends on."""
        handler = getattr(self, f"_kind_{type(node).__name__.lower()}", None)
        if handler is not None:
            return handler(node)
        # Arithmetic, lists and the like: fine as long as no message has a part in it.
        for part in node.iter_child_nodes():
            self._clean(part)
        return _Kind.CLEAN

    def _clean(self, node: Any) -> _Kind:
        if self.kind(node) is not _Kind.CLEAN:
            raise _UnknownError
        return _Kind.CLEAN

    def _kind_name(self, node: nodes.Name) -> _Kind:
        if node.name == "loop":  # it knows the items of the loop
            raise _UnknownError
        return self.kinds.get(node.name, _Kind.CLEAN)

    def _kind_getattr(self, node: nodes.Getattr) -> _Kind:
        return self._item(node.node, node.attr)

    def _kind_getitem(self, node: Any) -> _Kind:
        names = _nodes()
        if self.kind(node.node) is _Kind.MESSAGES:
            self._clean(node.arg)
            return _Kind.MESSAGES if isinstance(node.arg, names.Slice) else _Kind.MESSAGE
        if isinstance(node.arg, names.Const):
            return self._item(node.node, node.arg.value)
        self._clean(node.arg)
        return self._clean(node.node)

    def _item(self, owner: Any, name: Any) -> _Kind:
        if isinstance(owner, _nodes().Name):
            if f"{owner.name}.{name}" in self.kinds:
                return self.kinds[f"{owner.name}.{name}"]
            if owner.name == "loop" and name in _PLACES:
                return _Kind.CLEAN
        if self.kind(owner) is _Kind.MESSAGE:
            if hasattr(dict, str(name)):
                raise _UnknownError
            return _Kind.CONTENT if name == "content" else _Kind.CLEAN
        return self._clean(owner)

    def _kind_add(self, node: Any) -> _Kind:
        return self._joined([node.left, node.right])

    def _kind_concat(self, node: nodes.Concat) -> _Kind:
        return self._joined(node.nodes)

    def _joined(self, parts: list[Any]) -> _Kind:
        kinds = {self.kind(part) for part in parts}
        if not kinds <= _TEXTS:
            raise _UnknownError
        return _Kind.CLEAN if kinds == {_Kind.CLEAN} else _Kind.TEXT

    def _kind_condexpr(self, node: nodes.CondExpr) -> _Kind:
        self.test(node.test)
        other = _Kind.CLEAN if node.expr2 is None else self.kind(node.expr2)
        return _either(self.kind(node.expr1), other)

    def _kind_and(self, node: Any) -> _Kind:
        return _either(self.kind(node.left), self.kind(node.right))

    _kind_or = _kind_and

    def _kind_not(self, node: nodes.Not) -> _Kind:
        self.test(node.node)
        return _Kind.CLEAN

    def _kind_test(self, node: nodes.Test) -> _Kind:
        for part in node.args or ():
            self._clean(part)
        if node.name not in _TYPE_TESTS or node.kwargs or node.dyn_args or node.dyn_kwargs:
            return self._clean(node.node)
        self.kind(node.node)
        return _Kind.CLEAN

    def _kind_compare(self, node: nodes.Compare) -> _Kind:
        names = _nodes()
        first, operands = node.expr, node.ops
        if len(operands) == 1 and operands[0].op.endswith("in") and isinstance(first, names.Const):
            # Which keys a message has is the same for all.
            if self.kind(operands[0].expr) is not _Kind.MESSAGE:
                self._clean(operands[0].expr)
            return _Kind.CLEAN
        self._clean(first)
        for operand in operands:
            self._clean(operand.expr)
        return _Kind.CLEAN

    def _kind_filter(self, node: nodes.Filter) -> _Kind:
        if node.node is None or node.name == "random" or node.dyn_args or node.dyn_kwargs:
            raise _UnknownError
        for part in [*node.args, *(pair.value for pair in node.kwargs)]:
            self._clean(part)
        kind = self.kind(node.node)
        if kind is _Kind.CONTENT and node.name == "trim" and not node.args and not node.kwargs:
            return kind  # nothing to trim
        if kind is _Kind.MESSAGES and node.name in ("length", "count"):
            return _Kind.CLEAN
        if kind is _Kind.MESSAGES and node.name in ("first", "last"):
            return _Kind.MESSAGE
        if kind is _Kind.MESSAGES and node.name == "list":
            return kind
        return self._clean(node.node)

    def _kind_call(self, node: Any) -> _Kind:
        names = _nodes()
        if isinstance(node.node, names.Name):
            if node.node.name not in _PURE_CALLS:
                raise _UnknownError
        else:
            self._clean(node.node)
        if node.dyn_args or node.dyn_kwargs:
            raise _UnknownError
        for part in [*node.args, *(pair.value for pair in node.kwargs)]:
            self._clean(part)
        return _Kind.CLEAN


def _either(left: _Kind, right: _Kind) -> _Kind:
    if left is right:
        return left
    if {left, right} <= _TEXTS:
        return _Kind.TEXT
    raise _UnknownError


def _nodes() -> Any:
    from jinja2 import nodes

    return nodes
