"""A JSON Schema as a document: its draft, what `$ref` refers to, and whether its keywords have the right form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.schema.shapes import Schema

LATEST_DRAFT = 2020
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_NOT_ENFORCEABLE = ("$dynamicRef", "$recursiveRef", "disallow", "extends", "divisibleBy")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_schema(value: Any) -> bool:
    return isinstance(value, (bool, Mapping))


# keyword: (what its value must be, whether it is)
_FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {}
for _keywords, _form, _fits in (
    ("not if then else contains propertyNames additionalProperties additionalItems", "a schema", _is_schema),
    ("allOf anyOf oneOf prefixItems", "a list of schemas", lambda v: isinstance(v, list) and all(map(_is_schema, v))),
    (
        "properties patternProperties dependentSchemas",
        "an object of schemas",
        lambda v: isinstance(v, Mapping) and all(map(_is_schema, v.values())),
    ),
    ("items", "a schema or a list of them", lambda v: all(map(_is_schema, v if isinstance(v, list) else [v]))),
    ("minimum maximum", "a number", _is_number),
    (
        "exclusiveMinimum exclusiveMaximum",
        "a number",
        lambda v: _is_number(v) or isinstance(v, bool),
    ),  # draft 4: a flag
    ("multipleOf", "a number above 0", lambda v: _is_number(v) and v > 0),
    (
        "minLength maxLength minItems maxItems minProperties maxProperties minContains maxContains",
        "a whole number from 0",
        lambda v: _is_number(v) and v >= 0 and v % 1 == 0,
    ),
    ("pattern $ref", "a string", lambda v: isinstance(v, str)),
    ("required", "a list of names", lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v)),
    ("enum", "a list", lambda v: isinstance(v, list)),
    ("uniqueItems", "true or false", lambda v: isinstance(v, bool)),
):
    _FORMS |= dict.fromkeys(_keywords.split(), (_form, _fits))


class Document:
    """A schema with everything that its references can reach."""

    def __init__(self, schema: Schema):
        self.schema = schema
        self.draft = _draft(schema)
        self.keywords = frozenset(keyword for target in _objects(schema) for keyword in target)
        self._named = {name: target for target in _objects(schema) for name in _names(target)}
        own_base = [o for o in _objects(schema) if o is not schema and _is_base(o)]
        # Below an `$id` of its own, "#/..." would start there.
        self._other_bases = any("$ref" in inner for base in own_base for inner in _objects(base))

    def resolve(self, reference: str) -> Schema:
        """What a `$ref` refers to.

        Raises:
            InvalidSchemaError: For what is not in this document.
        """
        if reference in self._named:
            return self._named[reference]
        base, _, fragment = reference.partition("#")
        if (base and base not in self._named) or self._other_bases:
            raise InvalidSchemaError(
                f"$ref {reference!r} leads out of the schema, or to an embedded one with its own $id; "
                "copy what it refers to into $defs and refer to it as '#/$defs/...'"
            )
        target: Any = self._named[base] if base else self.schema
        for part in unquote(fragment).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(key)] if isinstance(target, list) else target[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise InvalidSchemaError(f"$ref {reference!r}: there is no {key!r} in the schema") from None
        if fragment and not fragment.startswith("/"):
            raise InvalidSchemaError(f"$ref {reference!r}: the schema has no $anchor of this name")
        return check(target)


def check(schema: Any) -> Schema:
    """Check the form of the keywords of one schema, not of those inside it.

    Raises:
        InvalidSchemaError: For a keyword that has the wrong form or that no grammar can enforce.
    """
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, Mapping):
        raise InvalidSchemaError(f"a schema must be an object, true or false, not {schema!r}")
    for keyword, value in schema.items():
        form, fits = _FORMS.get(keyword, ("anything", lambda _: True))
        if not fits(value):
            raise InvalidSchemaError(f"{keyword} must be {form}, not {value!r}")
        if keyword in _NOT_ENFORCEABLE:
            raise InvalidSchemaError(f"{keyword} cannot be enforced; write the schema without it (draft 2020-12)")
    types = schema.get("type", [])
    for name in [types] if not isinstance(types, list) else types:
        if name not in _TYPES:
            raise InvalidSchemaError(f"type {name!r} does not exist; there are {', '.join(_TYPES)}")
    return schema


def _draft(schema: Schema) -> int:
    """4, 6, 7, 2019 or 2020; as validators do, the latest where `$schema` is missing or unknown."""
    declared = str(schema.get("$schema", "")) if isinstance(schema, Mapping) else ""
    found = re.search(r"json-schema\.org/draft(?:-0|/)(3|4|6|7|2019|2020)\b", declared)
    draft = int(found[1]) if found else LATEST_DRAFT
    if draft == 3:
        raise InvalidSchemaError("JSON Schema draft 3 is not supported; convert the schema to draft 2020-12")
    return draft


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """All objects in a JSON value, itself first."""
    if isinstance(value, Mapping):
        yield value
    for child in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _objects(child)


def _names(schema: Mapping[str, Any]) -> Iterator[str]:
    for keyword in ("$id", "id"):
        if isinstance(schema.get(keyword), str):
            yield schema[keyword]
            yield schema[keyword].removesuffix("#")
    if isinstance(schema.get("$anchor"), str):
        yield f"#{schema['$anchor']}"


def _is_base(schema: Mapping[str, Any]) -> bool:
    identifier = schema.get("$id", schema.get("id"))
    return isinstance(identifier, str) and not identifier.startswith("#")
