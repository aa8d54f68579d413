"""Agents that end where their model goes in circles."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from langchain.agents.middleware import AgentMiddleware, AgentState, hook_config
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.runtime import Runtime
from pydantic import BaseModel, ConfigDict

from langchain_qwen.errors import InvalidParameterError

NOTE = "loop"
_NO_ANSWER = "I could not finish this."


class Loop(BaseModel):
    """Why a run was ended.

    Attributes:
        kind: What was repeated: a call of a tool with the same arguments, or a text.
        repeated: The call as JSON, or the text.
        times: How often it came.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["call", "text"]
    repeated: str
    times: int


class LoopGuard(AgentMiddleware[AgentState[Any], Any, Any]):
    """Ends a run in which the model makes the same call or says the same text again and again.

    ```python
    agent = create_agent(model, tools, middleware=[LoopGuard()])
    last = agent.invoke({"messages": [("human", "...")]})["messages"][-1]
    loop_in(last)  # a Loop where the run was ended, else None
    ```

    Counted is what came since the last human message. The last message then holds the best answer so far: the latest
    text of the model, else what the tools said last. Without this the run ends in `GraphRecursionError`. A `ChatQwen`
    repeats answered calls only where a tool is repeatable or `tool_hint` is off; this is for the rest, and for other
    models.

    Args:
        times: How often the same may come; the run ends when it comes so often.
    """

    def __init__(self, times: int = 3):
        super().__init__()
        if times < 2:
            raise InvalidParameterError(f"times={times}: what comes once is no loop; use 2 or more")
        self.times = times

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """End the run where its last message is a loop."""
        messages = state["messages"]
        since = _since_the_question(messages)
        last = since[-1] if since else None
        if not isinstance(last, AIMessage) or not last.tool_calls:
            return None  # the run ends anyway
        counts = Counter(said for message in since for said in _said(message))
        loops = [said for said in _said(last) if counts[said] >= self.times]
        if not loops:
            return None
        (kind, repeated), times = loops[0], counts[loops[0]]
        note = Loop(kind=kind, repeated=repeated, times=times)
        kwargs = {**last.additional_kwargs, NOTE: note.model_dump()}
        answer = {"content": _best(since), "tool_calls": [], "invalid_tool_calls": [], "additional_kwargs": kwargs}
        return {"messages": [last.model_copy(update=answer)], "jump_to": "end"}

    @hook_config(can_jump_to=["end"])
    async def aafter_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        """As `after_model`."""
        return self.after_model(state, runtime)


def loop_in(message: AnyMessage) -> Loop | None:
    """The note on the last message of a run that `LoopGuard` ended."""
    note = message.additional_kwargs.get(NOTE)
    return Loop.model_validate(note) if note is not None else None


def _since_the_question(messages: Sequence[AnyMessage]) -> Sequence[AnyMessage]:
    places = [place for place, message in enumerate(messages) if isinstance(message, HumanMessage)]
    return messages[places[-1] + 1 :] if places else messages


def _said(message: AnyMessage) -> Iterator[tuple[Literal["call", "text"], str]]:
    if not isinstance(message, AIMessage):
        return
    if text := message.text.strip():
        yield "text", text
    for call in message.tool_calls:
        yield "call", json.dumps({"name": call["name"], "arguments": call["args"]}, sort_keys=True, default=str)


def _best(messages: Sequence[AnyMessage]) -> str:
    for kind in (AIMessage, ToolMessage):
        texts = [message.text.strip() for message in messages if isinstance(message, kind)]
        if found := next((text for text in reversed(texts) if text), None):
            return found
    return _NO_ANSWER
