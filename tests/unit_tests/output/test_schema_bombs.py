"""Schemas come from third parties: whatever they say, an answer to them takes a second of CPU and little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.grammars import json_schema
from langchain_qwen.output.plan import plan_output
from tests.unit_tests.output.bombs import BOMBS, nested

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
_SECONDS = 3.0  # on the slowest machine; about 0.7 of CPU where the budget was set


@cache
def outcomes() -> dict[str, Any]:
    """What became of each bomb, in one process with a limit of memory; a process that dies has no later ones."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit_tests.output.bombs"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = {line["name"]: line for line in lines if "name" in line}
    return found | {"last words": [lines[-1:], done.returncode, done.stderr[-2000:]]}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_a_second_at_most_and_ends_in_a_typed_error_or_a_grammar(name: str):
    outcome = outcomes().get(name)
    assert outcome is not None, outcomes()["last words"]
    assert outcome["seconds"] < _SECONDS
    must_compile = BOMBS[name][1]
    if must_compile is not None:
        assert (outcome["error"] is None) == must_compile, outcome
    assert outcome["error"] is None or outcome["error"].startswith("InvalidSchemaError: "), outcome
    assert len(outcome["error"] or "") < 600


def test_tools_that_nest_too_deeply_are_refused_even_where_their_arguments_are_free():
    parameters = {"type": "object", "properties": {"a": nested(3_000, lambda schema: {"items": schema})}}
    with pytest.raises(InvalidSchemaError, match="nests too deeply"):
        plan_output(tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}])


def test_a_schema_that_holds_itself_or_is_no_json_is_refused():
    endless: dict[str, Any] = {}
    endless["items"] = endless
    with pytest.raises(InvalidSchemaError, match="nests too deeply"):
        json_schema(endless)
    with pytest.raises(InvalidSchemaError, match="must be JSON"):
        json_schema({"default": {1, 2}})
    with pytest.raises(InvalidSchemaError, match="no JSON number"):
        json_schema({"const": float("nan")})


def test_the_budget_is_of_all_tools_together():
    def tool(number: int) -> dict[str, Any]:
        values = [f"{number} {i}" for i in range(3_000)]
        return {
            "type": "function",
            "function": {"name": f"f{number}", "parameters": {"properties": {"a": {"enum": values}}}},
        }

    plan_output(tools=[tool(0)], tool_choice="any")
    with pytest.raises(InvalidSchemaError, match=r"tool 'f.*too large or too intricate"):
        plan_output(tools=[tool(number) for number in range(30)], tool_choice="any")


def test_many_ordinary_tools_are_no_bomb():
    parameters = {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to look for.", "minLength": 1},
            "since": {"type": "string", "format": "date"},
            "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            "order": {"enum": ["newest", "oldest"]},
            "page": {"type": "integer", "minimum": 1, "default": 1},
        },
        "required": ["query"],
    }
    tools = [{"type": "function", "function": {"name": f"search_{i}", "parameters": parameters}} for i in range(100)]
    assert plan_output(tools=tools, tool_choice="any").grammar
