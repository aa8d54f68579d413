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


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo", "days": 2}}}
TOLD = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How is\nOslo?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
    {"role": "tool", "content": "rain"},
    {"role": "tool", "content": "Error: late"},
]


def asked(roles, tools=TOOLS, **options) -> str:
    return deciding.next_calls(plan_output(tools=tools, **options), roles)[-1]["content"]


class TestQuestion:
    def test_shows_tools_and_what_was_said_and_called(self):
        assert asked(TOLD) == (
            "Tools:\n- weather(city): Something.\n- send(to, text): Something.\n\nConversation:\n"
            "User: How is Oslo?\nweather(city=Oslo, days=2) -> rain\nweather(city=Oslo, days=2) -> Error: late\n\n"
            "Next calls:"
        )

    def test_an_outline_sees_no_results(self):
        shown = deciding.outline(plan_output(tools=TOOLS), TOLD)[-1]["content"]
        assert shown.endswith("Conversation:\nUser: How is Oslo?\n\nCalls:")
        assert deciding.has_results(TOLD)
        assert not deciding.has_results([*TOLD, {"role": "user", "content": "Thanks."}])

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

    def test_about_the_tools_that_run_something(self):
        plan = plan_output(tools=[*TOOLS, {**tool("Report", "text"), "extras": {"form": True}}], tool_choice="any")
        assert deciding.is_open(plan)
        assert "Report" not in deciding.outline(plan, TOLD)[-1]["content"]
        assert not allows(deciding.outline_grammar(plan), "Report(text=rain)")
        assert not allows(deciding.next_grammar(plan, {"Report"}), "Report(text=rain)")

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
        assert allows(deciding.next_grammar(plan_output(tools=TOOLS, **options), ()), text) is fits

    @pytest.mark.parametrize(
        ("text", "fits"),
        [
            ("none", True),
            ("weather(city=Oslo)\nsend(to=a, text=b)\nthen weather(city=?)", True),
            ("then weather(city=Oslo)", False),
            ("\n".join(["weather()"] * 9), False),
        ],
    )
    def test_what_an_outline_may_be(self, text, fits):
        for several in (True, False):
            assert allows(deciding.outline_grammar(plan_output(tools=TOOLS, parallel_tool_calls=several)), text) is fits


class TestWhatIsDoubted:
    @pytest.mark.parametrize(
        ("outlined", "doubted"),
        [
            ("none", []),
            ("weather(city=Oslo)\nweather(city=Lima)", []),
            ("weather(city=Oslo)\nsend(to=a)", ["weather", "send"]),
            ("weather(city=Oslo)\nthen send(to=a)", ["send"]),  # the first is there for the other
            ("weather(city=Oslo)\nsend(to=a)\nthen send(to=b)", ["weather", "send"]),
        ],
    )
    def test_are_the_tools_of_an_outline_with_several(self, outlined, doubted):
        assert deciding.tools_in_doubt(outlined) == doubted

    def test_each_is_asked_for_where_it_is_the_only_one(self):
        alone = deciding.with_tool(plan_output(tools=TOOLS), "send")
        assert deciding.outline(alone, TOLD)[-1]["content"].startswith("Tools:\n- send(to, text): Something.\n\nConv")
        assert not allows(deciding.outline_grammar(alone), "weather(city=Oslo)")

    def test_none_strikes_its_calls(self):
        outlined = "weather(city=Oslo)\nsend(to=a)\nthen send(to=b)"
        assert deciding.without(outlined, "send") == "weather(city=Oslo)"
        assert [deciding.is_none(said) for said in ("none", "no", "send", "")] == [True, True, False, False]

    def test_what_waits_for_a_result_is_struck_less_readily(self):
        leanings = [deciding.outline_bias(1536, 7, [1, 2], waits=waits) for waits in (False, True)]
        assert leanings[0][7] > leanings[1][7]
        assert leanings[0][1] == leanings[1][2] < 0
        assert [deciding.ends_a_call(token) for token in (b'")\n', b")", b"\n")] == [True, False, False]


class TestWhatIsDue:
    @pytest.mark.parametrize(
        ("outlined", "due"),
        [
            ("none", {}),
            ("weather(city=Oslo)", {}),
            ("weather(city=Oslo)\nweather(city=Lima)", {"weather": 1}),  # one of the two has failed
            ("weather(city=Oslo)\nthen send(to=a, text=?)", {"send": 1}),
        ],
    )
    def test_is_what_was_outlined_and_has_not_succeeded(self, outlined, due):
        assert deciding.due(outlined, TOLD) == due

    def test_calls_for_an_earlier_question_count_for_nothing(self):
        roles = [*TOLD, {"role": "user", "content": "And now?"}, TOLD[2], TOLD[3]]
        assert deciding.due("weather(city=Oslo)\nweather(city=Lima)", roles) == {"weather": 1}

    def test_no_other_tool_is_called_next(self):
        grammar = deciding.next_grammar(plan_output(tools=TOOLS), {"send"})
        assert allows(grammar, "send(to=a)")
        assert allows(grammar, "none")
        assert not allows(grammar, "weather(city=Oslo)")

    def test_it_leans_to_words_where_nothing_is(self):
        assert deciding.next_leaning(1536, due=False) > deciding.next_leaning(1536, due=True)


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

    def test_calls_that_wait_for_a_result_are_made_later(self):
        first = deciding.decided(plan_output(tools=TOOLS), "weather(city=A)")
        for later in ("then send(to=a, text=b)", "send(to=?, text=b)", "then weather(city=B)\nsend(to=a, text=b)"):
            assert deciding.decided(plan_output(tools=TOOLS), f"weather(city=A)\n{later}") == first

    def test_a_call_is_made_now_where_the_one_that_it_waited_for_is_struck(self):
        plan = plan_output(tools=TOOLS)
        struck = deciding.without("weather(city=A)\nthen send(to=a)\nweather(city=B)", "weather")
        assert deciding.decided(plan, struck) == deciding.decided(plan, "send(to=a)")

    def test_one_call_where_only_one_is_allowed(self):
        said = "weather(city=A)\nsend(to=a, text=b)"
        assert deciding.decided(plan_output(tools=TOOLS, parallel_tool_calls=False), said).one_call

    def test_arguments_that_cannot_be_enforced_are_any_object(self):
        odd = tool("odd")
        odd["function"]["parameters"] = {"type": "object", "contains": {"type": "string"}}
        assert deciding.decided(plan_output(tools=[odd]), "odd()").grammar
