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
from langchain_qwen.output.schema import Rules, json_text, literal

Tool = Mapping[str, Any]
# Control tokens of the vocabulary: ordinary text never becomes one of them.
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_BREAK = literal("\n")
# Text must not spell the tag with ordinary tokens either.
_TEXT = rf"TEXT: /(?s:.+)/ & ~/(?s:.*){_OPEN}(?s:.*)/"


def json_schema(schema: Mapping[str, Any]) -> str:
    """The answer is one JSON value that fits `schema`.

    Raises:
        InvalidSchemaError: For a schema that cannot be enforced, or that nothing fits.
    """
    return _json_schema(json.dumps(schema))


def json_object() -> str:
    """The answer is a JSON object."""
    return json_schema({"type": "object"})


def tool_calls(tools: Sequence[Tool], *, parallel: bool) -> str:
    """The answer is a call of one of `tools`, or several calls where `parallel`, in Qwen's form.

    Args:
        tools: In OpenAI's format.
        parallel: Whether one answer may hold several calls.

    Raises:
        InvalidSchemaError: For parameters that cannot be enforced, with the name of the tool.
    """
    return _tool_grammar(json.dumps(tools), None, "start: calls", parallel)


def text_or_tool_calls(tools: Sequence[Tool], *, parallel: bool) -> str:
    """The answer is text, or calls as in `tool_calls`, or text and then calls."""
    return _tool_grammar(json.dumps(tools), None, f"start: TEXT? calls | TEXT\n{_TEXT}", parallel)


def tool_calls_or_json(tools: Sequence[Tool], schema: Mapping[str, Any], *, parallel: bool) -> str:
    """The answer is one JSON value that fits `schema`, or calls as in `tool_calls`."""
    return _tool_grammar(json.dumps(tools), json.dumps(schema), "start: calls | answer", parallel)


@lru_cache(maxsize=64)
def _json_schema(schema: str) -> str:
    rules = Rules()
    return f"start: {rules.add(json.loads(schema))}\n{rules.text}"


@lru_cache(maxsize=64)
def _tool_grammar(tools: str, schema: str | None, start: str, parallel: bool) -> str:
    rules = Rules()
    calls = [_call(tool["function"], rules) for tool in json.loads(tools)]
    lines = [
        start,
        f"calls: call ({_BREAK} call)*" if parallel else "calls: call",
        f"call: {_OPEN} {_BREAK} ({' | '.join(calls)}) {_BREAK} {_CLOSE}",
    ]
    if schema is not None:
        lines.append(f"answer: {rules.add(json.loads(schema))}")
    return "\n".join([*lines, rules.text])


def _call(function: Mapping[str, Any], rules: Rules) -> str:
    try:
        arguments = rules.add(function.get("parameters") or {"properties": {}}, {"type": "object"})
    except InvalidSchemaError as error:
        raise InvalidSchemaError(f"parameters of tool {function['name']!r}: {error}") from error
    opening = f'{{"name": {json_text(function["name"])}, "arguments": '
    return f"{literal(opening)} {arguments} {literal('}')}"
