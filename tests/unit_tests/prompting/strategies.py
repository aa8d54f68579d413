"""Conversations and tools whose every string comes from a given strategy."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage


def arguments(text: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    values = st.one_of(text, st.integers(-9, 9), st.none(), st.lists(text, max_size=2))
    return st.dictionaries(text, values, max_size=2)


@st.composite
def conversations(draw: st.DrawFn, text: st.SearchStrategy[str]) -> list[BaseMessage]:
    messages: list[BaseMessage] = []
    for _ in range(draw(st.integers(1, 4))):
        match draw(st.sampled_from(["system", "human", "named", "blocks", "developer", "ai", "calls"])):
            case "system":
                messages.append(SystemMessage(draw(text)))
            case "human":
                messages.append(HumanMessage(draw(text)))
            case "named":
                messages.append(HumanMessage(draw(text), name=draw(text)))
            case "blocks":
                messages.append(HumanMessage([draw(text), {"type": "text", "text": draw(text)}]))
            case "developer":
                messages.append(ChatMessage(draw(text), role="developer"))
            case "ai":
                messages.append(AIMessage(draw(text)))
            case "calls":
                ids = draw(st.permutations(["1", "2"]))
                calls = [{"name": draw(text), "args": draw(arguments(text)), "id": id_} for id_ in ids]
                messages.append(AIMessage(draw(text), tool_calls=calls))
                messages.extend(ToolMessage(draw(text), tool_call_id=id_) for id_ in draw(st.permutations(ids)))
    return messages


@st.composite
def tools(draw: st.DrawFn, text: st.SearchStrategy[str]) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {
                "name": draw(text),
                "description": draw(text),
                "parameters": {
                    "type": "object",
                    "properties": {draw(text): {"type": "string", "description": draw(text), "enum": [draw(text)]}},
                },
            },
        }
        for _ in range(draw(st.integers(1, 2)))
    ]
