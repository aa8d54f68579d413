"""Personas of agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from pydantic import Field

from langchain_qwen import ChatQwen
from langchain_qwen.errors import OutputFormatError, PersonaError
from langchain_qwen.middleware import PersonaMiddleware
from langchain_qwen.personas import Example, LabelsForm, Persona

CAT = Persona(name="cat", instructions="You are a cat.", examples=[Example(user="Hi", assistant="Meow")])
JUDGE = Persona(name="judge", instructions="Judge.", output=LabelsForm(labels=("yes", "no")), language=None)


class Scripted(GenericFakeChatModel):
    prompts: list = Field(default_factory=list)

    def _generate(self, messages, *args, **kwargs):
        self.prompts.append(messages)
        return super()._generate(messages, *args, **kwargs)

    def bind_tools(self, tools, **kwargs):
        return self


def look() -> str:
    """Look around."""
    return "It is dark."


def agent(persona, *answers, tools=(), **kwargs):
    model = Scripted(messages=iter([AIMessage(a) if isinstance(a, str) else a for a in answers]))
    return model, create_agent(model, list(tools), middleware=[PersonaMiddleware(persona)], **kwargs)


def ask(agent, text="Who are you?", **kwargs):
    return agent.invoke({"messages": [("human", text)]}, **kwargs)["messages"]


def plain(messages):
    return [(message.type, message.text) for message in messages]


def test_the_model_sees_the_persona_and_the_state_does_not():
    model, graph = agent(CAT, "Meow!", system_prompt="It is noon.")
    assert plain(ask(graph)) == [("human", "Who are you?"), ("ai", "Meow!")]
    assert plain(model.prompts[0]) == [
        ("system", "You are a cat.\n\nIt is noon."),
        ("human", "Hi"),
        ("ai", "Meow"),
        ("human", "Who are you?"),
    ]


async def test_async():
    model, graph = agent(CAT, "Meow!")
    state = await graph.ainvoke({"messages": [("human", "Who are you?")]})
    assert state["messages"][-1].response_metadata["persona"]["name"] == "cat"
    assert model.prompts[0][0].text == "You are a cat."


@dataclass
class Context:
    persona: Any = None


@pytest.mark.parametrize("context", [Context(JUDGE), {"persona": JUDGE}])
def test_switched_by_the_runtime_context(context):
    model, graph = agent(CAT, "no", context_schema=type(context))
    assert ask(graph, context=context)[-1].text == "no"
    assert model.prompts[0][0].text.startswith("Judge.")


def test_a_context_without_a_persona():
    model, graph = agent(CAT, "Meow!", context_schema=Context)
    ask(graph, context=Context())
    assert model.prompts[0][0].text == "You are a cat."


def test_a_persona_that_is_none():
    _, graph = agent(CAT, "Meow!", context_schema=Context)
    with pytest.raises(PersonaError):
        ask(graph, context=Context("nobody"))


def test_final_answers_keep_to_the_form():
    call = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}])
    model, graph = agent(JUDGE, call, "I think so", "yes", tools=[look])
    messages = ask(graph)
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[-1].text == "yes"
    assert "none of: yes, no" in model.prompts[2][-1].text


async def test_or_are_errors():
    _, graph = agent(JUDGE, "maybe", "perhaps")
    with pytest.raises(OutputFormatError):
        await graph.ainvoke({"messages": [("human", "Well?")]})


def test_a_grammar_where_there_are_no_tools(tiny_checkpoint):
    with ChatQwen(model=str(tiny_checkpoint), precision="fp32", device="cpu") as model:
        graph = create_agent(model, [], middleware=[PersonaMiddleware(JUDGE)])
        assert ask(graph)[-1].text in ("yes", "no")
