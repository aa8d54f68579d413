"""Grammars for tool calls, alone and beside text or JSON."""

from __future__ import annotations

import json
from typing import Annotated, Any

import jsonschema
import pydantic
import pydantic.v1
import pytest
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from typing_extensions import TypedDict

from langchain_qwen.engine.constraint import Constraint
from langchain_qwen.errors import InvalidParameterError, InvalidSchemaError
from langchain_qwen.output import grammars
from langchain_qwen.output.plan import plan_output
from tests.unit_tests.output.answers import allows, random_answers, tokenizer


def tool(name: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    function = {"name": name, "description": "A tool."}
    return {"type": "function", "function": function if parameters is None else {**function, "parameters": parameters}}


ADD = tool("add", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
SAY = tool("say", {"properties": {"text": {"type": "string"}}})
NOW = tool("now_1")
TOOLS = [ADD, SAY, NOW]


def call(text: str) -> str:
    return f"<tool_call>\n{text}\n</tool_call>"


ADD_1 = call('{"name": "add", "arguments": {"a": 1}}')
NOW_0 = call('{"name": "now_1", "arguments": {}}')


def test_a_call_in_qwens_form():
    grammar = grammars.tool_calls(TOOLS, parallel=False)
    for text in (
        ADD_1,
        NOW_0,
        call('{"name": "say", "arguments": {"text": "\\"é\\""}}'),
        call('{"name": "say", "arguments": {}}'),
    ):
        assert allows(grammar, text), text
    refused = [
        "",
        "text",
        f"text {ADD_1}",
        f"{ADD_1}\n",
        f"{ADD_1}\n{ADD_1}",
        call('{"name": "add", "arguments": {}}'),
        call('{"name": "add", "arguments": {"a": 1, "b": 2}}'),
        call('{"name": "sub", "arguments": {"a": 1}}'),
        call('{"name": "now_1", "arguments": {"x": 1}}'),
        call('{"name": "now_1"}'),
        call('{"arguments": {}, "name": "now_1"}'),
    ]
    assert [text for text in refused if allows(grammar, text)] == []


def test_parallel_calls_are_separated_by_a_line_break():
    grammar = grammars.tool_calls(TOOLS, parallel=True)
    assert allows(grammar, f"{ADD_1}\n{NOW_0}\n{ADD_1}")
    assert not allows(grammar, f"{ADD_1}{NOW_0}")


@pytest.mark.parametrize("seed", range(5))
def test_random_calls_fit(seed: int):
    validators = {t["function"]["name"]: t["function"].get("parameters", {}) for t in TOOLS}
    for text in random_answers(grammars.tool_calls(TOOLS, parallel=True), seed=seed, count=3):
        for part in text.split("</tool_call>")[:-1]:
            parsed = json.loads(part.replace("<tool_call>", "", 1))
            jsonschema.validate(parsed["arguments"], validators[parsed["name"]])


def test_text_or_calls():
    grammar = grammars.text_or_tool_calls(TOOLS, parallel=True)
    allowed = [
        "Hello",
        "{",
        '{"name": "Bob"}',
        '```json\n{"name": "Bob"}\n```',
        "a < b",
        "<tool_calls>",
        ADD_1,
        f"Sure.\n{ADD_1}\n{NOW_0}",
    ]
    assert [text for text in allowed if not allows(grammar, text)] == []
    refused = ["", f"{ADD_1} and text", call('{"name": "sub", "arguments": {}}'), "Sure. <tool_call>\n{}"]
    assert [text for text in refused if allows(grammar, text)] == []


def test_text_cannot_spell_the_tag_with_ordinary_tokens():
    grammar = grammars.text_or_tool_calls(TOOLS, parallel=True)
    matcher = Constraint(tokenizer(), grammar).matcher()
    for token in tokenizer().tokenize_str("x <tool_call"):
        matcher.accept(token)
    assert not matcher.allowed()[tokenizer().tokenize_str(">")[0]]


def test_an_answer_that_begins_like_a_coder_models_call_has_to_be_one():
    grammar = grammars.text_or_tool_calls(TOOLS, parallel=True)
    allowed = ['```json\n{\n  "name": "add",\n  "arguments": {"a": 1}\n}\n```', '{"name": "now_1", "arguments": {}}']
    assert [text for text in allowed if not allows(grammar, text)] == []
    refused = [
        '{"name": "add"}',
        '{"name": "add", "arguments": {"b": 1}}',
        '```\n{"arguments": {"b": 1}, "name": "add"}\n```',
    ]
    assert [text for text in refused if allows(grammar, text)] == []


def test_text_without_calls():
    grammar = grammars.text_without_calls(TOOLS)
    for text in ("text", " 1 < 2\n", '{"answer": "a"}', '```json\n{"name": "Ada"}\n```', "```py\n1\n```"):
        assert allows(grammar, text), text
    written = '{"name": "add", "arguments": {"b": 1}}'
    for text in ("", " \n", ADD_1, f"x {ADD_1}", written, f"```json\n{written}\n```", f"[{written}]", f"{{{written}}}"):
        assert not allows(grammar, text), text


def test_parameters_that_cannot_be_enforced_are_refused_with_the_name_of_the_tool():
    broken = tool("broken", {"type": "object", "properties": {"a": {"enum": []}}, "required": ["a"]})
    with pytest.raises(InvalidSchemaError, match="parameters of tool 'broken': no value"):
        grammars.tool_calls([ADD, broken], parallel=False)


def test_parameters_are_an_object_in_any_case():
    assert not allows(
        grammars.tool_calls([tool("f", {"$defs": {}})], parallel=False), call('{"name": "f", "arguments": 1}')
    )


def test_references_of_each_tool_are_its_own():
    def point(kind: str) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {"p": {"$ref": "#/$defs/P"}},
            "required": ["p"],
            "$defs": {"P": {"type": kind}},
        }

    grammar = grammars.tool_calls([tool("f", point("integer")), tool("g", point("string"))], parallel=False)
    assert allows(grammar, call('{"name": "f", "arguments": {"p": 1}}'))
    assert allows(grammar, call('{"name": "g", "arguments": {"p": "x"}}'))
    assert not allows(grammar, call('{"name": "f", "arguments": {"p": "x"}}'))


# -- what LangChain converts -------------------------------------------------------------------------------------------


class Child(pydantic.BaseModel):
    """A child."""

    name: str
    toys: set[str] = pydantic.Field(default_factory=set, max_length=2)


class Parent(pydantic.BaseModel):
    """A parent."""

    name: str = pydantic.Field(min_length=1, description="The name.")
    children: list[Child] = []
    favourite: Child | None = None
    marks: dict[str, float] = {}
    place: tuple[int, str] | None = None


class OldChild(pydantic.v1.BaseModel):
    """A child, in pydantic 1."""

    name: str
    age: int | None = pydantic.v1.Field(None, ge=0, lt=150)


class Old(pydantic.v1.BaseModel):
    """A parent, in pydantic 1."""

    child: OldChild
    others: list[OldChild] = []


class Typed(TypedDict, total=False):
    """A typed dict."""

    name: Annotated[str, ..., "The name."]
    marks: list[int]


def function(a: int, b: list[str] | None = None) -> str:
    """A function.

    Args:
        a: A number.
        b: Some words.
    """
    return str((a, b))


@pytest.mark.parametrize("source", [Child, Parent, Old, Typed], ids=lambda source: source.__name__)
def test_schemas_of_classes(source: Any):
    schema = convert_to_json_schema(source)
    for text in random_answers(grammars.json_schema(schema), seed=1, count=5):
        value = json.loads(text)
        jsonschema.validate(value, schema)
        if source is Parent:
            Parent.model_validate(value)
        if source is Old:
            Old.parse_obj(value)


@pytest.mark.parametrize("source", [Parent, Old, Typed, function], ids=lambda source: source.__name__)
@pytest.mark.parametrize("strict", [None, True])
def test_tools_from_classes_and_functions(source: Any, strict: bool | None):
    converted = convert_to_openai_tool(source, strict=strict)
    grammar = grammars.tool_calls([converted], parallel=False)
    answers = list(random_answers(grammar, seed=2, count=5))
    assert answers
    for text in answers:
        arguments = json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))["arguments"]
        jsonschema.validate(arguments, converted["function"]["parameters"])


def test_a_grammar_of_ones_own():
    plan = plan_output(response_format={"type": "grammar", "grammar": 'start: "a" | "b"'})
    assert plan.grammar is not None
    assert allows(plan.grammar, "a")
    assert not allows(plan.grammar, "c")
    assert plan.instruction is None
    with pytest.raises(InvalidParameterError, match="needs"):
        plan_output(response_format={"type": "grammar"})
    with pytest.raises(InvalidParameterError, match="tools"):
        plan_output(tools=TOOLS, response_format={"type": "grammar", "grammar": 'start: "a"'})
