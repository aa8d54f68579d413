"""What the keywords for values of one type say, as shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.schema.negation import EXCLUDED_STRINGS, FORBIDDEN_PATTERN
from langchain_qwen.output.schema.numbers import closed_bound
from langchain_qwen.output.schema.shapes import All, Array, Boolean, Null, Number, Object, Shape, String, both


def constant(value: Any) -> Shape:
    """The shape of one value."""
    if value is None:
        return Null()
    if isinstance(value, bool):
        return Boolean(frozenset({value}))
    if isinstance(value, (int, float)):
        return Number(values=(value,))
    if isinstance(value, str):
        return String(values=(value,))
    if isinstance(value, list):
        items = tuple(({"const": item},) for item in value)
        return Array(prefix=items, rest=(False,), min_items=len(value), max_items=len(value))
    properties: dict[str, All] = {name: ({"const": item},) for name, item in value.items()}
    return Object(properties=properties, rest=(False,), required=tuple(properties))


def constants(values: list[Any]) -> list[Shape]:
    """One shape for all strings and one for all numbers, which keeps the number of alternatives down."""
    shapes = [constant(value) for value in values]
    strings = {value: None for shape in shapes if isinstance(shape, String) for value in shape.values or ()}
    numbers = {value: None for shape in shapes if isinstance(shape, Number) for value in shape.values or ()}
    found: list[Shape] = [shape for shape in shapes if not isinstance(shape, (String, Number))]
    found += [String(values=tuple(strings))] if strings else []
    found += [Number(values=tuple(numbers))] if numbers else []
    return found


def number_shape(schema: Mapping[str, Any], *, integer: bool) -> Number:
    """What the keywords for numbers say."""
    lows: list[Decimal] = []
    highs: list[Decimal] = []
    for keyword, bounds, upper in (("inimum", lows, False), ("aximum", highs, True)):
        limit, exclusive = schema.get(f"m{keyword}"), schema.get(f"exclusiveM{keyword}")
        if limit is not None:
            # In draft 4 the exclusive bound is a flag.
            bounds.append(closed_bound(limit, exclusive=exclusive is True, upper=upper))
        if exclusive is not None and not isinstance(exclusive, bool):
            bounds.append(closed_bound(exclusive, exclusive=True, upper=upper))
    step = schema.get("multipleOf")
    return Number(
        integer=integer,
        low=max(lows, default=None),
        high=min(highs, default=None),
        multiple_of=None if step is None else Fraction(repr(step)),
    )


def string_shape(schema: Mapping[str, Any]) -> String:
    """What the keywords for strings say; a pattern must compile."""
    pattern, forbidden, form = schema.get("pattern"), schema.get(FORBIDDEN_PATTERN), schema.get("format")
    return String(
        min_length=int(schema.get("minLength", 0)),
        max_length=_whole(schema.get("maxLength")),
        patterns=() if pattern is None else (_searchable(pattern),),
        forbidden_patterns=() if forbidden is None else (_searchable(forbidden),),
        formats=(form,) if isinstance(form, str) else (),
        excluded=tuple(schema.get(EXCLUDED_STRINGS, ())),
    )


def array_shape(schema: Mapping[str, Any], draft: int) -> Array:
    """What the keywords for arrays say."""
    items, prefix = schema.get("items"), schema.get("prefixItems", []) if draft >= 2020 else []
    if isinstance(items, list):  # before draft 2020-12
        prefix, items = items, schema.get("additionalItems")
    return Array(
        prefix=tuple((item,) for item in prefix),
        rest=None if items is None else (items,),
        min_items=int(schema.get("minItems", 0)),
        max_items=_whole(schema.get("maxItems")),
        unique=schema.get("uniqueItems", False),
    )


def object_shape(schema: Mapping[str, Any]) -> Object:
    """What the keywords for objects say."""
    patterns: dict[str, All] = {_searchable(p): (child,) for p, child in schema.get("patternProperties", {}).items()}
    rest = schema.get("additionalProperties")
    properties = schema.get("properties", {})
    return Object(
        properties={
            name: both((child,), *(value for p, value in patterns.items() if re.search(p, name)))
            for name, child in properties.items()
        },
        patterns=patterns,
        rest=None if rest is None else (rest,),
        required=tuple(dict.fromkeys(schema.get("required", ()))),
        min_properties=int(schema.get("minProperties", 0)),
        max_properties=_whole(schema.get("maxProperties")),
        names=both((schema.get("propertyNames", True),)),
        # Not where names are only forbidden, as in what stands for `not` and dependencies.
        declared="properties" in schema
        and (not properties or any(child is not False for child in properties.values())),
    )


def containing(schema: Mapping[str, Any]) -> list[Shape]:
    """The first items fit, and where there is an upper limit no other one does."""
    wanted, most = schema["contains"], schema.get("maxContains")
    least = int(schema.get("minContains", 1))
    if most is not None and most < least:
        return []
    rest: All = () if most is None else ({"not": wanted},)
    return [Array(prefix=((wanted,),) * least, rest=rest, min_items=least)]


def _searchable(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidSchemaError(f"the pattern {pattern!r} is not a regular expression: {error}") from error
    return pattern


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
