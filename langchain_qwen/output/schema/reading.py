"""From JSON Schemas to shapes.

Keywords that apply several schemas to one value (`allOf`, `anyOf`, `oneOf`, `not`, `if`, `$ref`, dependencies) are
worked out here; the result is a list of alternatives without them. Every value of an alternative fits the schema.

What a schema does *not* allow can only be told where all that it allows is known: a reading says whether it is exact.
Of the others (around `not`, `if` and branches of `oneOf` that overlap) some fitting values are missing, so no other
`oneOf`, `not` or `if` may depend on them; such schemas are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.schema import keywords
from langchain_qwen.output.schema.documents import All, Document, Schema
from langchain_qwen.output.schema.shapes import (
    ANY,
    Array,
    Boolean,
    Null,
    Object,
    Shape,
    cost,
    intersection,
    without,
)

MAX_ALTERNATIVES = 500
# Overlapping branches of `oneOf` multiply the ways not to fit the others; so many of them are followed for each branch.
_KEPT_OF_BRANCH = 10
# How deep inside two alternatives to look for what tells them apart, and at how many items.
_COMPARED_LEVELS, _COMPARED_ITEMS = 3, 8
_MAX_LEVELS = 60
_TYPES = ("null", "boolean", "number", "string", "array", "object")


@dataclass(frozen=True, slots=True)
class Reading:
    """Alternatives; `exact` says that all values that fit are among them."""

    shapes: Sequence[Shape]
    exact: bool = True


class _BeingReadError(Exception):
    """A schema has to be compared that is just being read: it has children of its own kind."""


class Reader:
    """Reads the schemas of one document."""

    def __init__(self, document: Document):
        self.document = document
        self._known: dict[int, Reading] = {}
        self._known_together: dict[All, Reading] = {}
        self._open: list[int] = []
        self._compared_from = 0  # where in `_open` the schemas begin that are read for a comparison

    def alternatives(self, schemas: All) -> Sequence[Shape]:
        """Shapes of which a value that fits all the schemas has one; none where nothing fits.

        Raises:
            InvalidSchemaError: For keywords that no grammar can enforce, malformed schemas, and too much work.
        """
        return self._read_all(schemas).shapes

    def _read_all(self, schemas: All) -> Reading:
        if schemas not in self._known_together:
            found = Reading(ANY)
            for number in schemas:
                found = self._both(found, self._read(number))
            self._known_together[schemas] = found
        return self._known_together[schemas]

    def _read(self, number: int) -> Reading:
        if number not in self._known:
            schema = self.document.schema(number)
            if number in self._open[: self._compared_from]:
                raise _BeingReadError
            if number in self._open:
                raise self.document.refusal(schema, "$ref leads back to itself; remove it")
            if len(self._open) == _MAX_LEVELS:
                raise self.document.refusal(
                    schema, f"the schema nests too deeply: {_MAX_LEVELS} schemas of one value within each other"
                )
            self._open.append(number)
            try:
                self._known[number] = self._read_schema(schema)
            finally:
                self._open.pop()
        return self._known[number]

    def _read_schema(self, schema: Schema) -> Reading:
        if isinstance(schema, bool):
            return Reading(ANY if schema else ())
        if "$ref" in schema and self.document.draft <= 7:  # other keywords beside it are ignored there
            return self._applied("$ref", schema["$ref"], schema)
        # Floats are multiples of something only about; what an earlier draft does not know is followed all the same.
        exact = not any(_INEXACT_BEFORE.get(keyword, 0) > self.document.draft for keyword in schema)
        found = Reading([self._typed(name, schema) for name in _types(schema)], exact)
        for keyword, value in schema.items():
            if keyword in _APPLICATORS:
                found = self._both(found, self._applied(keyword, value, schema))
        return found

    def _applied(self, keyword: str, value: Any, schema: Mapping[str, Any]) -> Reading:
        number = self.document.number
        match keyword:
            case "$ref":
                return self._read(self.document.resolve(value))
            case "const":
                return Reading(keywords.constants([value], self.document))
            case "enum":
                self.document.budget.spend(len(value))
                return Reading(keywords.constants(value, self.document))
            case "allOf":
                return self._read_all(tuple(number(branch) for branch in value))
            case "anyOf":
                return self._any([self._read(number(branch)) for branch in value])
            case "oneOf":
                return self._one_of([self._read(number(branch)) for branch in value], schema)
            case "not":
                return self._outside(self._read(number(value)), keyword, schema)
            case "if":
                condition = self._read(number(value))
                matched = self._both(condition, self._read(number(schema.get("then", True))))
                outside = self._outside(condition, keyword, schema)
                otherwise = self._both(outside, self._read(number(schema.get("else", True))))
                return replace(self._any([matched, otherwise]), exact=False)
        return self._read_all(tuple(number(one) for one in _dependencies(value)))

    def _any(self, readings: Sequence[Reading]) -> Reading:
        shapes: list[Shape] = []
        for shape in (shape for reading in readings for shape in reading.shapes):
            self.document.budget.spend(1 + len(shapes))
            if shape not in shapes:
                shapes.append(shape)
        return Reading(shapes, all(reading.exact for reading in readings))

    def _both(self, one: Reading, other: Reading) -> Reading:
        if one.shapes is ANY or other.shapes is ANY:
            return replace(other if one.shapes is ANY else one, exact=one.exact and other.exact)
        found: list[Shape] = []
        exact = one.exact and other.exact
        for a in one.shapes:
            for b in other.shapes:
                if type(a) is not type(b):
                    continue
                self.document.budget.spend(cost(a, b) + len(found))
                shape = intersection(a, b)
                # Of names that patterns of both sides match, too much is asked.
                if isinstance(a, Object) and isinstance(b, Object) and a.patterns and b.patterns:
                    exact = exact and a.patterns.keys() == b.patterns.keys()
                if shape is not None and shape not in found:
                    found.append(shape)
        if len(found) > MAX_ALTERNATIVES:
            raise InvalidSchemaError(
                f"the combinations of anyOf, oneOf, if and dependencies allow more than {MAX_ALTERNATIVES} kinds of "
                "value; simplify the schema"
            )
        return Reading(found, exact)

    def _one_of(self, branches: Sequence[Reading], schema: Mapping[str, Any]) -> Reading:
        """Each branch, without what other branches allow too."""
        if len(branches) > 1 and not all(branch.exact for branch in branches):
            raise self.document.refusal(
                schema,
                "oneOf cannot be enforced where a branch uses not, if, multipleOf, or a oneOf whose branches overlap, "
                "since what such a branch excludes is not known exactly; use anyOf, or write the branches without them",
            )
        found: list[Shape] = []
        overlap = False
        for i, mine in enumerate(branches):
            kept = _tagged(mine.shapes, schema)
            overlap = overlap or kept != list(mine.shapes)
            for b in (shape for j, other in enumerate(branches) if i != j for shape in other.shapes):
                left = []
                for a in kept:
                    if self._apart(a, b, 0):
                        left.append(a)
                    else:
                        overlap = True
                        left += self._without(a, b)
                kept = left[: max(_KEPT_OF_BRANCH, len(mine.shapes))]
            found += kept
        if not found and any(branch.shapes for branch in branches):
            raise self.document.refusal(
                schema,
                "oneOf cannot be enforced, since its branches overlap: no value fits exactly one of them for sure; "
                "use anyOf, or tell the branches apart by a required property with a const",
            )
        return Reading(found, exact=not overlap and all(branch.exact for branch in branches))

    def _outside(self, excluded: Reading, keyword: str, schema: Mapping[str, Any]) -> Reading:
        """Values that surely do not fit."""
        if not excluded.exact:
            raise self.document.refusal(
                schema,
                f"{keyword} cannot be enforced around not, if, multipleOf, or a oneOf whose branches overlap, since "
                "what they exclude is not known exactly; write the schema without it",
            )
        kept: list[Shape] = list(ANY)
        for b in excluded.shapes:
            kept = [shape for a in kept for shape in self._without(a, b)][:MAX_ALTERNATIVES]
        return Reading(kept, exact=False)

    def _without(self, a: Shape, b: Shape) -> list[Shape]:
        self.document.budget.spend(cost(a, b))
        found = without(a, b)
        if isinstance(a, Object) and isinstance(b, Object):
            for name, child in b.properties.items():
                found += self._without_property(a, b, name, child)
        return found

    def _without_property(self, a: Object, b: Object, name: str, child: All) -> list[Shape]:
        """Objects of `a` with a property whose value `b` does not allow."""
        self.document.budget.spend(cost(a, b))
        there = Object(required=(name,))
        candidate = intersection(a, there)
        if candidate is None:
            return []
        if self._apart(candidate, replace(b, required=(*b.required, name)), 0):
            return [candidate]
        excluded: list[Shape] = []
        for number in child:
            reading = self._read_to_compare((number,))
            if reading is None or not reading.exact:
                continue
            unlike = (self.document.number({"not": self.document.schemas[number]}),)
            shape = intersection(a, replace(there, properties={name: unlike}))
            excluded += [] if shape is None else [shape]
        return excluded

    def _apart(self, a: Shape, b: Shape, level: int) -> bool:
        """Whether surely no value has both shapes."""
        if type(a) is not type(b):
            return True
        self.document.budget.spend(cost(a, b))
        if intersection(a, b) is None:
            return True
        if level == _COMPARED_LEVELS:
            return False
        children: list[tuple[All, All]] = []
        if isinstance(a, Array) and isinstance(b, Array):
            children = [(a.item(i), b.item(i)) for i in range(min(max(a.min_items, b.min_items), _COMPARED_ITEMS))]
        if isinstance(a, Object) and isinstance(b, Object):
            children = [(a.property(name), b.property(name)) for name in dict.fromkeys((*a.required, *b.required))]
        return any(self._nothing_fits_both(x, y, level + 1) for x, y in children if x and y)

    def _nothing_fits_both(self, some: All, others: All, level: int) -> bool:
        one, other = self._read_to_compare(some), self._read_to_compare(others)
        if one is None or other is None or not (one.exact and other.exact):
            return False
        return all(self._apart(a, b, level) for a in one.shapes for b in other.shapes)

    def _read_to_compare(self, schemas: All) -> Reading | None:
        """What children may be; None where that depends on what is just being read."""
        outside, self._compared_from = self._compared_from, len(self._open)
        try:
            return self._read_all(schemas)
        except _BeingReadError:
            return None
        finally:
            self._compared_from = outside

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
                return keywords.array_shape(schema, self.document)
            case "object":
                return keywords.object_shape(schema, self.document)
        return keywords.number_shape(schema, self.document.draft, integer=name == "integer")


_APPLICATORS = (
    *("$ref", "const", "enum", "allOf", "anyOf", "oneOf", "not", "if"),
    *("dependencies", "dependentRequired", "dependentSchemas"),
)


# keyword: the first draft for which its reading is exact
_INEXACT_BEFORE = {
    **dict.fromkeys(("const", "propertyNames", "exclusiveMinimum", "exclusiveMaximum"), 6),
    **dict.fromkeys(("dependentRequired", "dependentSchemas"), 2019),
    "if": 7,
    "multipleOf": 9999,
}


def _tagged(shapes: Sequence[Shape], schema: Mapping[str, Any]) -> list[Shape]:
    """Where OpenAPI's `discriminator` names a property it must be there: pydantic goes by it, default or not."""
    discriminator = schema.get("discriminator")
    name = discriminator.get("propertyName") if isinstance(discriminator, Mapping) else None
    if not isinstance(name, str):
        return list(shapes)
    there = Object(required=(name,))
    return [
        s for shape in shapes if (s := intersection(shape, there) if isinstance(shape, Object) else shape) is not None
    ]


def _types(schema: Mapping[str, Any]) -> Iterable[str]:
    types = schema.get("type", _TYPES)
    names = [types] if isinstance(types, str) else dict.fromkeys(types)
    return [name for name in names if name != "integer" or "number" not in names]


def _dependencies(value: Mapping[str, Any]) -> list[Schema]:
    """For each name: it is missing, or what depends on it holds."""
    found: list[Schema] = []
    for name, dependent in value.items():
        follows: Schema = {"required": dependent} if isinstance(dependent, list) else dependent
        found.append({"anyOf": [{"properties": {name: False}}, {"allOf": [{"required": [name]}, follows]}]})
    return found
