"""Which calls come next is decided first: the question, its grammar, and what is generated after it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_qwen.output import deciding
from langchain_qwen.output.plan import plan_output
from tests.unit_tests.output.answers import allows


def tool(name: str, *arguments: str, description: str = "Something. More of it.") -> dict:
    parameters = {"type": "object", "properties": {name: {"type": "string"} for name in arguments}}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [tool("weather", "city"), tool("send", "to", "text")]


def asked(roles, tools=TOOLS, **options) -> str:
    return deciding.question(plan_output(tools=tools, **options), roles)[-1]["content"]


class TestQuestion:
    def test_shows_tools_and_what_was_said_and_called(self):
        call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo", "days": 2}}}
        roles = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "How is\nOslo?"},
            {"role": "assistant", "content": "", "tool_calls": [call, call]},
            {"role": "tool", "content": "rain"},
            {"role": "tool", "content": "Error: late"},
        ]
        assert asked(roles) == (
            "Tools:\n- weather(city): Something.\n- send(to, text): Something.\n\nConversation:\n"
            "User: How is Oslo?\nweather(city=Oslo, days=2) -> rain\nweather(city=Oslo, days=2) -> Error: late\n\n"
            "Next calls:"
        )

    @given(st.lists(st.text(max_size=3000), min_size=1, max_size=40))
    def test_is_bounded_and_a_line_a_message(self, texts):
        shown = asked([{"role": "user", "content": text} for text in texts])
        lines = shown.split("Conversation:\n")[1].split("\n")[:-2]
        assert len(lines) <= 12
        assert all(line.startswith("User: ") and len(line) < 630 for line in lines)


class TestWhenItIsAsked:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, True),
            ({"strict": True}, True),
            ({"parallel_tool_calls": False}, True),
            ({"tool_choice": "none"}, False),
            ({"tool_choice": "any"}, False),
            ({"tool_choice": "send"}, False),
        ],
    )
    def test_where_there_is_something_to_decide(self, options, expected):
        assert deciding.is_open(plan_output(tools=TOOLS, **options)) is expected

    def test_not_without_tools(self):
        assert not deciding.is_open(plan_output())


class TestGrammar:
    @pytest.mark.parametrize(
        ("options", "text", "fits"),
        [
            ({}, "none", True),
            ({}, "weather(city=Oslo)\nsend(to=a, text=b)", True),
            ({"parallel_tool_calls": False}, "weather(city=Oslo)\nsend(to=a, text=b)", False),
            ({}, "other(x=1)", False),
            ({}, "\n".join(["weather()"] * 9), False),
        ],
    )
    def test_what_may_be_said(self, options, text, fits):
        assert allows(deciding.grammar(plan_output(tools=TOOLS, **options)), text) is fits


class TestDecided:
    def test_none_means_words(self):
        words = deciding.decided(plan_output(tools=TOOLS), "none")
        assert not words.calls
        assert words.tools == TOOLS  # the prompt's beginning stays the same
        assert words.grammar

    def test_none_means_the_schema_where_there_is_one(self):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
        plan = plan_output(tools=TOOLS, response_format=form)
        assert deciding.decided(plan, "none") == plan.otherwise

    def test_one_call(self):
        plan = deciding.decided(plan_output(tools=TOOLS), "send(to=a, text=b)")
        assert plan.one_call
        assert plan.instruction is None
        assert '"name\\": \\"send\\"' in plan.grammar
        assert "weather" not in plan.grammar

    def test_several_calls_in_their_order_and_none_twice(self):
        said = "weather(city=A)\nsend(to=a, text=b)\nweather(city=A)\nweather(city=B)"
        plan = deciding.decided(plan_output(tools=TOOLS), said)
        assert not plan.one_call
        assert plan.instruction == "Make these calls now:\nweather(city=A)\nsend(to=a, text=b)\nweather(city=B)"
        calls = [("weather", {"city": "A"}), ("send", {"to": "a", "text": "b"}), ("weather", {"city": "B"})]
        written = "\n".join(
            f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'
            for name, arguments in calls
        )
        assert allows(plan.grammar, written)
        assert not allows(plan.grammar, written.partition("\n<tool_call>")[0])

    def test_arguments_that_cannot_be_enforced_are_any_object(self):
        odd = tool("odd")
        odd["function"]["parameters"] = {"type": "object", "contains": {"type": "string"}}
        assert deciding.decided(plan_output(tools=[odd]), "odd()").grammar
