"""Grammars for answers (JSON of a schema, tool calls, or either) in llguidance's Lark dialect.

Every finished answer under a grammar parses and fits its schema. A keyword that no grammar can follow exactly is
followed more strictly (see `langchain_qwen.output.schema`), or refused with `InvalidSchemaError`; none is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.schema import Rules, check_levels, json_text, literal, verbatim

Tool = Mapping[str, Any]
# Control tokens of the vocabulary. Text cannot hold them, but it could spell them with ordinary tokens.
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_BREAK = literal("\n")
# How the calls of Coder models begin: JSON, in a fenced block or bare.
_FENCE = r"(?:```[A-Za-z_+-]*[ \t]*\n)?\s*"


def json_schema(schema: Mapping[str, Any]) -> str:
    """The answer is one JSON value that fits `schema`.

    Raises:
        InvalidSchemaError: For a schema that cannot be enforced, or that nothing fits.
    """
    return _json_schema(_text(schema))


def tool_calls(tools: Sequence[Tool], *, parallel: bool) -> str:
    """The answer is a call of one of `tools`, or several calls where `parallel`, in Qwen's form.

    Args:
        tools: In OpenAI's format.
        parallel: Whether one answer may hold several calls.

    Raises:
        InvalidSchemaError: For parameters that cannot be enforced, with the name of the tool.
    """
    return _tool_calls(_text(tools), parallel)


def calls_in_turn(tools: Sequence[Tool]) -> str:
    """The answer calls each of `tools` once, in this order; one that stands here twice, twice.

    Arguments of a tool whose parameters cannot be enforced are any object.
    """
    return _calls_in_turn(_text(tools))


def text_or_tool_calls(tools: Sequence[Tool], *, parallel: bool) -> str:
    """The answer is text, or calls as in `tool_calls`, or text and then calls.

    An answer that begins like the calls of Coder models, with JSON that names one of `tools`, is such a call.
    """
    return _text_or_tool_calls(_text(tools), parallel)


def text_without_calls(tools: Sequence[Tool]) -> str:
    """The answer is text that is not blank and does not begin as a call of one of `tools`."""
    return _text_without_calls(tuple(tool["function"]["name"] for tool in tools))


def _text(schema: Any) -> str:
    """Schemas as JSON, what grammars are cached by."""
    check_levels(schema)
    try:
        return json.dumps(schema)
    except (TypeError, ValueError) as error:
        raise InvalidSchemaError(f"a schema must be JSON, which this one is not: {error}") from error


@lru_cache(maxsize=64)
def _json_schema(schema: str) -> str:
    rules = Rules()
    return _grammar(f"start: {rules.add(json.loads(schema))}", rules.text)


@lru_cache(maxsize=64)
def _tool_calls(tools: str, parallel: bool) -> str:
    rules = Rules()
    arguments = _arguments(json.loads(tools), rules)
    return _grammar("start: calls", _calls(arguments, parallel), rules.text)


@lru_cache(maxsize=64)
def _calls_in_turn(tools: str) -> str:
    rules = Rules()
    read = json.loads(tools)
    names = [tool["function"]["name"] for tool in read]
    arguments = {name: _any_arguments(tool["function"], rules) for name, tool in zip(names, read, strict=True)}
    calls = [f"{_OPEN} {_BREAK} {_object(name, arguments[name])} {_BREAK} {_CLOSE}" for name in names]
    return _grammar(f"start: {f' {_BREAK} '.join(calls)}", rules.text)


@lru_cache(maxsize=64)
def _text_without_calls(names: tuple[str, ...]) -> str:
    return _grammar("start: TEXT", rf"TEXT: /(?s:\s*\S.*)/ & {_no_call(names)}")


@lru_cache(maxsize=64)
def _text_or_tool_calls(tools: str, parallel: bool) -> str:
    rules = Rules()
    arguments = _arguments(json.loads(tools), rules)
    # Where a call begins, only its lexeme goes on, since this is no text any more.
    begins = {name: rf'/{_FENCE}\{{\s*"name"\s*:\s*"{verbatim(name)}"/' for name in arguments}
    lines = [
        "start: TEXT | TEXT? calls | written_calls",
        rf"TEXT: /(?s:.+)/ & {_no_call(tuple(arguments))}",
        r'ARGUMENTS: /\s*,\s*"arguments"\s*:\s*/',
        r"END: /\s*\}(?:\s*```)?/",
        *(f"BEGIN_{number}: {begin}" for number, begin in enumerate(begins.values())),
        "written_calls: " + " | ".join(f"BEGIN_{n} ARGUMENTS {rule} END" for n, rule in enumerate(arguments.values())),
    ]
    return _grammar(*lines, _calls(arguments, parallel), rules.text)


def _no_call(names: Sequence[str]) -> str:
    """What text must be not to be read as a call."""
    named, unnamed = rf'"name"\s*:\s*"(?:{"|".join(map(verbatim, names))})"', r'"(?:arguments|parameters)"\s*:'
    made_up = rf'"name"\s*:\s*"[^"\\]*"\s*,\s*{unnamed}'  # of a tool that there is not
    return rf"~/(?s:.*){_OPEN}(?s:.*)/ & ~/{_FENCE}(?:\[\s*)?\{{+\s*(?:{named}|{unnamed}|{made_up})(?s:.*)/"


def _arguments(tools: Sequence[Tool], rules: Rules) -> dict[str, str]:
    """The rule for the arguments of each tool, by its name."""
    return {tool["function"]["name"]: _parameters(tool["function"], rules) for tool in tools}


def _parameters(function: Mapping[str, Any], rules: Rules) -> str:
    try:
        # A function without parameters takes an empty object.
        return rules.add(function.get("parameters") or {"properties": {}}, {"type": "object"})
    except InvalidSchemaError as error:
        raise InvalidSchemaError(f"parameters of tool {function['name']!r}: {error}") from error


def _any_arguments(function: Mapping[str, Any], rules: Rules) -> str:
    try:
        return _parameters(function, rules)
    except InvalidSchemaError:  # the model has decided to call, and free text would hold the arguments to nothing
        return rules.add({"type": "object"})


def _object(name: str, arguments: str) -> str:
    opening = f'{{"name": {json_text(name)}, "arguments": '
    return f"{literal(opening)} {arguments} {literal('}')}"


def _calls(arguments: Mapping[str, str], parallel: bool) -> str:
    objects = [_object(name, rule) for name, rule in arguments.items()]
    further = f" ({_BREAK} call)*" if parallel else ""
    return f"calls: call{further}\ncall: {_OPEN} {_BREAK} ({' | '.join(objects)}) {_BREAK} {_CLOSE}"


def _grammar(*parts: str) -> str:
    return "\n".join(parts)
