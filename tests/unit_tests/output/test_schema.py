"""JSON Schemas as grammars: everything that comes out fits."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from benchmarks.common import DATA, read_rows
from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.grammars import json_schema
from langchain_qwen.output.schema.numbers import closed_bound, decimals, integers
from langchain_qwen.output.schema.patterns import translate, translate_forbidden
from tests.unit_tests.output.answers import allows, random_answers


def fits(schema: Any, value: Any) -> bool:
    return jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)(schema).is_valid(value)


# -- examples ------------------------------------------------------------------------------------------------------

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}
TREE = {
    "$defs": {"node": {"properties": {"value": {"type": "integer"}, "children": {"items": {"$ref": "#/$defs/node"}}}}},
    "$ref": "#/$defs/node",
}
DRAFT_4 = "http://json-schema.org/draft-04/schema#"
PATTERNED = {"patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": {"type": "string"}}
EXAMPLES: list[tuple[str, Any, list[str], list[str]]] = [
    # what, schema, what must be allowed, what must not
    (
        "an object is written like json.dumps writes it, members in order, and no others",
        PERSON,
        ['{"name": "Ünï 你好 🙂"}', '{"name": "a\\nb", "age": -3}'],
        [
            '{"name":"a"}',
            '{ "name": "a"}',
            '{"age": 1, "name": "a"}',
            '{"name": "a", "x": 1}',
            '{"age": 1}',
            '{"name": "a"}\n',
        ],
    ),
    (
        "other members only where the schema says so",
        {**PERSON, "additionalProperties": True},
        ['{"name": "a", "x": [1]}'],
        ['{"name": "a", "name": "b"}', '{"name": "a", "age": "b"}'],
    ),
    (
        "a taken name cannot be spelt in another way",
        {**PERSON, "additionalProperties": {"type": "boolean"}},
        ['{"name": "a", "ag": true}'],
        ['{"name": "a", "\\u0061ge": true}'],
    ),
    (
        "a map",
        {"type": "object", "additionalProperties": {"type": "integer"}},
        ["{}", '{"a": 1, "b": 2}'],
        ['{"a": "x"}'],
    ),
    ("an empty list of properties is a list", {"type": "object", "properties": {}}, ["{}"], ['{"a": 1}']),
    (
        "required without properties",
        {"type": "object", "required": ["b", "a"]},
        ['{"b": 1, "a": [{}]}'],
        ["{}", '{"b": 1}'],
    ),
    (
        "no type, but keywords of one",
        {"properties": {"a": {"minimum": 3}}},
        ['{"a": 3}'],
        ["[]", '"x"', '{"a": 2}', '{"a": null}'],
    ),
    ("nothing said", {}, ['"x"', "[1, {}]", "null", "-1.5e-7"], ["", "nul", "01", "NaN"]),
    ("types", {"type": ["integer", "null"]}, ["1", "null"], ["1.5", '"1"', "true"]),
    (
        "enum and const",
        {"anyOf": [{"enum": ["a b", 1.5, None, {"x": [1]}]}, {"const": True}]},
        ['"a b"', "1.5", "null", '{"x": [1]}', "true"],
        ["false", "1", '"a"', "{}"],
    ),
    ("enum beside a type", {"type": "string", "enum": ["a", 1, "bb"], "maxLength": 1}, ['"a"'], ["1", '"bb"']),
    (
        "1 and true are different",
        {"type": "object", "properties": {"a": {"enum": [1]}, "b": {"enum": [True]}}},
        ['{"a": 1, "b": true}'],
        ['{"a": true}', '{"b": 1}'],
    ),
    (
        "tuples",
        {"prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 1},
        ["[1]", '[1, "a"]'],
        ["[]", '["a"]', '[1, "a", 2]'],
    ),
    (
        "tuples before 2020-12",
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "items": [{"type": "integer"}],
            "additionalItems": {"type": "null"},
        },
        ["[]", "[1, null, null]"],
        ["[null]", "[1, 1]"],
    ),
    (
        "lengths of arrays",
        {"items": {"type": "integer"}, "minItems": 2, "maxItems": 3},
        ["[1, 2]", "[1, 2, 3]"],
        ["[]", "[1]", "[1, 2, 3, 4]", "[1,2]"],
    ),
    ("recursion", TREE, ['{"value": 1, "children": [{"children": []}]}'], ['{"children": [{"children": 1}]}']),
    (
        "allOf",
        {"allOf": [PERSON, {"properties": {"age": {"minimum": 0}}, "required": ["age"]}]},
        ['{"name": "a", "age": 0}'],
        ['{"name": "a", "age": -1}', '{"name": "a"}'],
    ),
    (
        "anyOf of what is required",
        {**PERSON, "required": [], "anyOf": [{"required": ["name"]}, {"required": ["age"]}]},
        ['{"age": 1}', '{"name": "a"}'],
        ["{}"],
    ),
    (
        "oneOf of branches that overlap",
        {"oneOf": [{"type": "integer", "minimum": 2}, {"type": "integer", "maximum": 4}]},
        ["1", "5"],
        ["2", "3", "4"],
    ),
    (
        "oneOf of objects",
        {"oneOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}, "required": ["b"]}]},
        ['{"a": 1}', '{"b": 1}'],
        ['{"a": 1, "b": 1}', "{}"],
    ),
    (
        "oneOf of many branches",
        {"oneOf": [{"type": "object", "properties": {n: {}, "z": {}}, "required": [n]} for n in "abcdefghijkl"]},
        ['{"a": 1}', '{"l": 1, "z": 2}'],
        ["{}", '{"a": 1, "b": 1}'],
    ),
    (
        "oneOf of patterns",
        {"type": "string", "oneOf": [{"pattern": "^[0-9a-f]+$"}, {"pattern": "^[0-9A-F]+$"}]},
        ['"1a"', '"1A"'],
        ['"11"', '"aA"'],
    ),
    ("not", {"type": "string", "not": {"enum": ["", "no"]}}, ['"n"', '"now"'], ['""', '"no"']),
    ("not a pattern", {"type": "string", "not": {"pattern": "^a"}}, ['"ba"', '""'], ['"a"', '"ab"']),
    (
        "if, then, else",
        {
            "properties": {"a": {"type": "boolean"}, "b": {"type": "integer"}},
            "required": ["a"],
            "if": {"properties": {"a": {"const": True}}},
            "then": {"required": ["b"]},
        },
        ['{"a": true, "b": 1}', '{"a": false}'],
        ['{"a": true}'],
    ),
    (
        "dependencies",
        {"properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}},
        ["{}", '{"b": 1}', '{"a": 1, "b": 1}'],
        ['{"a": 1}'],
    ),
    (
        "patternProperties",
        {
            "type": "object",
            "patternProperties": {"^x-": {"type": "integer"}},
            "additionalProperties": {"type": "string"},
        },
        ['{"x-a": 1, "y": "z"}'],
        ['{"x-a": "z"}', '{"y": 1}'],
    ),
    (
        "propertyNames",
        {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {"type": "integer"}},
        ['{"a": 1}', '{"a": 1, "b": 2}', "{}"],
        ['{"c": 1}'],
    ),
    ("minProperties", {**PERSON, "required": [], "minProperties": 1}, ['{"age": 1}', '{"name": "a"}'], ["{}"]),
    (
        "maxProperties",
        {**PERSON, "required": [], "maxProperties": 1},
        ["{}", '{"age": 1}'],
        ['{"name": "a", "age": 1}'],
    ),
    (
        "maxProperties of a map",
        {"type": "object", "additionalProperties": True, "maxProperties": 1},
        ["{}", '{"a": 1}'],
        ['{"a": 1, "b": 1}'],
    ),
    (
        "unique items of an enumeration",
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 2},
        ['["c", "a"]', '["a", "b", "c"]'],
        ['["a"]', '["a", "a"]', '["a", "b", "a"]'],
    ),
    (
        "unique strings",
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        ["[]", '["red", "green", "blue"]'],
        ['["red", "red"]', '["red", "blue", "red"]'],
    ),
    (
        "unique numbers",
        {"type": "array", "items": {"type": "number"}, "uniqueItems": True},
        ["[1, 2, 3.5]"],
        ["[1, 1]", "[1, 1.0]", "[0, -0.0]"],
    ),
    (
        "unique objects",
        {"type": "array", "items": {"type": "object"}, "uniqueItems": True},
        ["[]", "[{}]"],
        ["[{}, {}]"],
    ),
    (
        "lengths of strings count characters",
        {"type": "string", "minLength": 2, "maxLength": 3},
        ['"né"', '"🙂🙂🙂"', '"\\n\\""'],
        ['"é"', '"abcd"'],
    ),
    ("a pattern is searched for", {"type": "string", "pattern": "[0-9]{2}$"}, ['"12"', '"ab12"'], ['"12a"', '"1"']),
    ("pattern and length", {"type": "string", "pattern": "^a+$", "minLength": 3}, ['"aaa"'], ['"aa"', '"aab"']),
    (
        "lookaheads at the beginning",
        {"type": "string", "pattern": "^(?!.*--)(?=.*[0-9])[a-z0-9-]+$"},
        ['"a-1"'],
        ['"a--1"', '"a-b"'],
    ),
    (
        "pydantic's Decimal",
        {"type": "string", "pattern": "^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$"},
        ['"-1.50"', '"3"'],
        ['"-"', '"."', '""', '"1.2.3"'],
    ),
    (
        "dates exist",
        {"type": "string", "format": "date"},
        ['"2024-02-29"', '"1999-12-31"'],
        ['"2023-02-29"', '"2023-04-31"', '"0000-01-01"', '"1900-02-29"'],
    ),
    (
        "times exist",
        {"type": "string", "format": "date-time"},
        ['"2024-02-29T23:59:59.25Z"', '"2024-01-01T00:00:00+05:30"'],
        ['"2024-01-01T24:00:00Z"', '"2024-01-01T00:00:60Z"'],
    ),
    ("unknown formats are annotations", {"type": "string", "format": "color"}, ['"red"'], ["1"]),
    (
        "a format that contradicts the rest is left out",
        {"type": "string", "format": "uuid", "maxLength": 5},
        ['"abc"'],
        ['"abcdef"'],
    ),
    (
        "bounds of integers",
        {"type": "integer", "minimum": -2, "exclusiveMaximum": 11},
        ["-2", "0", "10"],
        ["-3", "11", "1.0", "-0", "00"],
    ),
    (
        "bounds of numbers",
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1.5},
        ["0.1", "1", "1.50"],
        ["0", "0.0", "1.51", "2", "-1"],
    ),
    (
        "bounds of 64 bits are exact",
        {"type": "integer", "maximum": 9223372036854775807},
        ["9223372036854775807"],
        ["9223372036854775808"],
    ),
    (
        "what is read back is within an open bound",
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        ["0.9999999999999999"],
        ["0.99999999999999999", "1"],
    ),
    (
        "bounds of draft 4",
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "type": "integer",
            "minimum": 3,
            "exclusiveMinimum": True,
        },
        ["4"],
        ["3"],
    ),
    (
        "to draft 4, 1.0 is no integer",
        {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer", "enum": [1.0, 2, 2.5]},
        ["1", "2"],
        ["1.0", "2.5"],
    ),
    ("multiples", {"type": "integer", "multipleOf": 7}, ["0", "-14", "700"], ["1", "13"]),
    (
        "multiples between open bounds",
        {"type": "integer", "multipleOf": 2, "exclusiveMinimum": -2000, "exclusiveMaximum": 4000},
        ["-1998", "0", "3998"],
        ["-2000", "4000"],
    ),
    ("multiples of a half", {"type": "number", "multipleOf": 0.5}, ["1.5", "-2"], ["0.25"]),
    (
        "multiples in a small range",
        {"type": "number", "multipleOf": 0.1, "minimum": 0, "maximum": 0.2},
        ["0.1"],
        ["0.15", "0.3"],
    ),
    (
        "beside $ref, keywords count from 2019-09 on",
        {"$defs": {"a": {"type": "integer"}}, "$ref": "#/$defs/a", "minimum": 5},
        ["5"],
        ["4"],
    ),
    (
        "beside $ref, keywords are ignored in draft 7",
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"a": {"type": "integer"}},
            "allOf": [{"$ref": "#/definitions/a", "minimum": 5}],
        },
        ["4"],
        ['"a"'],
    ),
    (
        "references by anchor, and with escapes",
        {"$defs": {"a/b~": {"$anchor": "x", "type": "null"}}, "anyOf": [{"$ref": "#x"}, {"$ref": "#/$defs/a~1b~0"}]},
        ["null"],
        ["1"],
    ),
    (
        "unknown keywords, nullable among them, say nothing",
        {"type": "string", "nullable": True, "x-y": {"z": 1}},
        ['"a"'],
        ["null"],
    ),
]


@pytest.mark.parametrize(("schema", "allowed", "refused"), [e[1:] for e in EXAMPLES], ids=[e[0] for e in EXAMPLES])
def test_examples(schema: Any, allowed: list[str], refused: list[str]):
    grammar = json_schema(schema)
    for text in allowed:
        assert fits(schema, json.loads(text)), f"wrong example: {text}"
    assert [text for text in allowed if not allows(grammar, text)] == []
    assert [text for text in refused if allows(grammar, text)] == []
    for text in random_answers(grammar, seed=0, count=6):
        assert fits(schema, json.loads(text)), text


def test_answers_of_a_model_that_stops_early_are_not_there():
    assert not allows(json_schema(PERSON), '{"name": "a"')


def test_json_object_is_any_object():
    grammar = json_schema({"type": "object"})
    assert allows(grammar, '{"a": [1, {"b": null}]}')
    assert not allows(grammar, "[]")


UNENFORCEABLE: list[tuple[Any, str]] = [
    ({"enum": []}, "no value"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "no value"),
    ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "no value"),
    ({"type": "string", "pattern": "^a$", "minLength": 2}, "no value"),
    ({"allOf": [{"type": "string"}, {"type": "null"}]}, "no value"),
    ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "no value"),
    (
        {"$defs": {"n": {"properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}}, "$ref": "#/$defs/n"},
        "no value",
    ),
    ({"oneOf": [{"type": "string"}, {"type": "string"}]}, "no value"),
    (
        {
            "$defs": {"a": {"type": "array", "minItems": 2, "items": {"oneOf": [{"$ref": "#/$defs/a"}] * 3}}},
            "$ref": "#/$defs/a",
        },
        "oneOf cannot be enforced, since its branches overlap.*#/.defs/a/items",
    ),
    ({"contains": {"type": "string"}}, "contains cannot be enforced"),
    ({"properties": {"a": {"unevaluatedItems": False}}}, r"unevaluatedItems cannot be enforced.*at #/properties/a"),
    ({"allOf": [PERSON], "unevaluatedProperties": False}, "unevaluatedProperties cannot be enforced; list all"),
    ({"$ref": "#"}, "leads back to itself"),
    (
        {
            "oneOf": [
                {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/$defs/b"}}},
                {"type": "object", "required": ["a"], "properties": {"a": {"const": 1}}},
            ],
            "$defs": {"b": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/b"}]}},
        },
        "leads back to itself",
    ),
    ({"$ref": "#/$defs/a"}, "there is no '\\$defs'"),
    ({"$ref": "http://example.com/a.json"}, "copy what it refers to"),
    ({"type": "str"}, "type 'str' does not exist; there are null, boolean"),
    ({"required": True}, "required must be a list of names"),
    ({"properties": []}, "properties must be an object of schemas"),
    ({"properties": {"a": {"minLength": -1}}}, "minLength must be a whole number from 0"),
    ({"items": "string"}, "items must be a schema"),
    ({"type": "string", "pattern": "a(b"}, "is not a regular expression"),
    ({"type": "string", "pattern": r"\bword"}, "word boundary"),
    ({"type": "string", "pattern": r"a(?!b)"}, "lookaround"),
    ({"type": "string", "pattern": r"(a)\1"}, "back reference"),
    ({"type": "number", "multipleOf": 0.01}, "multipleOf 0.01 cannot be enforced"),
    ({"type": "object", "additionalProperties": True, "minProperties": 2}, "minProperties 2"),
    ({"type": "array", "items": {"type": "object"}, "uniqueItems": True, "minItems": 2}, "uniqueItems with minItems 2"),
    ({"$dynamicRef": "#a"}, r"\$dynamicRef cannot be enforced"),
    ({"$schema": "http://json-schema.org/draft-03/schema#", "type": "string"}, "draft 3"),
]


@pytest.mark.parametrize(("schema", "message"), UNENFORCEABLE, ids=[str(case[0]) for case in UNENFORCEABLE])
def test_what_cannot_be_enforced_is_refused(schema: Any, message: str):
    with pytest.raises(InvalidSchemaError, match=message):
        json_schema(schema)


NOT_AN_INTEGER = {"type": "number", "not": {"type": "integer"}}
UNSOUND: list[tuple[str, Any, list[str]]] = [
    # what a reading that is too narrow would let through
    ("numbers", {"oneOf": [{"type": "number"}, NOT_AN_INTEGER]}, ["2.5"]),
    (
        "arrays",
        {"type": "array", "oneOf": [{"items": {"type": "integer"}}, {"not": {"uniqueItems": True}}]},
        ["[1, 1]"],
    ),
    ("anything", {"oneOf": [True, {"oneOf": [True, {"type": "string"}]}]}, ["1", "null"]),
    (
        "objects",
        {"type": "object", "oneOf": [{"properties": {"a": {}}}, {"not": {"additionalProperties": False}}]},
        ['{"a": 1}'],
    ),
    ("condition", {"oneOf": [{"type": "integer"}, {"if": {"minimum": 3}, "then": {"type": "string"}}]}, ["1", "2"]),
    ("not not", {"type": "number", "not": NOT_AN_INTEGER}, ["2.5"]),
    ("large bounds", {"oneOf": [{"maximum": 1e30}, {"minimum": 1e30}]}, [f"{10**30}.0", str(int(1e30))]),
    ("next to a large bound", {"oneOf": [{"exclusiveMaximum": 2**60}, {"minimum": 2**60 - 50}]}, [str(2**60 - 10)]),
    ("draft 4 has no const", {"$schema": DRAFT_4, "oneOf": [{"const": "a"}, {"type": "string"}]}, ['"b"']),
    ("a crossing of lengths", {"type": "array", "minItems": 2, "maxItems": 1}, ["[1]", "[1, 2]"]),
    ("floats are multiples about", {"oneOf": [{"multipleOf": 0.1}, {"type": "number"}]}, ["0.1"]),
    (
        "patterns of both sides",
        {
            "type": "object",
            "oneOf": [
                {"allOf": [PATTERNED, {"patternProperties": {"b": {}}, "additionalProperties": {"type": "null"}}]},
                {"required": ["ab"], "properties": {"ab": {"type": "integer"}}},
            ],
        },
        ['{"ab": 1}'],
    ),
]


@pytest.mark.parametrize(("schema", "wrong"), [e[1:] for e in UNSOUND], ids=[e[0] for e in UNSOUND])
def test_what_a_schema_excludes_is_never_guessed_from_a_narrow_reading(schema: Any, wrong: list[str]):
    assert [text for text in wrong if fits(schema, json.loads(text))] == []
    try:
        grammar = json_schema(schema)
    except InvalidSchemaError as error:
        assert re.search("oneOf|not|no value", str(error))  # noqa: PT017
        return
    assert [text for text in wrong if allows(grammar, text)] == []


def test_a_refusal_names_the_keyword_and_its_place():
    schema = {"properties": {"a/b": {"items": [{}, {"oneOf": [NOT_AN_INTEGER, {"type": "string"}]}]}}}
    with pytest.raises(InvalidSchemaError, match=r"oneOf cannot be enforced where .* \(at #/properties/a~1b/items/1\)"):
        json_schema(schema)


def test_what_nothing_fits_is_left_out_where_it_can_be():
    schema = {"properties": {"a": {"enum": []}, "b": {"items": False}}, "anyOf": [{"properties": {"b": True}}, False]}
    grammar = json_schema(schema)
    assert allows(grammar, '{"b": []}')
    assert not allows(grammar, '{"a": 1}')


# -- random schemas ------------------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c d", "é"])
constants = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "a", "b", "ab", 0.5, [], {"a": 1}])
)
bounds = st.integers(-20, 20) | st.sampled_from([0.5, -1.25, 2.0])


def some(keywords: dict[str, st.SearchStrategy[Any]], **always: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({key: st.just(value) for key, value in always.items()}, optional=keywords)


scalars = st.one_of(
    st.just(True),
    st.just({}),
    st.builds(lambda values: {"enum": values}, st.lists(constants, min_size=1, max_size=4)),
    st.sampled_from([{"type": "null"}, {"type": "boolean"}, {"type": ["string", "integer", "null"]}]),
    some({"minimum": bounds, "maximum": st.integers(20, 30)}, type="integer"),
    some({"minimum": bounds, "exclusiveMaximum": st.integers(21, 30)}, type="number"),
    some(
        {
            "minLength": st.integers(0, 2),
            "maxLength": st.integers(2, 4),
            "pattern": st.sampled_from(["a", "^[ab]*$", "b$"]),
        },
        type="string",
    ),
)


def containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        some(
            {
                "items": children,
                "minItems": st.integers(0, 2),
                "maxItems": st.integers(2, 3),
                "prefixItems": st.lists(children, max_size=2),
                "uniqueItems": st.booleans(),
            },
            type="array",
        ),
        some(
            {
                "properties": st.dictionaries(names, children, max_size=3),
                "required": st.lists(names, max_size=2, unique=True),
                "additionalProperties": children,
                "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$", "."]), children, max_size=2),
                "minProperties": st.integers(0, 1),
                "maxProperties": st.integers(2, 3),
                "dependentRequired": st.dictionaries(names, st.lists(names, max_size=1), max_size=1),
            },
            type="object",
        ),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(children, min_size=1, max_size=3)),
    )


def combinations(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    branches = st.lists(children, min_size=1, max_size=3)
    return st.one_of(
        containers(children),
        st.builds(lambda some: {"allOf": some}, branches),
        st.builds(lambda some: {"oneOf": some}, branches),
        st.builds(lambda one, other: {"allOf": [one, {"not": other}]}, children, children),
        st.builds(lambda a, b, c: {"if": a, "then": b, "else": c}, children, children, children),
        st.builds(lambda one: {**(one if isinstance(one, dict) else {}), "contains": {"type": "integer"}}, children),
    )


@settings(max_examples=150, deadline=None)
@given(st.recursive(scalars, combinations, max_leaves=6), st.integers(0, 1000))
def test_every_finished_answer_fits(schema: Any, seed: int):
    try:
        grammar = json_schema(schema)
    except InvalidSchemaError:
        return  # contradictions are likely here
    for text in random_answers(grammar, seed=seed, count=3):
        assert fits(schema, json.loads(text)), text


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.just({"$ref": "#/$defs/a"}) | scalars, combinations, max_leaves=5), st.integers(0, 1000))
def test_every_finished_answer_fits_recursive_schemas(schema: Any, seed: int):
    document = {"$defs": {"a": schema}, "type": ["array", "object"], "items": {"$ref": "#/$defs/a"}}
    try:
        grammar = json_schema(document)
    except InvalidSchemaError:
        return
    for text in random_answers(grammar, seed=seed, count=3):
        assert fits(document, json.loads(text)), text


plain_objects = st.recursive(
    scalars,
    lambda children: (
        some({"items": children}, type="array")
        | some({"required": st.lists(names, max_size=2, unique=True)}, type="object").flatmap(
            lambda schema: st.fixed_dictionaries(
                {
                    **{k: st.just(v) for k, v in schema.items()},
                    "properties": st.dictionaries(names, children, max_size=3),
                }
            )
        )
    ),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(plain_objects, st.integers(0, 1000))
def test_plain_schemas_always_compile_and_come_to_an_end(schema: Any, seed: int):
    assert list(random_answers(json_schema(schema), seed=seed, count=3, max_tokens=2000))


# -- numbers and patterns, against naive implementations -----------------------------------------------------------

limits = st.none() | st.integers(-1200, 1200)


@settings(max_examples=200, deadline=None)
@given(limits, limits, st.integers(-12000, 12000))
def test_integer_ranges(low: int | None, high: int | None, value: int):
    pattern = integers(low, high)
    wanted = (low is None or low <= value) and (high is None or value <= high)
    assert bool(pattern and re.fullmatch(pattern, str(value))) == wanted


@settings(max_examples=300, deadline=None)
@given(limits, limits, st.sampled_from([1, 10, 1000]), st.decimals(-1500, 1500, places=4), st.integers(0, 3))
def test_decimal_ranges(low: int | None, high: int | None, scale: int, value: Decimal, zeros: int):
    first, last = (None if limit is None else Decimal(limit) / scale for limit in (low, high))
    pattern = decimals(first, last)
    wanted = (first is None or first <= value) and (last is None or value <= last)
    for text in (f"{value}{'0' * zeros}", f"{value.normalize():f}"):
        if not (value == 0 and text.startswith("-")):  # there is no -0
            assert bool(pattern and re.fullmatch(pattern, text)) == wanted, text


@given(st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.sampled_from(["", "0", "1", "9999999999"]))
@example(bound=-5e-324, upper=False, digits="1")
def test_closed_bounds_hold_for_what_is_read_back(bound: float, upper: bool, digits: str):
    closed = closed_bound(bound, exclusive=True, upper=upper)
    text = f"{closed:f}"
    text += digits if "." in text and (closed < 0) == upper else ""  # further digits lead away from the bound
    assert float(text) < bound if upper else float(text) > bound


PATTERNS = [
    "a",
    "^a",
    "b$",
    "^a|b$",
    "^(a|b)$",
    "^(a$|b)",
    "[^a]",
    ".",
    "^.$",
    r"^\d\w$",
    r"^\D\s?$",
    r"\W",
    r"^[^\W\d]+$",
    "(?i)^A",
    "^(?=a)",
    "^(?!a)",
    "a{2,}",
    "^(?:a|b)*?1$",
    "",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_translated_patterns_are_narrow_and_those_that_must_not_match_are_wide(pattern: str):
    translation = translate(pattern)
    required, forbidden = [[whole(p) for p in part] for part in (translation.required, translation.forbidden)]
    avoided = None if "(?=" in pattern or "(?!" in pattern else whole(translate_forbidden(pattern))
    for characters in itertools.chain.from_iterable(itertools.product("ab1 \né٣²", repeat=n) for n in range(4)):
        text = "".join(characters)
        found = bool(re.search(pattern, text))
        matches = all(match(text) for match in required) and not any(match(text) for match in forbidden)
        assert found or not matches, text
        assert avoided is None or avoided(text) or not found, text
        if text.isascii() and "\n" not in text:
            assert matches == found, text


def whole(pattern: str) -> Callable[[str], bool]:
    """Full matches, by llguidance."""
    tokenizer = LLTokenizer("byte")
    matcher = LLMatcher(tokenizer, f'start: T\nT: "<" /{pattern}/ ">"')

    def match(text: str) -> bool:
        matcher.reset()
        data = f"<{text}>".encode()
        return matcher.try_consume_tokens(list(data)) == len(data) and matcher.is_accepting()

    return match


# -- schemas from the wild -----------------------------------------------------------------------------------------

REAL = DATA / "json_schemas.jsonl"


@pytest.mark.skipif(not REAL.exists(), reason="the evaluation sets are not here")
def test_real_schemas():
    rows = read_rows(REAL)
    finished = 0
    for row in rows:
        for text in random_answers(json_schema(row["schema"]), seed=0, count=2, max_tokens=500):
            assert fits(row["schema"], json.loads(text)), (row["id"], text)
            finished += 1
    assert finished > len(rows)
