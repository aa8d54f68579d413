"""LangChain's agents on a real model: a tool is called once, and its result is what the answer holds."""

from __future__ import annotations

import asyncio

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from pydantic import BaseModel


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city now."""
    return f"{city}: 17 degrees, light rain"


@tool
def send_message(to: str, text: str) -> str:
    """Send a message to a person."""
    return "sent"


ASKED = {"messages": [("human", "How warm is it in Bergen?")]}


def calls(state) -> list[str]:
    messages = [message for message in state["messages"] if isinstance(message, AIMessage)]
    return [call["name"] for message in messages for call in message.tool_calls]


def run(agent, way: str):
    if way == "ainvoke":
        return asyncio.run(agent.ainvoke(ASKED, {"recursion_limit": 12}))
    return agent.invoke(ASKED, {"recursion_limit": 12})


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_the_answer_holds_the_result_of_one_call(model, way):
    state = run(create_agent(model, [get_weather, send_message]), way)
    assert calls(state) == ["get_weather"]
    assert "17" in state["messages"][-1].text


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize(
    "form", [Weather, ProviderStrategy(Weather), ToolStrategy(Weather)], ids=["class", "provider", "tool"]
)
def test_an_answer_with_a_schema_holds_it_too(model, way, form):
    state = run(create_agent(model, [get_weather, send_message], response_format=form), way)
    assert [name for name in calls(state) if name != "Weather"] == ["get_weather"]
    assert state["structured_response"] == Weather(city="Bergen", degrees=17)
