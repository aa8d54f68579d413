"""From JSON Schemas to shapes.

Keywords that apply several schemas to one value (`allOf`, `anyOf`, `oneOf`, `not`, `if`, `$ref`, dependencies) are
worked out here; the result is a list of alternatives without them. Every value of an alternative fits the schema.
Where a grammar cannot tell all fitting values (most of all around `not`), some of them are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.schema import keywords
from langchain_qwen.output.schema.documents import Document, check
from langchain_qwen.output.schema.negation import TYPES, negations
from langchain_qwen.output.schema.shapes import (
    ANY,
    All,
    Array,
    Boolean,
    Null,
    Object,
    Schema,
    Shape,
    intersection,
)

MAX_ALTERNATIVES = 500
_MAX_PAIRS = 20_000
# `oneOf` multiplies the ways not to fit the other branches; so many of them are followed for each branch.
_KEPT_OF_BRANCH = 10
# How deep inside two alternatives to look for what tells them apart.
_COMPARED_LEVELS = 3
Trail = tuple[str, ...]


class Reader:
    """Reads the schemas of one document."""

    def __init__(self, schema: Schema):
        self._document = Document(schema)
        self._known: dict[str, list[Shape]] = {}

    def alternatives(self, schemas: All) -> list[Shape]:
        """Shapes of which a value that fits all the schemas has one; none where nothing fits.

        Raises:
            InvalidSchemaError: For keywords that no grammar can enforce, and for malformed schemas.
        """
        key = json.dumps(schemas)
        if key not in self._known:
            self._known[key] = self._read_all(schemas, ())
        return self._known[key]

    def _read_all(self, schemas: Iterable[Schema], trail: Trail) -> list[Shape]:
        found = list(ANY)
        for schema in schemas:
            found = _intersect(found, self._read(schema, trail))
        return found

    def _read_any(self, schemas: Iterable[Schema], trail: Trail) -> list[Shape]:
        return [shape for schema in schemas for shape in self._read(schema, trail)]

    def _read(self, schema: Schema, trail: Trail) -> list[Shape]:
        """`trail` holds the references followed so far for the same value."""
        if isinstance(check(schema), bool):
            return list(ANY) if schema else []
        assert isinstance(schema, Mapping)
        if "$ref" in schema and self._document.draft <= 7:  # other keywords beside it are ignored there
            return self._applied("$ref", schema["$ref"], schema, trail)
        found = [self._typed(name, schema) for name in _types(schema)]
        for keyword, value in schema.items():
            if keyword in _APPLICATORS:
                found = _intersect(found, self._applied(keyword, value, schema, trail))
        return self._closed(found, schema)

    def _applied(self, keyword: str, value: Any, schema: Mapping[str, Any], trail: Trail) -> list[Shape]:
        match keyword:
            case "$ref":
                if value in trail:
                    raise InvalidSchemaError(f"$ref {value!r} leads back to itself, so it says nothing; remove it")
                return self._read(self._document.resolve(value), (*trail, value))
            case "const":
                return [keywords.constant(value)]
            case "enum":
                return keywords.constants(value)
            case "allOf":
                return self._read_all(value, trail)
            case "anyOf":
                return self._read_any(value, trail)
            case "oneOf":
                return self._one_of(value, trail)
            case "not":
                return self._read_any(self._negations(value), trail)
            case "if":
                matched: Schema = {"allOf": [value, schema.get("then", True)]}
                otherwise: Schema = {"allOf": [{"not": value}, schema.get("else", True)]}
                return self._read_any([matched, otherwise], trail)
            case "contains":
                return [shape for shape in ANY if not isinstance(shape, Array)] + keywords.containing(schema)
        return self._read_all(_dependencies(keyword, value), trail)

    def _negations(self, schema: Schema) -> list[Schema]:
        return negations(check(schema), self._document.resolve)

    def _one_of(self, branches: list[Schema], trail: Trail) -> list[Shape]:
        """Each branch, without what other branches allow too."""
        read = [self._read(branch, trail) for branch in branches]
        found: list[Shape] = []
        for i, mine in enumerate(read):
            kept = mine
            for j, others in enumerate(read):
                apart = [shape for shape in kept if i == j or self._disjoint([shape], others)]
                overlapping = [shape for shape in kept if shape not in apart]
                if overlapping:
                    excluded = self._read_any(self._negations(branches[j]), trail)
                    kept = (apart + _intersect(overlapping, excluded))[: max(_KEPT_OF_BRANCH, len(apart))]
            found += kept
        return found

    def _disjoint(self, some: Iterable[Shape], others: Iterable[Shape], level: int = 0) -> bool:
        return all(self._apart(a, b, level) for a in some for b in others)

    def _apart(self, a: Shape, b: Shape, level: int) -> bool:
        """Whether surely no value has both shapes."""
        if intersection(a, b) is None:
            return True
        if level == _COMPARED_LEVELS:
            return False
        children: list[tuple[All, All]] = []
        if isinstance(a, Array) and isinstance(b, Array):
            children = [(a.item(i), b.item(i)) for i in range(min(max(a.min_items, b.min_items), 8))]
        if isinstance(a, Object) and isinstance(b, Object):
            children = [(a.property(name), b.property(name)) for name in {*a.required, *b.required}]
        return any(
            self._disjoint(self.alternatives(x), self.alternatives(y), level + 1) for x, y in children if x and y
        )

    def _closed(self, shapes: list[Shape], schema: Mapping[str, Any]) -> list[Shape]:
        """Apply unevaluatedProperties and unevaluatedItems: to what no schema has spoken of so far."""
        members, items = schema.get("unevaluatedProperties"), schema.get("unevaluatedItems")
        if members is None and items is None:
            return shapes
        # What these evaluate depends on the value, and shapes do not keep it.
        if {"not", "if", "oneOf", "contains"} & self._document.keywords:
            raise InvalidSchemaError(
                "unevaluatedProperties and unevaluatedItems cannot be enforced together with not, if, oneOf or "
                "contains; list all properties in one schema with additionalProperties instead"
            )
        closed: list[Shape] = []
        for shape in shapes:
            if isinstance(shape, Object) and shape.rest is None and members is not None:
                closed.append(replace(shape, rest=(members,)))
            elif isinstance(shape, Array) and shape.rest is None and items is not None:
                closed.append(replace(shape, rest=(items,)))
            else:
                closed.append(shape)
        return closed

    def _typed(self, name: str, schema: Mapping[str, Any]) -> Shape:
        """What the keywords for values of one type say."""
        match name:
            case "null":
                return Null()
            case "boolean":
                return Boolean()
            case "string":
                return keywords.string_shape(schema)
            case "array":
                return keywords.array_shape(schema, self._document.draft)
            case "object":
                return keywords.object_shape(schema)
        return keywords.number_shape(schema, integer=name == "integer")


_APPLICATORS = (
    *("$ref", "const", "enum", "allOf", "anyOf", "oneOf", "not", "if", "contains"),
    *("dependencies", "dependentRequired", "dependentSchemas"),
)


def _types(schema: Mapping[str, Any]) -> list[str]:
    types = schema.get("type", TYPES)
    names = [types] if isinstance(types, str) else list(types)
    return [name for name in names if name != "integer" or "number" not in names]


def _intersect(some: Iterable[Shape], others: Iterable[Shape]) -> list[Shape]:
    pairs = list(product(some, others))
    found: list[Shape] = []
    for a, b in pairs[:_MAX_PAIRS]:
        shape = intersection(a, b)
        if shape is not None and shape not in found:
            found.append(shape)
    if len(pairs) > _MAX_PAIRS or len(found) > MAX_ALTERNATIVES:
        raise InvalidSchemaError(
            f"the combinations of anyOf, oneOf, if and dependencies allow more than {MAX_ALTERNATIVES} kinds of value; "
            "simplify the schema"
        )
    return found


def _dependencies(keyword: str, value: Mapping[str, Any]) -> list[Schema]:
    """For each name: it is missing, or what depends on it holds."""
    if not isinstance(value, Mapping):
        raise InvalidSchemaError(f"{keyword} must be an object, not {value!r}")
    found: list[Schema] = []
    for name, dependent in value.items():
        follows: Schema = {"required": dependent} if isinstance(dependent, list) else dependent
        found.append({"anyOf": [{"properties": {name: False}}, {"allOf": [{"required": [name]}, follows]}]})
    return found
