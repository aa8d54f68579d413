"""What a chat template may do, and what its values cost; see `bounded_jinja`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from jinja2.utils import Namespace

UNITS = 4_000_000  # some 50 ns each
ITEM = 4  # units for each item of a container that is looked at
PER_ITEM = 10  # turns through the whole template for each item of the input
PER_CHARACTER = 20  # units
LARGEST_BITS = 10_000
_DIGITS = re.compile(r"\d+")
_VIEWS: tuple[Any, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_LISTS = (list, tuple, set, frozenset)
_SIZED = (*_LISTS, dict, range)
_TEXTS = (str, bytes)


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
            items, characters = measure(self._inputs)
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


def text(value: Any) -> str:
    """What an output writes of a value that is no text."""
    spend(weight(value))
    return str(value)


def concat(parts: Iterable[str]) -> str:
    """All outputs of a template, macro or block."""
    parts = list(parts)
    spend(sum(map(len, parts)))
    return "".join(parts)


def received(value: Any) -> Any:
    """A result: what it holds was made just now."""
    if isinstance(value, _TEXTS):
        spend(len(value) >> 2)
    elif isinstance(value, int):
        if value.bit_length() > LARGEST_BITS:
            raise TemplateWorkError(f"numbers may have {LARGEST_BITS:,} bits")
    elif isinstance(value, _SIZED):
        spend(ITEM * len(value))
    elif isinstance(value, _VIEWS):  # whose differences and unions would have to be paid for, too
        spend(ITEM * len(value))
        return list(value)
    elif isinstance(value, Iterator):
        return each(value)
    return value


def weighed(value: Any) -> Any:
    """A value that is about to be compared."""
    spend(weight(value))
    return value


def measured(value: Any) -> Any:
    """A value of which a part is about to be copied."""
    spend(length(value))
    return value


def each(items: Iterable[Any]) -> Iterator[Any]:
    """Items, paid for one by one."""
    for item in items:
        spend(ITEM)
        yield item


def joined(values: tuple[Any, ...]) -> str:
    """What `~` makes of values."""
    parts = []
    for value in values:
        parts.append(value if isinstance(value, str) else text(value))
        spend(len(parts[-1]) >> 2)
    return "".join(parts)


def length(value: Any) -> int:
    """What going once through a text or a container costs."""
    if isinstance(value, _TEXTS):
        return len(value) >> 2
    return ITEM * len(value) if isinstance(value, _SIZED) else 0


def weight(value: Any) -> int:
    """What turning a value into text, or comparing it, costs."""
    if isinstance(value, _TEXTS):
        return len(value) >> 2
    if value is None or isinstance(value, int | float):
        return 0
    budget = _budget.get()
    if id(value) in budget.known:
        return ITEM * len(value)
    items, characters = measure((value,), budget.left)
    if ITEM * items + (characters >> 2) > budget.left:  # it may be more than was looked at
        budget.extend()
        items, characters = measure((value,), budget.left)
    return ITEM * items + (characters >> 2)


def measure(values: Iterable[Any], limit: float = float("inf")) -> tuple[int, int]:
    """How many items and characters there are in containers, parts counted as often as they are in there."""
    items, characters, stack = 0, 0, list(values)
    while stack and ITEM * items + (characters >> 2) <= limit:
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


def number(value: Any) -> int:
    """How often something is repeated by a value."""
    return max(0, value) if isinstance(value, int) else 0


def numbers(values: Any) -> int:
    """What widths, counts and the like among arguments cost."""
    if isinstance(values, dict):
        values = tuple(values.values())
    return sum(map(number, values)) >> 2 if isinstance(values, tuple | list) else number(values) >> 2


def widths(text: Any) -> int:
    """The widths and precisions of a format."""
    return (
        sum(min(int(digits[:12]), UNITS * len(digits)) for digits in _DIGITS.findall(text))
        if isinstance(text, str)
        else 0
    )
