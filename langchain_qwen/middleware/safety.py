"""Safety for agents: inputs checked, answers and streamed tokens filtered, tools watched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, cast

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse, hook_config
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ChatMessage, HumanMessage
from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from langchain_qwen.errors import BlockedInputError, InvalidParameterError
from langchain_qwen.inputs import check_kind
from langchain_qwen.safety.guarded_model import GuardedChatModel
from langchain_qwen.safety.input_guard import InputGuard
from langchain_qwen.safety.parser import SafetyParser

Guard = Callable[[Any], Any]


class _GuardedRequest(ModelRequest[Any]):
    """A request whose model stays guarded where a middleware further in takes another one, as a fallback."""

    guard: Guard = staticmethod(lambda model: model)  # while the request is made

    @classmethod
    def of(cls, request: ModelRequest[Any], guard: Guard) -> _GuardedRequest:
        """The same request under one more guard."""
        outer: Guard = getattr(request, "guard", lambda model: model)
        guarded = cls(**{field.name: getattr(request, field.name) for field in fields(request)})
        return guarded._under(lambda model: guard(outer(model)))

    def override(self, **overrides: Any) -> _GuardedRequest:
        return cast("_GuardedRequest", super().override(**overrides))._under(self.guard)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, self.guard(value) if name == "model" else value)

    def _under(self, guard: Guard) -> _GuardedRequest:
        # LangChain warns of plain assignments.
        object.__setattr__(self, "guard", guard)
        object.__setattr__(self, "model", guard(self.model))
        return self


class SafetyMiddleware(AgentMiddleware[AgentState[Any], Any]):
    """A policy around an agent: `create_agent(model, tools, middleware=[SafetyMiddleware(SafetyParser("balanced"))])`.

    Before the model, new user messages are checked. The model itself is replaced by its guarded form, so that streams
    show cleaned tokens only and tools are called with cleaned arguments; so is any other model that middleware further
    in takes for a call. What tools return is cleaned before the model reads it.

    Args:
        parser: The policy with what it needs.
        on_block: What a blocked input does: "end" answers with the policy's refusal and ends the agent; "replace" puts
            a note in the place of the user's text and goes on; "error" raises `BlockedInputError`.
    """

    def __init__(self, parser: SafetyParser, *, on_block: Literal["end", "replace", "error"] = "end"):
        super().__init__()
        check_kind(self, parser, SafetyParser)
        if on_block not in ("end", "replace", "error"):
            raise InvalidParameterError(f'on_block={on_block!r}: give "end", "replace" or "error"')
        self.parser = parser
        self.guard = InputGuard(parser)
        self.on_block = on_block

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """Check what the user wrote since the last answer."""
        cleaned: list[AnyMessage] = []
        for message in _since_the_last_answer(state["messages"]):
            if isinstance(message, (HumanMessage, ChatMessage)):
                try:
                    clean = cast("AnyMessage", self.guard.clean(message)[0])
                except BlockedInputError as blocked:
                    if self.on_block == "error":
                        raise
                    if self.on_block == "end":
                        return {"messages": [*cleaned, self._refusal(blocked.rule)], "jump_to": "end"}
                    clean = _note_instead(message, blocked.rule)
                if clean != message:
                    cleaned.append(clean)
        return {"messages": cleaned} if cleaned else None

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Check what the user wrote since the last answer."""
        return await asyncio.to_thread(self.before_model, state, runtime)

    def wrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]) -> ModelResponse:
        """Ask the guarded form of the model."""
        return handler(_GuardedRequest.of(request, self._guarded))

    async def awrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]
    ) -> ModelResponse:
        """Ask the guarded form of the model."""
        return await handler(_GuardedRequest.of(request, self._guarded))

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Clean what a tool returns."""
        return self._clean_result(handler(request))

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Clean what a tool returns."""
        return await asyncio.to_thread(self._clean_result, await handler(request))

    def _guarded(self, model: Any) -> Any:
        within = model
        while isinstance(within, GuardedChatModel):
            if within.parser is self.parser:
                return model
            within = within.model
        return self.parser.guard(model)

    def _clean_result(self, result: Any) -> Any:
        if isinstance(result, Command):
            parts = {name: self.guard.clean_data(getattr(result, name))[0] for name in ("update", "resume")}
            return replace(result, **parts, goto=self._clean_goto(result.goto))
        return self.guard.clean_data(result)[0]

    def _clean_goto(self, goto: Any) -> Any:
        if isinstance(goto, Send):
            return Send(goto.node, self.guard.clean_data(goto.arg)[0])
        return [self._clean_goto(one) for one in goto] if isinstance(goto, (list, tuple)) else goto

    def _refusal(self, rule: str) -> AIMessage:
        answer = self.parser.new_answer()
        answer.end_before(rule)
        chunks = answer.finish()
        total = chunks[0]
        for chunk in chunks[1:]:
            total = total + chunk
        return AIMessage(content=total.content, response_metadata=total.response_metadata)


def _since_the_last_answer(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    last = max((place for place, message in enumerate(messages) if isinstance(message, AIMessage)), default=-1)
    return list(messages[last + 1 :])


def _note_instead(message: BaseMessage, rule: str) -> Any:
    """Only what tells the message apart is kept, and a note in place of its text."""
    role = {"role": message.role} if isinstance(message, ChatMessage) else {}
    return type(message)(content=f"[removed by {rule}]", id=message.id, **role)
