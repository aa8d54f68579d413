"""Shapes: what a JSON value of one type may be.

A JSON Schema is read into a list of alternative shapes (reading.py), and written as grammar rules (rules.py). Schemas
of children stay as they are, as tuples of the numbers of schemas that must all hold, so that recursive schemas pose no
problem. A shape is exact: it has all the values that its schema allows, and no others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import lcm
from typing import TypeVar

from langchain_qwen.output.schema.documents import FALSE, TRUE, All
from langchain_qwen.output.schema.patterns import MATCHING, matches

V = TypeVar("V")
Low = tuple[Decimal, bool]
"""A bound, and whether it is open itself: the larger one says more."""
High = tuple[Decimal, bool]
"""A bound, and whether it is closed: the smaller one says more."""


@dataclass(frozen=True, slots=True)
class Null:
    """null."""


@dataclass(frozen=True, slots=True)
class Boolean:
    """true or false."""

    values: frozenset[bool] = frozenset({True, False})


@dataclass(frozen=True, slots=True)
class Number:
    """A number; `values` lists the only possible ones. Bounds are exactly those that validators compare with."""

    integer: bool = False
    low: Low | None = None
    high: High | None = None
    multiple_of: Fraction | None = None
    values: tuple[int | float, ...] | None = None

    def accepts(self, value: float) -> bool:
        """Whether a number fits."""
        exact = Decimal(value)
        return not (
            (self.values is not None and value not in self.values)
            or (self.integer and Fraction(value).denominator != 1)
            or (self.low is not None and (exact < self.low[0] or (self.low[1] and exact == self.low[0])))
            or (self.high is not None and (exact > self.high[0] or (not self.high[1] and exact == self.high[0])))
            or (self.multiple_of is not None and not _is_multiple(value, self.multiple_of))
        )


@dataclass(frozen=True, slots=True)
class String:
    """A string; `values` lists the only possible ones. Lengths count code points; patterns are searched for."""

    min_length: int = 0
    max_length: int | None = None
    patterns: tuple[str, ...] = ()
    forbidden_patterns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    values: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()

    def accepts(self, value: str) -> bool:
        """Whether a string fits; formats are annotations and not checked."""
        return (
            (self.values is None or value in self.values)
            and self.min_length <= len(value) <= (len(value) if self.max_length is None else self.max_length)
            and value not in self.excluded
            and all(matches(pattern, value) for pattern in self.patterns)
            and not any(matches(pattern, value) for pattern in self.forbidden_patterns)
        )


@dataclass(frozen=True, slots=True)
class Array:
    """An array; `rest` is for the items after `prefix`, None where no schema speaks of them."""

    prefix: tuple[All, ...] = ()
    rest: All | None = None
    min_items: int = 0
    max_items: int | None = None
    unique: bool = False

    def item(self, index: int) -> All:
        """What the item at `index` must be."""
        return self.prefix[index] if index < len(self.prefix) else self.rest or ()


@dataclass(frozen=True, slots=True)
class Object:
    """An object; `rest` is for names not in `properties` or `patterns`, None where no schema speaks of them.

    What `patterns` say of a name in `properties` is among its schemas there. `declared` says that a schema has listed
    the properties, be it an empty list.
    """

    properties: dict[str, All] = field(default_factory=dict)
    patterns: dict[str, All] = field(default_factory=dict)
    rest: All | None = None
    required: tuple[str, ...] = ()
    min_properties: int = 0
    max_properties: int | None = None
    names: All = ()
    declared: bool = False

    def property(self, name: str) -> All:
        """What the property `name` must be."""
        if name in self.properties:
            return self.properties[name]
        matching = [value for pattern, value in self.patterns.items() if matches(pattern, name)]
        return both(*matching) if matching else self.rest or ()


Shape = Null | Boolean | Number | String | Array | Object
ANY: tuple[Shape, ...] = (Null(), Boolean(), Number(), String(), Array(), Object())


def both(*parts: All) -> All:
    """The schemas of all parts, each once."""
    return tuple(number for number in dict.fromkeys(n for part in parts for n in part) if number != TRUE)


def cost(a: Shape, b: Shape | None = None) -> int:
    """How much work it is to look at a shape, or to compare or combine it with another one; see `Budget`."""
    names = values = patterns = 0
    for shape in (a, b):
        if isinstance(shape, Object):
            names += len(shape.properties) + len(shape.required)
            patterns += len(shape.patterns)
        elif isinstance(shape, String):
            values += len(shape.values or ()) + len(shape.excluded)
            patterns += len(shape.patterns) + len(shape.forbidden_patterns)
        elif isinstance(shape, Number):
            values += len(shape.values or ())
        elif isinstance(shape, Array):
            names += len(shape.prefix)
    return 5 + names + values + MATCHING * patterns * (names + values)


def intersection(a: Shape, b: Shape) -> Shape | None:
    """The shape of values that fit both; None where there are none for sure."""
    if isinstance(a, Null) and isinstance(b, Null):
        return a
    if isinstance(a, Boolean) and isinstance(b, Boolean):
        return Boolean(a.values & b.values) if a.values & b.values else None
    if isinstance(a, Number) and isinstance(b, Number):
        return _numbers(a, b)
    if isinstance(a, String) and isinstance(b, String):
        return _strings(a, b)
    if isinstance(a, Array) and isinstance(b, Array):
        return _arrays(a, b)
    if isinstance(a, Object) and isinstance(b, Object):
        return _objects(a, b)
    return None


def without(a: Shape, b: Shape) -> list[Shape]:
    """Shapes of values that fit `a` and surely do not fit `b`; what no shape can say is left out."""
    if type(a) is not type(b):
        return [a]
    others: list[Shape] = []
    if isinstance(a, Boolean) and isinstance(b, Boolean):
        others = [Boolean(frozenset({flag})) for flag in (True, False) if flag not in b.values]
    elif isinstance(a, Number) and isinstance(b, Number):
        if a.values is not None:
            kept = tuple(value for value in a.values if not b.accepts(value))
            return [Number(values=kept)] if kept else []
        others = _numbers_around(b)
    elif isinstance(a, String) and isinstance(b, String):
        if a.values is not None:
            chosen = tuple(value for value in a.values if not b.accepts(value))
            return [String(values=chosen)] if chosen else []
        if b.values is not None:
            others = [String(excluded=b.values)]
        else:
            others = [String(forbidden_patterns=(pattern,)) for pattern in b.patterns]
            others += [String(patterns=(pattern,)) for pattern in b.forbidden_patterns]
            others += [String(max_length=b.min_length - 1)] if b.min_length else []
            others += [] if b.max_length is None else [String(min_length=b.max_length + 1)]
    elif isinstance(a, Array) and isinstance(b, Array):
        others = [Array(max_items=b.min_items - 1)] if b.min_items else []
        others += [] if b.max_items is None else [Array(min_items=b.max_items + 1)]
    elif isinstance(a, Object) and isinstance(b, Object):
        others = [Object(properties={name: (FALSE,)}) for name in b.required]
        others += [Object(required=(name,)) for name in a.properties if FALSE in b.property(name)]
        others += [Object(max_properties=b.min_properties - 1)] if b.min_properties else []
        others += [] if b.max_properties is None else [Object(min_properties=b.max_properties + 1)]
    return [
        shape for other in others if (shape := intersection(a, other)) is not None and shape != Boolean(frozenset())
    ]


def _numbers_around(b: Number) -> list[Shape]:
    """What is below, between and above the numbers of a shape."""
    if b.values is not None:
        listed = sorted(map(Decimal, set(b.values)))
        gaps: list[Shape] = [Number(low=(low, True), high=(high, False)) for low, high in pairwise(listed)]
        return [Number(high=(listed[0], False)), *gaps, Number(low=(listed[-1], True))]
    around: list[Shape] = [] if b.low is None else [Number(high=(b.low[0], b.low[1]))]
    return around + ([] if b.high is None else [Number(low=(b.high[0], b.high[1]))])


def _numbers(a: Number, b: Number) -> Number | None:
    merged = Number(
        integer=a.integer or b.integer,
        low=_joined(a.low, b.low, max),
        high=_joined(a.high, b.high, min),
        multiple_of=_joined(a.multiple_of, b.multiple_of, _common_multiple),
    )
    if merged.low and merged.high:
        (low, is_open), (high, is_closed) = merged.low, merged.high
        if low > high or (low == high and (is_open or not is_closed)):
            return None
    if a.values is None and b.values is None:
        return merged
    kept = tuple(value for value in _shared(a.values, b.values) if merged.accepts(value))
    return Number(values=kept) if kept else None


def _strings(a: String, b: String) -> String | None:
    merged = String(
        min_length=max(a.min_length, b.min_length),
        max_length=_joined(a.max_length, b.max_length, min),
        patterns=_union(a.patterns, b.patterns),
        forbidden_patterns=_union(a.forbidden_patterns, b.forbidden_patterns),
        formats=_union(a.formats, b.formats),
        excluded=_union(a.excluded, b.excluded),
    )
    if merged.max_length is not None and merged.min_length > merged.max_length:
        return None
    if a.values is None and b.values is None:
        return merged
    kept = tuple(value for value in _shared(a.values, b.values) if merged.accepts(value))
    return String(values=kept) if kept else None


def _shared(a: tuple[V, ...] | None, b: tuple[V, ...] | None) -> tuple[V, ...]:
    """Values that both lists have. Once they have been checked against the rest, nothing else needs to be kept."""
    if a is None or b is None:
        return a or b or ()
    known = set(b)
    return tuple(value for value in a if value in known)


def _arrays(a: Array, b: Array) -> Array | None:
    merged = Array(
        prefix=tuple(both(a.item(i), b.item(i)) for i in range(max(len(a.prefix), len(b.prefix)))),
        rest=_joined(a.rest, b.rest, both),
        min_items=max(a.min_items, b.min_items),
        max_items=_joined(a.max_items, b.max_items, min),
        unique=a.unique or b.unique,
    )
    return None if merged.max_items is not None and merged.min_items > merged.max_items else merged


def _objects(a: Object, b: Object) -> Object | None:
    names = _union(tuple(a.properties), tuple(b.properties))
    patterns = _union(tuple(a.patterns), tuple(b.patterns))
    # What matches a pattern of one side only is, to the other side, among the rest.
    merged = Object(
        properties={name: both(a.property(name), b.property(name)) for name in names},
        patterns={p: both(a.patterns.get(p, a.rest or ()), b.patterns.get(p, b.rest or ())) for p in patterns},
        rest=_joined(a.rest, b.rest, both),
        required=_union(a.required, b.required),
        min_properties=max(a.min_properties, b.min_properties),
        max_properties=_joined(a.max_properties, b.max_properties, min),
        names=both(a.names, b.names),
        declared=a.declared or b.declared,
    )
    if any(FALSE in merged.property(name) for name in merged.required):
        return None
    return None if merged.max_properties is not None and merged.min_properties > merged.max_properties else merged


def _is_multiple(value: float, step: Fraction) -> bool:
    """Also as validators compute it, in floats where the step is one."""
    exact = Fraction(repr(value)) % step == 0
    return exact and (step.denominator == 1 or (value / float(step)).is_integer())


def _joined(a: V | None, b: V | None, join: Callable[[V, V], V]) -> V | None:
    """What both sides say, joined; where one says nothing, what the other says."""
    if a is None or b is None:
        return b if a is None else a
    return join(a, b)


def _union(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(a + b))


def _common_multiple(a: Fraction, b: Fraction) -> Fraction:
    denominator = a.denominator * b.denominator
    return Fraction(lcm(a.numerator * b.denominator, b.numerator * a.denominator), denominator)
