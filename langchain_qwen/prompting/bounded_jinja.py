# ruff: noqa: ARG002, N802  the names and arguments of jinja2's own methods
"""Jinja in a sandbox where work and memory are bounded: a chat template comes with a checkpoint and is not trusted.

Neither a signal nor a thread can end Python code that runs, so the compiled template counts for itself. One unit of
work is some 50 ns:

- Each turn of a loop, call of a macro and run of a block costs what its body holds, nodes and characters of constant
  text, and a call more. Loops with a condition pay for the items that they skip, and generators of filters for all.
- Each output costs its length. Sums, products, `~`, comparisons, slices, filters and calls cost a quarter of the
  characters, and all of the items, that go in and come out. What can make much out of little (`*`, `**`, `%`, format
  widths, `replace`, `join`, `center`, ...) is paid for before it is done.
- A container made by the template costs what its text would be, as often as each part is in it.
- Numbers may have `LARGEST_BITS`.

A template has `UNITS`, and, once these are spent, as much again as its input is worth: `PER_ITEM` turns through all of
it for each message, tool and part of them, and `PER_CHARACTER` for each character. Filters that no chat template needs,
and whose work is not bounded by their input, do not exist.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import _PassArg

from langchain_qwen.prompting import template_work as work

CALL = 40  # units for a call of a macro, a block or a loop
LONGEST_SUM = 8  # how many texts are added before the length of their sum is looked at

_BOUNDLESS_FILTERS = ("pprint", "striptags", "urlize", "wordwrap", "xmlattr", "filesizeformat", "random", "sum")
_SHALLOW_FILTERS = {"attr", "batch", "count", "d", "default", "first", "items", "last", "length", "list", "map"}
_SHALLOW_FILTERS |= {"reject", "rejectattr", "reverse", "select", "selectattr", "slice"}
# The result of these filters and methods, or their work, can be as large as one argument times another.
_PRODUCTS = {"replace", "join", "translate", "format", "format_map", "expandtabs", "indent", "batch"}
_PRODUCTS |= {"strip", "lstrip", "rstrip", "rfind", "rindex", "rsplit", "rpartition", "index", "count", "tojson"}
_DICT_ATTRIBUTES = frozenset(dir(dict))


def turn_cost(body: Iterable[nodes.Node]) -> int:
    """What one turn through statements costs; inner loops, macros and blocks pay for themselves."""
    cost, stack = 1, list(body)
    while stack:
        node = stack.pop()
        cost += 1
        if isinstance(node, nodes.TemplateData):
            cost += len(node.data)
        elif isinstance(node, nodes.Const) and isinstance(node.value, str):
            cost += len(node.value) >> 2
        if not isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock | nodes.Block):
            stack.extend(node.iter_child_nodes())
    return cost


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox that pays for what templates do; compile and render `within` a budget."""

    concat = staticmethod(work.concat)
    intercepted_binops = frozenset({"*", "%", "**"})

    def __init__(self, **options: Any):
        super().__init__(**options, optimized=False)  # folding constants would be work, too
        self.spend, self.received, self.text = work.spend, work.received, work.text
        self.weighed, self.measured, self.each, self.joined = work.weighed, work.measured, work.each, work.joined
        for name in _BOUNDLESS_FILTERS:
            del self.filters[name]
        del self.globals["lipsum"]

    def pay_for_filters(self) -> None:
        """Wrap the filters and tests that there are now."""
        self.filters = {name: _paid(name, function) for name, function in self.filters.items()}
        comparisons = {operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge}
        for name, function in self.tests.items():
            if function in comparisons or name == "in":
                self.tests[name] = _paid(name, function)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        bodies: list[Any] = list(source.find_all((nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)))
        for node in bodies:
            if isinstance(node, nodes.For) and node.test is not None:
                node.iter = nodes.Call(nodes.EnvironmentAttribute("each"), [node.iter], [], None, None)
            cost = turn_cost(node.body) + (0 if isinstance(node, nodes.For) else CALL)
            toll = nodes.EnvironmentAttribute(f"spend({cost})")  # written as it is
            node.body.insert(0, nodes.ExprStmt(toll, lineno=node.lineno))
        return super()._generate(source, *args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """As in the sandbox, without its detour over an exception for the keys of dicts: that pays for all the rest."""
        if type(obj) is dict and attribute not in _DICT_ATTRIBUTES:
            try:
                return obj[attribute]
            except KeyError:
                return self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Pay for a product or a formatted text before it is made."""
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > work.LARGEST_BITS:
                raise work.TemplateWorkError(f"numbers may have {work.LARGEST_BITS:,} bits")
        elif operator == "*":
            work.spend((work.weight(left) + 1) * work.number(right) + (work.weight(right) + 1) * work.number(left))
        elif operator == "%":
            work.spend(max(1, work.weight(left)) * max(1, work.weight(right)) + work.widths(left) + work.numbers(right))
        return work.received(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  as in jinja2
        """Pay for a call and its result."""
        function = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps `str.format`
        owner = getattr(function, "__self__", None)
        if isinstance(__obj, LoopContext):
            work.spend(CALL)
        elif not isinstance(__obj, Macro):  # whose body pays
            name = getattr(function, "__name__", "")
            deep = isinstance(owner, str) or name in ("index", "count")
            _pay(name, owner, (*args, *kwargs.values()), deep=deep)
        return work.received(super().call(__context, __obj, *args, **kwargs))


class _PayingGenerator(CodeGenerator):
    """Writes Python that pays at run time."""

    _sum = 0  # how many sums around this one leave its length to the outermost

    def visit_Add(self, node: nodes.BinExpr, frame: Frame) -> None:
        """Look at the length of every eighth sum only; it is the fastest way to join texts."""
        depth = self._sum
        if depth % LONGEST_SUM == 0:
            self.write("environment.received(")
        self.write("(")
        self._sum = depth + 1 if isinstance(node.left, nodes.Add) else 0
        self.visit(node.left, frame)
        self.write(" + ")
        self._sum = 0
        self.visit(node.right, frame)
        self.write("))" if depth % LONGEST_SUM == 0 else ")")

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write("(part if type(part := ")  # a call for each output would be felt in long conversations
        self._sum = 1 if isinstance(node, nodes.Add) else 0  # `concat` looks at its length

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self._sum = 0
        self.write(") is str else environment.text(part))")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        """Comparing with something constant costs no more than that is long."""
        operands = [node.expr, *(op.expr for op in node.ops)]
        into = any(op.op in ("in", "notin") for op in node.ops)
        constant = _is_constant(operands[-1]) if into else any(map(_is_constant, operands))
        self.write("(")
        if len(operands) == 2 and constant:
            self.visit(node.expr, frame)
            self.visit(node.ops[0], frame)
        else:
            self._weighed(node.expr, frame)
            for op in node.ops:
                self.write(f" {_OPERATORS[op.op]} ")
                self._weighed(op.expr, frame)
        self.write(")")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if not isinstance(node.arg, nodes.Slice):
            super().visit_Getitem(node, frame)
            return
        self.write("environment.measured(")
        self.visit(node.node, frame)
        self.write(")[")
        self.visit(node.arg, frame)
        self.write("]")

    def _weighed(self, node: nodes.Expr, frame: Frame) -> None:
        if _is_constant(node):
            self.visit(node, frame)
            return
        self.write("environment.weighed(")
        self.visit(node, frame)
        self.write(")")


BoundedEnvironment.code_generator_class = _PayingGenerator
_OPERATORS = {"eq": "==", "ne": "!=", "gt": ">", "gteq": ">=", "lt": "<", "lteq": "<=", "in": "in", "notin": "not in"}


def _is_constant(node: nodes.Expr) -> bool:
    if isinstance(node, nodes.List | nodes.Tuple):
        return all(isinstance(item, nodes.Const) for item in node.items)
    return isinstance(node, nodes.Const | nodes.Compare | nodes.Not | nodes.Test)  # the last three are true or false


def _paid(name: str, function: Any) -> Callable[..., Any]:
    skipped = 0 if _PassArg.from_obj(function) is None else 1
    deep = name not in _SHALLOW_FILTERS

    @wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        value, *others = args[skipped:]
        if others or kwargs:
            _pay(name, value, (*others, *kwargs.values()), deep=deep)
        else:
            work.spend(work.weight(value) if deep else work.length(value))
        return work.received(function(*args, **kwargs))

    return paid


def _pay(name: str, value: Any, others: tuple[Any, ...], *, deep: bool) -> None:
    own = work.weight(value) if deep else work.length(value)
    cost = sum(map(work.weight, others)) + work.numbers(others)
    if name in ("format", "format_map"):
        cost += work.widths(value)
    work.spend(max(1, own) * max(1, cost) if name in _PRODUCTS else own + cost)
