"""Schemas for what another schema does not allow.

Only what can be written as a grammar is found: the schemas allow nothing that the other one does, but not always
everything that it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from langchain_qwen.output.schema.shapes import Schema

TYPES = ("null", "boolean", "number", "string", "array", "object")
# Keywords of our own, for what JSON Schema can only say with `not`.
EXCLUDED_STRINGS = "langchain-qwen:excluded"
FORBIDDEN_PATTERN = "langchain-qwen:forbidden-pattern"


def negations(schema: Schema, resolve: Callable[[str], Schema]) -> list[Schema]:
    """Schemas each of which excludes `schema`.

    A schema fails when one of its keywords does, so each keyword gives schemas of its own. What is simple comes first.

    Args:
        schema: The schema to exclude.
        resolve: Finds what a `$ref` refers to.
    """
    if isinstance(schema, bool):
        return [] if schema else [True]
    keywords = sorted(schema, key=lambda keyword: keyword not in ("type", "required", "const", "enum"))
    return [other for keyword in keywords for other in _failing(keyword, schema[keyword], schema, resolve)]


def _failing(keyword: str, value: Any, schema: Mapping[str, Any], resolve: Callable[[str], Schema]) -> Iterator[Schema]:
    match keyword:
        case "type":
            types = [value] if isinstance(value, str) else value
            excluded = {"number" if name == "integer" else name for name in types}
            yield {"type": [name for name in TYPES if name not in excluded]}
        case "const":
            yield from _other_values([value])
        case "enum":
            yield from _other_values(value)
        case "required":
            yield from ({"type": "object", "properties": {name: False}} for name in value)
        case "properties":
            for name, child in value.items():
                yield {"type": "object", "required": [name], "properties": {name: {"not": child}}}
        case "items" if isinstance(value, (dict, bool)) and "prefixItems" not in schema:
            yield {"type": "array", "contains": {"not": value}}
        case "contains" if "minContains" not in schema and "maxContains" not in schema:
            yield {"type": "array", "items": {"not": value}}
        case "pattern":
            yield {"type": "string", FORBIDDEN_PATTERN: value}
        # In draft 4, an exclusive bound is a flag; what is beyond the bound beside it is excluded either way.
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" if not isinstance(value, bool):
            yield {"type": "number", _OPPOSITE[keyword]: value}
        case "minLength" | "minItems" | "minProperties" if value > 0:
            yield {"type": _COUNTED[keyword[3:]], f"max{keyword[3:]}": value - 1}
        case "maxLength" | "maxItems" | "maxProperties":
            yield {"type": _COUNTED[keyword[3:]], f"min{keyword[3:]}": value + 1}
        case "not":
            yield value
        case "allOf":
            yield from ({"not": branch} for branch in value)
        case "anyOf" | "oneOf":
            yield {"allOf": [{"not": branch} for branch in value]}
        case "$ref":
            yield {"not": resolve(value)}


_COUNTED = {"Length": "string", "Items": "array", "Properties": "object"}
_OPPOSITE = {
    "minimum": "exclusiveMaximum",
    "maximum": "exclusiveMinimum",
    "exclusiveMinimum": "maximum",
    "exclusiveMaximum": "minimum",
}


def _other_values(values: Sequence[Any]) -> Iterator[Schema]:
    """Everything but these values, except that of arrays and objects only whole types are kept."""
    kinds = {_type_of(value) for value in values}
    yield {"type": [name for name in ("null", "array", "object") if name not in kinds]}
    yield {"type": "boolean", "enum": [flag for flag in (True, False) if not any(flag is value for value in values)]}
    yield {"type": "string", EXCLUDED_STRINGS: [value for value in values if isinstance(value, str)]}
    numbers = sorted({value for value in values if _type_of(value) == "number"})
    if not numbers:
        yield {"type": "number"}
        return
    yield {"type": "number", "exclusiveMaximum": numbers[0]}
    for low, high in pairwise(numbers):
        yield {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": high}
    yield {"type": "number", "exclusiveMinimum": numbers[-1]}


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
