"""Random schemas with random finished answers: each fits, by jsonschema.

Everyday a few schemas are tried, always the same; set LANGCHAIN_QWEN_FUZZ_SCHEMAS to the number wanted, and
LANGCHAIN_QWEN_FUZZ_SEED to try others.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from typing import Any

import jsonschema
import pytest

from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.grammars import json_schema
from tests.unit_tests.output.answers import random_answers

COUNT = int(os.environ.get("LANGCHAIN_QWEN_FUZZ_SCHEMAS", "200"))
SEED = int(os.environ.get("LANGCHAIN_QWEN_FUZZ_SEED", "0"))
NAMES = ("a", "b", "kind", "c d", "é")
CONSTANTS: tuple[Any, ...] = (None, True, False, 0, 1, 1.0, -2, 2.5, "", "a", "b", "ab", [], [1], {}, {"a": 1}, [True])
PATTERNS = ("a", "^[ab]*$", "b$", "^a|b", "^.{2}$", "[^a]", r"^\d+$", r"^\w", "^(?!a)", "^(?=.*b)a?")
FORMATS = ("date", "time", "date-time", "email", "ipv4", "ipv6", "uuid", "uri", "duration", "regex", "color")
DRAFTS = ("http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-04/schema#")


class Generator:
    """Random schemas, more of those that are hard: combinations of one value's schemas, negations and references."""

    def __init__(self, seed: str):
        self._rng = random.Random(seed)
        self._definitions = self._rng.choice([0, 0, 1, 2])

    def document(self) -> Any:
        schema = self._schema(self._rng.choice([1, 2, 2, 3]))
        if self._definitions and isinstance(schema, dict):
            schema["$defs"] = {f"d{i}": self._schema(2) for i in range(self._definitions)}
        if isinstance(schema, dict) and self._rng.random() < 0.1:
            schema["$schema"] = self._rng.choice(DRAFTS)
            validator = jsonschema.validators.validator_for(schema)
            known = {**schema, "definitions": schema.get("$defs", {})}  # the name that all drafts know
            if not validator(validator.META_SCHEMA).is_valid(known):  # as true and false are not in draft 4
                del schema["$schema"]
        return schema

    def _schema(self, levels: int) -> Any:
        rng = self._rng
        if levels <= 0 and rng.random() < 0.3:
            return rng.choice([True, {}, {"type": "string"}, {"type": "integer"}, False])
        schema: dict[str, Any] = {}
        kinds = [self._number, self._string, self._values]
        kinds += [self._array, self._object, self._object, self._combination, self._combination] if levels > 0 else []
        for _ in range(rng.choice([1, 1, 1, 2])):
            rng.choice(kinds)(schema, levels)
        if self._definitions and rng.random() < 0.15:
            schema["$ref"] = f"#/$defs/d{rng.randrange(self._definitions)}"
        if rng.random() < 0.1:
            schema |= {"title": "x", "default": 1, "x-unknown": {"type": 1}, "deprecated": True}
        return schema

    def _some(self, schema: dict[str, Any], keywords: dict[str, Any]) -> None:
        schema |= {keyword: value for keyword, value in keywords.items() if self._rng.random() < 0.4}

    def _type(self, schema: dict[str, Any], name: str) -> None:
        if self._rng.random() < 0.8:
            schema["type"] = name if self._rng.random() < 0.9 else [name, self._rng.choice(["null", "boolean"])]

    def _number(self, schema: dict[str, Any], _: int) -> None:
        rng = self._rng
        self._type(schema, rng.choice(["integer", "number"]))
        bounds = [-20, -1, 0, 1, 0.5, 2.5, 7, 2**53 + 1, 1e30, 10**20 + 1, -1e300]
        keywords = {name: rng.choice(bounds) for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")}
        self._some(schema, rng.choice([keywords, {}, {"multipleOf": rng.choice([2, 3, 0.5])}]))

    def _string(self, schema: dict[str, Any], _: int) -> None:
        rng = self._rng
        self._type(schema, "string")
        keywords = {"minLength": rng.choice([0, 1, 2]), "maxLength": rng.choice([1, 2, 5])}
        choices = [keywords, {"pattern": rng.choice(PATTERNS)}, {"format": rng.choice(FORMATS)}]
        self._some(schema, rng.choice([*choices, keywords | choices[1]]))

    def _values(self, schema: dict[str, Any], _: int) -> None:
        rng = self._rng
        if rng.random() < 0.5:
            schema["const"] = rng.choice(CONSTANTS)
        elif rng.random() < 0.7:
            schema["enum"] = rng.sample(CONSTANTS, rng.randint(1, 5))
        else:
            schema["type"] = rng.choice(["null", "boolean", ["string", "number"], ["object", "array", "null"]])

    def _array(self, schema: dict[str, Any], levels: int) -> None:
        rng = self._rng
        self._type(schema, "array")
        child = self._schema(levels - 1)
        keywords = {
            "items": rng.choice([child, {"enum": ["a", "b", 1]}, {"type": "string"}]),
            "minItems": rng.choice([0, 1, 2]),
            "maxItems": rng.choice([1, 2, 3]),
            "prefixItems": [self._schema(levels - 1) for _ in range(rng.randint(0, 2))],
            "uniqueItems": rng.random() < 0.7,
        }
        self._some(schema, keywords)

    def _object(self, schema: dict[str, Any], levels: int) -> None:
        rng = self._rng
        self._type(schema, "object")
        properties = {name: self._schema(levels - 1) for name in rng.sample(NAMES, rng.randint(0, 3))}
        if rng.random() < 0.3:
            properties["kind"] = {"const": rng.choice(["a", "b", 1])}
        keywords = {
            "properties": properties,
            "required": rng.sample(NAMES, rng.randint(0, 2)),
            "additionalProperties": rng.choice([True, False, False, self._schema(levels - 1)]),
            "patternProperties": {p: self._schema(levels - 1) for p in rng.sample(PATTERNS[:4], rng.randint(1, 2))},
            "propertyNames": rng.choice([{"enum": ["a", "b", "kind"]}, {"pattern": "^[a-k]"}, {"maxLength": 4}]),
            "minProperties": 1,
            "maxProperties": rng.choice([1, 2]),
            "dependentRequired": {rng.choice(NAMES): [rng.choice(NAMES)]},
        }
        common = {key: keywords[key] for key in ("properties", "required", "additionalProperties")}
        self._some(schema, rng.choice([keywords, common, common]))

    def _combination(self, schema: dict[str, Any], levels: int) -> None:
        rng = self._rng
        branches = [self._schema(levels - 1) for _ in range(rng.randint(1, 3))]
        match rng.choice(["anyOf", "allOf", "oneOf", "oneOf", "oneOf", "not", "if"]):
            case "not":
                schema["not"] = branches[0]
            case "if":
                schema |= {"if": branches[0], "then": self._schema(levels - 1), "else": branches[-1]}
            case "oneOf":
                schema["oneOf"] = branches
                if rng.random() < 0.3:
                    schema["discriminator"] = {"propertyName": "kind"}
            case keyword:
                schema[keyword] = branches


def complaint(schema: Any, value: Any) -> str | None:
    """What jsonschema says against a value. Formats are only checked where they can be told from the rest."""
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    text = json.dumps(schema)
    plain = text.count('"format"') < 2 and not any(
        f'"{word}"' in text
        for word in ("oneOf", "not", "if", "allOf", "const", "enum", "minLength", "maxLength", "pattern")
    )
    checker = validator.FORMAT_CHECKER if plain else None
    error = next(validator(schema, format_checker=checker).iter_errors(value), None)
    return None if error is None else str(error.message)


@pytest.mark.parametrize("part", range(10))
def test_every_finished_answer_of_a_random_schema_fits(part: int):
    outcomes: Counter[str] = Counter()
    for number in range(part, COUNT, 10):
        schema = Generator(f"{SEED} {number}").document()
        try:
            grammar = json_schema(schema)
        except InvalidSchemaError:
            outcomes["refused"] += 1
            continue
        for text in random_answers(grammar, seed=number, count=3, max_tokens=120):
            found = complaint(schema, json.loads(text))
            assert found is None, f"schema {SEED} {number}: {json.dumps(schema)} lets {text} through: {found}"
            outcomes["answers"] += 1
    assert outcomes["answers"] > outcomes["refused"]
    if COUNT > 1000:
        print(part, dict(outcomes))  # noqa: T201
