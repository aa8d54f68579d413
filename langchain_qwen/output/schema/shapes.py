"""Shapes: what a JSON value of one type may be.

A JSON Schema is read into a list of alternative shapes (reading.py), and written as grammar rules (rules.py). Schemas
of children stay as they are, as tuples of schemas that must all hold, so that recursive schemas pose no problem.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import Any, TypeVar

Schema = bool | Mapping[str, Any]
All = tuple[Schema, ...]
"""Schemas that must all hold; the empty tuple allows anything."""

T = TypeVar("T", int, Decimal)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Null:
    """null."""


@dataclass(frozen=True, slots=True)
class Boolean:
    """true or false."""

    values: frozenset[bool] = frozenset({True, False})


@dataclass(frozen=True, slots=True)
class Number:
    """A number between closed bounds; `values` lists the only possible ones."""

    integer: bool = False
    low: Decimal | None = None
    high: Decimal | None = None
    multiple_of: Fraction | None = None
    values: tuple[int | float, ...] | None = None

    def accepts(self, value: float) -> bool:
        """Whether one of the listed values fits the rest."""
        exact = Decimal(repr(value))
        return not (
            (self.integer and exact % 1 != 0)
            or (self.low is not None and exact < self.low)
            or (self.high is not None and exact > self.high)
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
            and all(re.search(pattern, value) for pattern in self.patterns)
            and not any(re.search(pattern, value) for pattern in self.forbidden_patterns)
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
        matching = [value for pattern, value in self.patterns.items() if re.search(pattern, name)]
        return both(*matching) if matching else self.rest or ()


Shape = Null | Boolean | Number | String | Array | Object
ANY: tuple[Shape, ...] = (Null(), Boolean(), Number(), String(), Array(), Object())


def both(*parts: All) -> All:
    """The schemas of all parts, each once."""
    # Compared as text, since to Python {"const": 1} equals {"const": True}.
    distinct = {json.dumps(schema): schema for part in parts for schema in part}
    return tuple(schema for schema in distinct.values() if schema is not True and schema != {})


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


def _numbers(a: Number, b: Number) -> Number | None:
    merged = Number(
        integer=a.integer or b.integer,
        low=_larger(a.low, b.low),
        high=_smaller(a.high, b.high),
        multiple_of=_common_multiple(a.multiple_of, b.multiple_of),
    )
    if merged.low is not None and merged.high is not None and merged.low > merged.high:
        return None
    if a.values is None and b.values is None:
        return merged
    kept = tuple(value for value in _shared(a.values, b.values) if merged.accepts(value))
    return Number(values=kept) if kept else None


def _strings(a: String, b: String) -> String | None:
    merged = String(
        min_length=max(a.min_length, b.min_length),
        max_length=_smaller(a.max_length, b.max_length),
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
    return tuple(value for value in a if value in b)


def _arrays(a: Array, b: Array) -> Array | None:
    merged = Array(
        prefix=tuple(both(a.item(i), b.item(i)) for i in range(max(len(a.prefix), len(b.prefix)))),
        rest=_all_of(a.rest, b.rest),
        min_items=max(a.min_items, b.min_items),
        max_items=_smaller(a.max_items, b.max_items),
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
        rest=_all_of(a.rest, b.rest),
        required=_union(a.required, b.required),
        min_properties=max(a.min_properties, b.min_properties),
        max_properties=_smaller(a.max_properties, b.max_properties),
        names=both(a.names, b.names),
        declared=a.declared or b.declared,
    )
    if any(False in merged.property(name) for name in merged.required):
        return None
    return None if merged.max_properties is not None and merged.min_properties > merged.max_properties else merged


def _is_multiple(value: float, step: Fraction) -> bool:
    """Also as validators compute it, in floats where the step is one."""
    exact = Fraction(repr(value)) % step == 0
    return exact and (step.denominator == 1 or (value / float(step)).is_integer())


def _all_of(a: All | None, b: All | None) -> All | None:
    if a is None or b is None:
        return b if a is None else a
    return both(a, b)


def _union(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(a + b))


def _larger(a: T | None, b: T | None) -> T | None:
    return b if a is None else a if b is None else max(a, b)


def _smaller(a: T | None, b: T | None) -> T | None:
    return b if a is None else a if b is None else min(a, b)


def _common_multiple(a: Fraction | None, b: Fraction | None) -> Fraction | None:
    if a is None or b is None:
        return b if a is None else a
    denominator = a.denominator * b.denominator
    return Fraction(lcm(a.numerator * b.denominator, b.numerator * a.denominator), denominator)
