"""Jinja in a sandbox where work and memory are bounded: a chat template comes with a checkpoint and is not trusted.

Neither a signal nor a thread can end Python code that runs, so the compiled template counts for itself. One unit of
work is some 50 ns:

- Each turn of a loop, call of a macro and run of a block costs what its body holds: nodes, and characters of constant
  text. Loops with a condition pay for the items that they skip, and generators of filters for each item.
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
import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import wraps
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, _PassArg

UNITS = 10_000_000
PER_ITEM = 10
PER_CHARACTER = 20
LARGEST_BITS = 10_000
LONGEST_SUM = 8  # how many texts are added before the length of their sum is looked at

_BOUNDLESS_FILTERS = ("pprint", "striptags", "urlize", "wordwrap", "xmlattr", "filesizeformat", "random")
_SHALLOW_FILTERS = {"attr", "batch", "count", "d", "default", "first", "items", "last", "length", "list", "map", "reject"}
_SHALLOW_FILTERS |= {"rejectattr", "reverse", "select", "selectattr", "slice"}
# Their result, or their work, can be as large as one argument times another.
_PRODUCTS = {"replace", "join", "translate", "format", "format_map", "expandtabs", "indent", "sum", "batch"}
_PRODUCTS |= {"strip", "lstrip", "rstrip", "rfind", "rindex", "rsplit", "rpartition", "index", "count", "tojson"}
_DIGITS = re.compile(r"\d+")
_VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
_LISTS = (list, tuple, set, frozenset)
_SIZED = (*_LISTS, dict, range)
_TEXTS = (str, bytes)
_DICT_ATTRIBUTES = frozenset(dir(dict))


class TemplateWorkError(Exception):
    """A template takes more work than its input can be worth."""


class Budget:
    """What a template may still do.

    Args:
        units: Of work.
        inputs: What the template is given, looked at only where the units are spent.
        cost: Of one turn through the whole template.
    """

    __slots__ = ("_cost", "_inputs", "known", "left")

    def __init__(self, units: int, inputs: tuple[Any, ...] = (), cost: int = 0):
        self.left = units
        self._inputs: tuple[Any, ...] | None = inputs
        self._cost = cost
        # Text made of these is paid for when it is there: it is no longer than the input.
        self.known = {id(part) for value in inputs for part in (value, *(value or ())) if isinstance(part, list | dict)}

    def extend(self) -> None:
        """Called once the units are spent."""
        if self._inputs is not None:
            items, characters = _measure(self._inputs)
            self._inputs = None
            self.left += items * PER_ITEM * self._cost + characters * PER_CHARACTER
        if self.left < 0:
            raise TemplateWorkError(f"it would take more than {UNITS:,} steps and what its input allows")


_budget: ContextVar[Budget] = ContextVar("_budget")


def within(budget: Budget, work: Callable[[], Any]) -> Any:
    """What `work` returns, which compiles or renders.

    Raises:
        TemplateWorkError: It takes more than the budget allows.
    """
    token = _budget.set(budget)
    try:
        return work()
    finally:
        _budget.reset(token)


def spend(units: int) -> None:
    """Pay for work; raises `TemplateWorkError`."""
    budget = _budget.get()
    budget.left -= units
    if budget.left < 0:
        budget.extend()


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

    intercepted_binops = frozenset({"*", "%", "**"})

    def __init__(self, **options: Any):
        super().__init__(**options, optimized=False)  # folding constants would be work, too
        self.spend, self.received, self.weighed, self.measured, self.each = spend, _received, _weighed, _measured, _each
        self.concatenated, self.text, self.concat = _concatenated, _text, _concat
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
        for node in list(source.find_all((nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block))):
            if isinstance(node, nodes.For) and node.test is not None:
                node.iter = nodes.Call(nodes.EnvironmentAttribute("each"), [node.iter], [], None, None)
            toll = nodes.EnvironmentAttribute(f"spend({turn_cost(node.body)})")  # written as it is
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
            if bits > LARGEST_BITS:
                raise TemplateWorkError(f"numbers may have {LARGEST_BITS:,} bits")
        elif operator == "*":
            spend(_weight(left) * _number(right) + _weight(right) * _number(left))
        elif operator == "%":
            spend(max(1, _weight(left)) * max(1, _weight(right)) + _widths(left) + _numbers(right))
        return _received(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  as in jinja2
        """Pay for a call and its result."""
        function = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps `str.format`
        owner = getattr(function, "__self__", None)
        if not isinstance(__obj, Macro):  # whose body pays
            name = getattr(function, "__name__", "")
            deep = isinstance(owner, str) or name in ("index", "count")
            _pay(name, owner, (*args, *kwargs.values()), deep=deep)
        return _received(super().call(__context, __obj, *args, **kwargs))


class _PayingGenerator(CodeGenerator):
    """Writes Python that pays at run time."""

    _sum = 0  # how many sums around this one leave its length to the outermost

    def visit_Add(self, node: nodes.Add, frame: Frame) -> None:
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
        self.write("environment.concatenated((")
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


def _paid(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    skipped = 0 if _PassArg.from_obj(function) is None else 1

    deep = name not in _SHALLOW_FILTERS

    @wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        value, *others = args[skipped:]
        if others or kwargs:
            _pay(name, value, (*others, *kwargs.values()), deep=deep)
        else:
            spend(_weight(value) if deep else _length(value))
        return _received(function(*args, **kwargs))

    return paid


def _pay(name: str, value: Any, others: tuple[Any, ...], *, deep: bool) -> None:
    own = _weight(value) if deep else _length(value)
    cost = sum(map(_weight, others)) + _numbers(others)
    if name in ("format", "format_map"):
        cost += _widths(value)
    spend(max(1, own) * max(1, cost) if name in _PRODUCTS else own + cost)


def _text(value: Any) -> str:
    """What an output writes of a value that is no text."""
    spend(_weight(value))
    return str(value)


def _concat(parts: Iterable[str]) -> str:
    """All outputs of a template, macro or block."""
    parts = list(parts)
    spend(sum(map(len, parts)))
    return "".join(parts)


def _received(value: Any) -> Any:
    """A result: what it holds was made just now."""
    if isinstance(value, _TEXTS):
        spend(len(value) >> 2)
    elif isinstance(value, int):
        if value.bit_length() > LARGEST_BITS:
            raise TemplateWorkError(f"numbers may have {LARGEST_BITS:,} bits")
    elif isinstance(value, _SIZED):
        spend(len(value))
    elif isinstance(value, _VIEWS):  # whose differences and unions would have to be paid for, too
        spend(len(value))
        return list(value)
    elif isinstance(value, Iterator):
        return _each(value)
    return value


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


def _paid(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    skipped = 0 if _PassArg.from_obj(function) is None else 1

    deep = name not in _SHALLOW_FILTERS

    @wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        value, *others = args[skipped:]
        if others or kwargs:
            _pay(name, value, (*others, *kwargs.values()), deep=deep)
        else:
            spend(_weight(value) if deep else _length(value))
        return _received(function(*args, **kwargs))

    return paid


def _pay(name: str, value: Any, others: tuple[Any, ...], *, deep: bool) -> None:
    own = _weight(value) if deep else _length(value)
    cost = sum(map(_weight, others)) + _numbers(others)
    if name in ("format", "format_map"):
        cost += _widths(value)
    spend(max(1, own) * max(1, cost) if name in _PRODUCTS else own + cost)


def _text(value: Any) -> str:
    """What an output writes of a value that is no text."""
    spend(_weight(value))
    return str(value)


def _concat(parts: Iterable[str]) -> str:
    """All outputs of a template, macro or block."""
    parts = list(parts)
    spend(sum(map(len, parts)))
    return "".join(parts)


def _received(value: Any) -> Any:
    """A result: what it holds was made just now."""
    if isinstance(value, _TEXTS):
        spend(len(value) >> 2)
    elif isinstance(value, int):
        if value.bit_length() > LARGEST_BITS:
            raise TemplateWorkError(f"numbers may have {LARGEST_BITS:,} bits")
    elif isinstance(value, _SIZED):
        spend(len(value))
    elif isinstance(value, Iterator):
        return _each(value)
    return value


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


def _paid(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    skipped = 0 if _PassArg.from_obj(function) is None else 1

    deep = name not in _SHALLOW_FILTERS

    @wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        value, *others = args[skipped:]
        if others or kwargs:
            _pay(name, value, (*others, *kwargs.values()), deep=deep)
        else:
            spend(_weight(value) if deep else _length(value))
        return _received(function(*args, **kwargs))

    return paid


def _pay(name: str, value: Any, others: tuple[Any, ...], *, deep: bool) -> None:
    own = _weight(value) if deep else _length(value)
    cost = sum(map(_weight, others)) + _numbers(others)
    if name in ("format", "format_map"):
        cost += _widths(value)
    spend(max(1, own) * max(1, cost) if name in _PRODUCTS else own + cost)


def _text(value: Any) -> str:
    """What an output writes. Most of the work here is inline, since a conversation has as many outputs as pieces."""
    if type(value) is not str:
        spend(_weight(value))
        value = str(value)
    budget = _budget.get()
    budget.left -= len(value)
    if budget.left < 0:
        budget.extend()
    return value  # type: ignore[no-any-return]


def _received(value: Any) -> Any:
    """A result: what it holds was made just now."""
    if isinstance(value, int):
        if value.bit_length() > LARGEST_BITS:
            raise TemplateWorkError(f"numbers may have {LARGEST_BITS:,} bits")
    elif isinstance(value, Iterator):
        return _each(value)
    else:
        spend(_length(value))
    return value


def _weighed(value: Any) -> Any:
    spend(_weight(value))
    return value


def _measured(value: Any) -> Any:
    spend(_length(value))
    return value


def _each(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        spend(4)
        yield item


def _concatenated(parts: tuple[Any, ...]) -> str:
    spend(sum(map(_weight, parts)))
    return "".join(map(str, parts))


def _length(value: Any) -> int:
    if isinstance(value, _TEXTS):
        return len(value) >> 2
    return len(value) if isinstance(value, _SIZED) else 0


def _weight(value: Any) -> int:
    """What turning a value into text, or comparing it, costs."""
    if isinstance(value, _TEXTS):
        return len(value) >> 2
    if value is None or isinstance(value, int | float):
        return 0
    budget = _budget.get()
    if id(value) in budget.known:
        return len(value)
    items, characters = _measure((value,), budget.left)
    return items + (characters >> 2)


def _measure(values: Iterable[Any], limit: float = float("inf")) -> tuple[int, int]:
    """How many items and characters there are in containers, parts counted as often as they are in there."""
    items, characters, stack = 0, 0, list(values)
    while stack and items + (characters >> 2) <= limit:
        value = stack.pop()
        items += 1
        if isinstance(value, _TEXTS):
            characters += len(value)
        elif isinstance(value, dict):
            stack.extend(value)
            stack.extend(value.values())
        elif isinstance(value, _LISTS):
            stack.extend(value)
        elif isinstance(value, range):
            items += len(value)
        elif isinstance(value, Namespace):
            stack.append(value._Namespace__attrs)
    return items, characters


def _number(value: Any) -> int:
    return max(0, value) if isinstance(value, int) else 0


def _numbers(values: Any) -> int:
    """Numbers are widths, counts and the like."""
    if isinstance(values, dict):
        values = tuple(values.values())
    return sum(map(_number, values)) >> 2 if isinstance(values, tuple | list) else _number(values) >> 2


def _widths(text: Any) -> int:
    """The widths and precisions of a format."""
    return sum(min(int(digits[:12]), UNITS * len(digits)) for digits in _DIGITS.findall(text)) if isinstance(text, str) else 0
