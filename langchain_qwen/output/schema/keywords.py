"""What the keywords for values of one type say, as shapes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from langchain_qwen.output.schema.documents import FALSE, All, Document
from langchain_qwen.output.schema.patterns import MATCHING, check, matches
from langchain_qwen.output.schema.shapes import Array, Boolean, High, Low, Null, Number, Object, Shape, String, both


def constants(values: list[Any], document: Document) -> list[Shape]:
    """One shape for all strings and one for all numbers, which keeps the number of alternatives down."""
    strings = tuple(dict.fromkeys(value for value in values if isinstance(value, str)))
    numbers = tuple(dict.fromkeys(v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)))
    flags = frozenset(value for value in values if isinstance(value, bool))
    found: list[Shape] = [Null()] if None in values else []
    found += [Boolean(flags)] if flags else []
    found += [String(values=strings)] if strings else []
    found += [Number(values=numbers)] if numbers else []
    for value in values:
        if isinstance(value, list):
            items = tuple((document.number({"const": item}),) for item in value)
            found.append(Array(prefix=items, rest=(FALSE,), min_items=len(value), max_items=len(value)))
        elif isinstance(value, Mapping):
            properties: dict[str, All] = {name: (document.number({"const": item}),) for name, item in value.items()}
            found.append(Object(properties=properties, rest=(FALSE,), required=tuple(properties)))
    return found


def number_shape(schema: Mapping[str, Any], draft: int, *, integer: bool) -> Number:
    """What the keywords for numbers say.

    In draft 4 an exclusive bound is a flag; if there is a number, it is both (and the reading is not exact).
    """
    lows: list[Low] = []
    highs: list[High] = []
    for keyword, bounds, upper in (("inimum", lows, False), ("aximum", highs, True)):
        limit, exclusive = schema.get(f"m{keyword}"), schema.get(f"exclusiveM{keyword}")
        if limit is not None:
            bounds.append((Decimal(limit), (exclusive is True or (draft < 6 and bool(exclusive))) != upper))
        if exclusive is not None and not isinstance(exclusive, bool):
            bounds.append((Decimal(exclusive), not upper))
    step = schema.get("multipleOf")
    return Number(
        integer=integer,
        low=max(lows, default=None),
        high=min(highs, default=None),
        multiple_of=None if step is None else Fraction(repr(step)),
    )


def string_shape(schema: Mapping[str, Any]) -> String:
    """What the keywords for strings say."""
    pattern, form = schema.get("pattern"), schema.get("format")
    return String(
        min_length=int(schema.get("minLength", 0)),
        max_length=_whole(schema.get("maxLength")),
        patterns=() if pattern is None else (check(pattern),),
        formats=(form,) if isinstance(form, str) else (),
    )


def array_shape(schema: Mapping[str, Any], document: Document) -> Array:
    """What the keywords for arrays say."""
    items, prefix = schema.get("items"), schema.get("prefixItems", []) if document.draft >= 2020 else []
    if isinstance(items, list):  # before draft 2020-12
        prefix, items = items, schema.get("additionalItems")
    return Array(
        prefix=tuple(both((document.number(item),)) for item in prefix),
        rest=None if items is None else both((document.number(items),)),
        min_items=int(schema.get("minItems", 0)),
        max_items=_whole(schema.get("maxItems")),
        unique=schema.get("uniqueItems", False),
    )


def object_shape(schema: Mapping[str, Any], document: Document) -> Object:
    """What the keywords for objects say."""
    patterns: dict[str, All] = {
        check(pattern): both((document.number(child),))
        for pattern, child in schema.get("patternProperties", {}).items()
    }
    rest, properties = schema.get("additionalProperties"), schema.get("properties", {})
    document.budget.spend(len(properties) * (1 + MATCHING * len(patterns)))
    return Object(
        properties={
            name: both((document.number(child),), *(value for p, value in patterns.items() if matches(p, name)))
            for name, child in properties.items()
        },
        patterns=patterns,
        rest=None if rest is None else both((document.number(rest),)),
        required=tuple(dict.fromkeys(schema.get("required", ()))),
        min_properties=int(schema.get("minProperties", 0)),
        max_properties=_whole(schema.get("maxProperties")),
        names=both((document.number(schema.get("propertyNames", True)),)),
        # Not where names are only forbidden, as in what stands for dependencies.
        declared="properties" in schema
        and (not properties or any(child is not False for child in properties.values())),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
