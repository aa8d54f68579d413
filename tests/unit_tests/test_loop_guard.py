"""A run that goes in circles ends with an answer and a note, not with GraphRecursionError."""

from __future__ import annotations

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool

from langchain_qwen.middleware import LoopGuard, loop_in


class Scripted(GenericFakeChatModel):
    def bind_tools(self, tools, **kwargs):
        return self


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def calling(number: int, city: str, text: str = "") -> AIMessage:
    return AIMessage(text, tool_calls=[{"name": "weather", "args": {"city": city}, "id": f"c{number}"}])


async def run(messages, *, asynchronous, said="Weather?", **options):
    agent = create_agent(Scripted(messages=iter(messages)), [weather], middleware=[LoopGuard(**options)])
    state = {"messages": said if isinstance(said, list) else [HumanMessage(said)]}
    return (await agent.ainvoke(state) if asynchronous else agent.invoke(state))["messages"]


@pytest.mark.parametrize("asynchronous", [False, True])
class TestLoops:
    async def test_the_same_call_three_times(self, asynchronous):
        messages = await run([calling(n, "Oslo") for n in range(9)], asynchronous=asynchronous)
        assert (messages[-1].text, messages[-1].tool_calls) == ("rain in Oslo", [])
        loop = loop_in(messages[-1])
        assert (loop.kind, loop.times) == ("call", 3)
        assert "Oslo" in loop.repeated
        assert sum(bool(message.tool_calls) for message in messages if isinstance(message, AIMessage)) == 2

    async def test_the_same_text_three_times(self, asynchronous):
        calls = [calling(n, f"city {n}", "Let me see.") for n in range(9)]
        messages = await run(calls, asynchronous=asynchronous)
        assert messages[-1].text == "Let me see."
        assert loop_in(messages[-1]).kind == "text"

    async def test_the_best_answer_is_the_models_own(self, asynchronous):
        calls = [calling(0, "Oslo", "It rains."), calling(1, "Oslo"), calling(2, "Oslo")]
        assert (await run(calls, asynchronous=asynchronous))[-1].text == "It rains."

    async def test_other_calls_are_no_loop(self, asynchronous):
        messages = await run(
            [*(calling(n, f"city {n}") for n in range(5)), AIMessage("Done.")], asynchronous=asynchronous
        )
        assert messages[-1].text == "Done."
        assert loop_in(messages[-1]) is None

    async def test_what_was_asked_before_does_not_count(self, asynchronous):
        first = await run([calling(0, "a"), calling(1, "a"), AIMessage("Done.")], asynchronous=asynchronous)
        again = [*first, HumanMessage("And now?")]
        messages = await run([calling(2, "a"), AIMessage("Again.")], said=again, asynchronous=asynchronous)
        assert messages[-1].text == "Again."


def test_once_is_no_loop():
    with pytest.raises(ValueError, match="2 or more"):
        LoopGuard(1)
