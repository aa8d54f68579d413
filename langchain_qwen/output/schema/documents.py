"""A JSON Schema as a document: its draft, its schemas by number, what `$ref` refers to, and what it may cost."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Mapping
from typing import Any
from urllib.parse import unquote

from langchain_qwen.errors import InvalidSchemaError

Schema = bool | Mapping[str, Any]
All = tuple[int, ...]
"""Numbers of schemas that must all hold; the empty tuple allows anything."""

FALSE, TRUE = 0, 1
LATEST_DRAFT = 2020
_MAX_VALUES = 100_000
_MAX_CHARACTERS = 2_000_000
_MAX_LEVELS = 100
_WORK = 300_000
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_REFUSED = {
    "contains": "say in `description` what the array should hold",
    "minContains": "remove it",
    "maxContains": "remove it",
    "unevaluatedProperties": "list all properties in one schema, with additionalProperties",
    "unevaluatedItems": "use items, with maxItems",
    "$dynamicRef": "use $ref",
    "$recursiveRef": "use $ref",
    "disallow": "use not, of draft 2020-12",
    "extends": "use allOf, of draft 2020-12",
    "divisibleBy": "use multipleOf, of draft 2020-12",
}


class Budget:
    """The work that the schemas of one grammar may cause, whoever wrote them: about a second's worth."""

    def __init__(self) -> None:
        self._left = _WORK

    def spend(self, amount: int) -> None:
        """Note some work: 1 is about a microsecond or two.

        Raises:
            InvalidSchemaError: When there was too much of it.
        """
        self._left -= amount
        if self._left < 0:
            raise InvalidSchemaError(
                "the schema is too large or too intricate to be enforced: it has too many properties, values, "
                "patterns, or combinations of anyOf, allOf, oneOf, if and dependencies; simplify it"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_schema(value: Any) -> bool:
    return isinstance(value, (bool, Mapping))


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


# keyword: (what its value must be, whether it is)
_FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {}
for _keywords, _form, _fits in (
    ("not if then else propertyNames additionalProperties additionalItems", "a schema", _is_schema),
    ("allOf anyOf oneOf prefixItems", "a list of schemas", lambda v: isinstance(v, list) and all(map(_is_schema, v))),
    (
        "properties patternProperties dependentSchemas",
        "an object of schemas",
        lambda v: isinstance(v, Mapping) and all(map(_is_schema, v.values())),
    ),
    ("items", "a schema or a list of them", lambda v: all(map(_is_schema, v if isinstance(v, list) else [v]))),
    (
        "dependencies dependentRequired",
        "an object of lists of names or of schemas",
        lambda v: isinstance(v, Mapping) and all(_is_schema(d) or _are_names(d) for d in v.values()),
    ),
    ("minimum maximum", "a number", _is_number),
    ("exclusiveMinimum exclusiveMaximum", "a number", lambda v: _is_number(v) or isinstance(v, bool)),  # draft 4: flags
    ("multipleOf", "a number above 0", lambda v: _is_number(v) and v > 0),
    (
        "minLength maxLength minItems maxItems minProperties maxProperties",
        "a whole number from 0",
        lambda v: _is_number(v) and v >= 0 and v % 1 == 0,
    ),
    ("pattern $ref", "a string", lambda v: isinstance(v, str)),
    ("required", "a list of names", _are_names),
    ("enum", "a list", lambda v: isinstance(v, list)),
    ("uniqueItems", "true or false", lambda v: isinstance(v, bool)),
):
    _FORMS |= dict.fromkeys(_keywords.split(), (_form, _fits))


class Document:
    """A schema with everything that its references can reach.

    Equal schemas have the same number, so that work is done once for all of them.

    Raises:
        InvalidSchemaError: For a schema that is too large, nested too deeply, or no JSON.
    """

    def __init__(self, schema: Schema, budget: Budget):
        self.budget = budget
        self.schemas: list[Schema] = []
        self._numbers: dict[Hashable, int] = {}
        self._numbers_by_object: dict[int, int] = {}
        self._made: list[Any] = []  # keeps alive what _numbers_by_object knows by its address
        self._places: dict[int, tuple[int, str | int]] = {}  # of containers: that they are in, and where in it
        self._named: dict[str, Mapping[str, Any]] = {}
        self.root = schema
        self._survey()
        self.draft = _draft(schema)
        assert (self.number(False), self.number(True)) == (FALSE, TRUE)

    def number(self, value: Any) -> int:
        """The number of a schema, a part of the document or made for it; what is in it gets numbers as well."""
        if isinstance(value, (Mapping, list)):
            if id(value) in self._numbers_by_object:
                return self._numbers_by_object[id(value)]
            key: Hashable
            if isinstance(value, list):
                key = (list, *map(self.number, value))
            else:
                key = (dict, *((name, self.number(child)) for name, child in value.items()))
        else:
            key = (type(value), value)  # to Python, 1 equals True
        if key not in self._numbers:
            self.budget.spend(1)
            self._numbers[key] = len(self.schemas)
            self.schemas.append(value)
        if isinstance(value, (Mapping, list)):
            self._made.append(value)
            self._numbers_by_object[id(value)] = self._numbers[key]
        return self._numbers[key]

    def schema(self, number: int) -> Schema:
        """The schema with a number, whose keywords have the right form.

        Raises:
            InvalidSchemaError: For a keyword that has the wrong form or cannot be enforced, with its place.
        """
        schema = self.schemas[number]
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise InvalidSchemaError(f"a schema must be an object, true or false, not {_shown(schema)}")
        for keyword, value in schema.items():
            form, fits = _FORMS.get(keyword, ("anything", lambda _: True))
            if not fits(value):
                raise self.refusal(schema, f"{keyword} must be {form}, not {_shown(value)}")
            if keyword in _REFUSED:
                raise self.refusal(schema, f"{keyword} cannot be enforced; {_REFUSED[keyword]}")
        types = schema.get("type", [])
        for name in [types] if not isinstance(types, list) else types:
            if name not in _TYPES:
                raise self.refusal(schema, f"type {_shown(name)} does not exist; there are {', '.join(_TYPES)}")
        return schema

    def refusal(self, schema: Any, message: str) -> InvalidSchemaError:
        """An error that says where in the document the schema stands."""
        path: list[str] = []
        at = id(schema)
        while at in self._places:
            at, key = self._places[at]
            path.insert(0, str(key).replace("~", "~0").replace("/", "~1"))
        return InvalidSchemaError(f"{message} (at #/{'/'.join(path)})" if path else message)

    def resolve(self, reference: str) -> int:
        """The number of what a `$ref` refers to.

        Raises:
            InvalidSchemaError: For what is not in this document.
        """
        if reference in self._named:
            return self.number(self._named[reference])
        base, _, fragment = reference.partition("#")
        if (base and base not in self._named) or self._other_bases:
            raise InvalidSchemaError(
                f"$ref {_shown(reference)} leads out of the schema, or to an embedded one with its own $id; "
                "copy what it refers to into $defs and refer to it as '#/$defs/...'"
            )
        target: Any = self._named[base] if base else self.root
        for part in unquote(fragment).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(key)] if isinstance(target, list) else target[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise InvalidSchemaError(f"$ref {_shown(reference)}: there is no {_shown(key)} in the schema") from None
        if fragment and not fragment.startswith("/"):
            raise InvalidSchemaError(f"$ref {_shown(reference)}: the schema has no $anchor of this name")
        return self.number(target)

    def _survey(self) -> None:
        """Look at everything once, level by level: sizes, places, names."""
        values, characters = 0, 0
        self._other_bases = False
        level: list[tuple[Any, bool]] = [(self.root, False)]  # (value, whether it is below an $id of its own)
        for depth in range(_MAX_LEVELS + 1):
            values += len(level)
            if values > _MAX_VALUES or characters > _MAX_CHARACTERS:
                raise InvalidSchemaError(
                    f"the schema is too large to be enforced: it may have {_MAX_VALUES:,} values and "
                    f"{_MAX_CHARACTERS:,} characters at most"
                )
            below: list[tuple[Any, bool]] = []
            for value, based in level:
                if isinstance(value, float) and not math.isfinite(value):
                    raise InvalidSchemaError(f"the schema holds {value}, which is no JSON number")
                characters += len(value) if isinstance(value, str) else 0
                if isinstance(value, Mapping):
                    characters += sum(len(key) for key in value)
                    based = based or (depth > 0 and _is_base(value))
                    # Below an `$id` of its own, "#/..." would start there.
                    self._other_bases |= based and "$ref" in value
                    self._named |= dict.fromkeys(_names(value), value)
                elif not isinstance(value, list):
                    continue
                for key, child in value.items() if isinstance(value, Mapping) else enumerate(value):
                    if isinstance(child, (Mapping, list)):
                        self._places[id(child)] = (id(value), key)
                    below.append((child, based))
            level = below
            if not level:
                return
        raise InvalidSchemaError(
            f"the schema nests too deeply to be enforced: it may have {_MAX_LEVELS} levels at most; use $defs and $ref"
        )


def check_levels(value: Any) -> None:
    """Refuse what Python's own JSON encoder would fail on: tools or a schema that nest deeply, or into themselves.

    Raises:
        InvalidSchemaError: When it does.
    """
    level = [value]
    for _ in range(2 * _MAX_LEVELS):
        containers = [child for child in level if isinstance(child, (Mapping, list, tuple))]
        level = [c for child in containers for c in (child.values() if isinstance(child, Mapping) else child)]
        if not level:
            return
        if len(level) > _MAX_VALUES:
            break
    raise InvalidSchemaError(
        f"the schema nests too deeply or is too large to be enforced: it may have {_MAX_LEVELS} levels and "
        f"{_MAX_VALUES:,} values at most; use $defs and $ref"
    )


def _shown(value: Any) -> str:
    """A value for an error message, not at any length."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _draft(schema: Schema) -> int:
    """4, 6, 7, 2019 or 2020; as validators do, the latest where `$schema` is missing or unknown."""
    declared = str(schema.get("$schema", "")) if isinstance(schema, Mapping) else ""
    found = re.search(r"json-schema\.org/draft(?:-0|/)(3|4|6|7|2019|2020)\b", declared)
    draft = int(found[1]) if found else LATEST_DRAFT
    if draft == 3:
        raise InvalidSchemaError("JSON Schema draft 3 is not supported; convert the schema to draft 2020-12")
    return draft


def _names(schema: Mapping[str, Any]) -> list[str]:
    """What references may call a schema."""
    names = [schema[key].removesuffix("#") for key in ("$id", "id") if isinstance(schema.get(key), str)]
    names += [f"{name}#" for name in names]
    return names + ([f"#{schema['$anchor']}"] if isinstance(schema.get("$anchor"), str) else [])


def _is_base(schema: Mapping[str, Any]) -> bool:
    identifier = schema.get("$id", schema.get("id"))
    return isinstance(identifier, str) and not identifier.startswith("#")
