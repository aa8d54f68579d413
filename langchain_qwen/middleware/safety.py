"""Safety for agents: inputs checked, answers and streamed tokens filtered, tools watched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse, hook_config
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.runtime import Runtime

from langchain_qwen.errors import BlockedInputError
from langchain_qwen.safety.guarded_model import GuardedChatModel
from langchain_qwen.safety.input_guard import InputGuard
from langchain_qwen.safety.parser import SafetyParser


class SafetyMiddleware(AgentMiddleware[AgentState[Any], Any]):
    """A policy around an agent: `create_agent(model, tools, middleware=[SafetyMiddleware(SafetyParser("balanced"))])`.

    Before the model, new user messages are checked. The model itself is replaced by its guarded form, so that streams
    show cleaned tokens only and tools are called with cleaned arguments. What tools return is cleaned before the model
    reads it.

    Args:
        parser: The policy with what it needs.
        on_block: What a blocked input does: "end" answers with the policy's refusal and ends the agent; "replace" puts
            a note in the place of the user's text and goes on; "error" raises `BlockedInputError`.
    """

    def __init__(self, parser: SafetyParser, *, on_block: Literal["end", "replace", "error"] = "end"):
        super().__init__()
        self.parser = parser
        self.guard = InputGuard(parser)
        self.on_block = on_block

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """Check the last message where it is the user's."""
        message = state["messages"][-1] if state["messages"] else None
        if not isinstance(message, HumanMessage):
            return None
        try:
            cleaned, _ = self.guard.clean(message)
        except BlockedInputError as blocked:
            if self.on_block == "error":
                raise
            if self.on_block == "replace":
                return {"messages": [message.model_copy(update={"content": f"[removed by {blocked.rule}]"})]}
            return {"messages": [self._refusal(blocked.rule)], "jump_to": "end"}
        return None if cleaned.content == message.content else {"messages": [cleaned]}

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Check the last message where it is the user's."""
        return await asyncio.to_thread(self.before_model, state, runtime)

    def wrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]) -> ModelResponse:
        """Ask the guarded form of the model."""
        return handler(request.override(model=self._guarded(request.model)))

    async def awrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]
    ) -> ModelResponse:
        """Ask the guarded form of the model."""
        return await handler(request.override(model=self._guarded(request.model)))

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Clean what a tool returns."""
        return self._clean_result(handler(request))

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Clean what a tool returns."""
        return await asyncio.to_thread(self._clean_result, await handler(request))

    def _guarded(self, model: BaseChatModel) -> BaseChatModel:
        return model if isinstance(model, GuardedChatModel) else self.parser.guard(model)

    def _clean_result(self, result: Any) -> Any:
        return self.guard.clean(result)[0] if isinstance(result, ToolMessage) else result

    def _refusal(self, rule: str) -> AIMessage:
        answer = self.parser.new_answer()
        answer.end_before(rule)
        chunks = answer.finish()
        total = chunks[0]
        for chunk in chunks[1:]:
            total = total + chunk
        return AIMessage(content=total.content, response_metadata=total.response_metadata)
