"""Agents whose conversations stay inside the window."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents import AgentState
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.messages import BaseMessage, RemoveMessage, SystemMessage
from langchain_core.runnables import RunnableConfig, ensure_config
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.runtime import Runtime

from langchain_qwen.history import HistoryTrimmer
from langchain_qwen.history.report import TrimReport
from langchain_qwen.history.trimmer import EVENT
from langchain_qwen.inputs import check_kind


class HistoryMiddleware(AgentMiddleware[Any, Any, Any]):
    """Trims what each call of the model is sent; the agent's state keeps all messages.

    Each trim dispatches its report as the custom event `history_trimmed`, as `HistoryTrimmer` does.

    The system prompt and the tools of the call are counted. What a `response_format` adds to the prompt is not: leave
    room for it with the trimmer's `reserve`.

    Attributes:
        last_report: What the last call's trim did.
    """

    def __init__(self, trim: HistoryTrimmer):
        super().__init__()
        check_kind(self, trim, HistoryTrimmer)
        self._trim = trim
        self.last_report: TrimReport | None = None

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Send the messages that fit."""
        messages, report = self._trim.with_report(_sent(request), tools=request.tools)
        self.last_report = report
        if config := _traced():
            dispatch_custom_event(EVENT, report.as_dict(), config=config)
        return handler(_override(request, messages))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Send the messages that fit."""
        messages, report = await self._trim.awith_report(_sent(request), tools=request.tools)
        self.last_report = report
        if config := _traced():
            await adispatch_custom_event(EVENT, report.as_dict(), config=config)
        return await handler(_override(request, messages))


class CompactHistoryMiddleware(AgentMiddleware[Any, Any, Any]):
    """Trims the agent's state itself, for states that must not grow; earlier checkpoints still hold all messages.

    Args:
        trim: Should be given the agent's tools, which are not known when the state is trimmed.
        system_prompt: The agent's, for the same reason.
    """

    def __init__(self, trim: HistoryTrimmer, *, system_prompt: str | None = None):
        super().__init__()
        check_kind(self, trim, HistoryTrimmer)
        self._trim = trim
        self._system = [SystemMessage(system_prompt)] if system_prompt else []

    def before_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """Replace the state's messages where they were above the high mark."""
        messages, report = self._trim.with_report([*self._system, *state["messages"]])
        return self._update(messages, report)

    async def abefore_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """Replace the state's messages where they were above the high mark."""
        messages, report = await self._trim.awith_report([*self._system, *state["messages"]])
        return self._update(messages, report)

    def _update(self, messages: list[BaseMessage], report: TrimReport) -> dict[str, Any] | None:
        if not report.changed:
            return None
        return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), *messages[len(self._system) :]]}


def _traced() -> RunnableConfig | None:
    """The config of the run that an event could belong to; None outside of a graph.

    Before Python 3.11 asyncio's tasks cannot be given a context, so that LangGraph's async nodes know no config: there
    `last_report` tells alone.
    """
    config = ensure_config()
    return config if getattr(config.get("callbacks"), "parent_run_id", None) else None


def _sent(request: ModelRequest[Any]) -> list[BaseMessage]:
    system = request.system_message
    return [*([system] if system else []), *request.messages]


def _override(request: ModelRequest[Any], messages: list[BaseMessage]) -> ModelRequest[Any]:
    rest: list[Any] = messages[1:] if request.system_message else messages
    return request.override(messages=rest)
