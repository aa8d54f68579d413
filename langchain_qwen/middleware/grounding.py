"""Agents that answer from what their tools retrieved, and do not guess about what they cannot know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langgraph.runtime import Runtime
from pydantic_core import to_jsonable_python

from langchain_qwen.grounding import CutoffGuard, GroundedAnswer, GroundedAnswerer
from langchain_qwen.grounding.guard import abstention
from langchain_qwen.inputs import check_kind


class GroundingMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Replaces an agent's final answer by one that its retrieved documents support, with citations.

    The documents are the artifacts of tool messages since the last human message, as `retriever_tool` leaves them.
    Where the agent searched and found nothing, and no other tool told it anything, the answer is that there is none. An
    answer for which nothing was searched stays as it is.

    The grounded answer is in the final message's `additional_kwargs["grounded_answer"]` (JSON of `GroundedAnswer`).

    Args:
        model: Answers from the documents; see `GroundedAnswerer`.
        **options: Those of `GroundedAnswerer`.
    """

    def __init__(self, model: BaseChatModel, **options: Any):
        super().__init__()
        self._model = model
        self._options = options
        self._answerer([])  # raises now for wrong options

    def after_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """Ground the answer when the agent is about to end."""
        question, documents = _evidence(state["messages"])
        if question is None:
            return None
        return _replaced(state["messages"][-1], self._answerer(documents).invoke(question))

    async def aafter_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """As `after_model`."""
        question, documents = _evidence(state["messages"])
        if question is None:
            return None
        return _replaced(state["messages"][-1], await self._answerer(documents).ainvoke(question))

    def _answerer(self, documents: list[Document]) -> GroundedAnswerer:
        def retrieved(_: str) -> list[Document]:
            return documents

        retriever: RunnableLambda[str, list[Document]] = RunnableLambda(retrieved)
        return GroundedAnswerer(retriever, self._model, **self._options)


class CutoffMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Keeps an agent from guessing about times after its model's training.

    Where the guard finds that the model cannot know the answer and no tool has been used yet, the model must use one;
    an agent without tools abstains.

    Args:
        guard: Decides.
    """

    def __init__(self, guard: CutoffGuard | None = None):
        super().__init__()
        self._guard = CutoffGuard() if guard is None else guard
        check_kind(self, self._guard, CutoffGuard)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any] | AIMessage:
        """Let the question pass, ask for a tool, or abstain."""
        if not _is_unanswered(request.messages):
            return handler(request)
        verdict = self._guard.invoke(request.messages)
        if verdict.knowable:
            return handler(request)
        return handler(request.override(tool_choice="any")) if request.tools else abstention(verdict)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any] | AIMessage:
        """As `wrap_model_call`."""
        if not _is_unanswered(request.messages):
            return await handler(request)
        verdict = await self._guard.ainvoke(request.messages)
        if verdict.knowable:
            return await handler(request)
        return await handler(request.override(tool_choice="any")) if request.tools else abstention(verdict)


def _is_unanswered(messages: Sequence[AnyMessage]) -> bool:
    """Whether the last message is a human's: no tool has brought evidence yet."""
    return bool(messages) and isinstance(messages[-1], HumanMessage)


def _evidence(messages: Sequence[AnyMessage]) -> tuple[str | None, list[Document]]:
    """The question and what was retrieved for it, where the last message is a final answer and rests on that."""
    last = messages[-1]
    if not isinstance(last, AIMessage) or last.tool_calls:
        return None, []
    documents: list[Document] = []
    searched: list[bool] = []
    for message in reversed(messages[:-1]):
        if isinstance(message, HumanMessage):
            found_nothing = bool(searched) and all(searched)
            return (message.text if documents or found_nothing else None), documents
        if isinstance(message, ToolMessage):
            artifact = message.artifact if isinstance(message.artifact, list) else [None]
            found = [*_documents(artifact)]
            searched.append(len(found) == len(artifact))  # a list of something else is what a tool told
            documents = [*found, *documents]
    return None, []


def _documents(artifact: list[Any]) -> Iterator[Document]:
    """Those of an artifact; a message that comes from a checkpoint has them as dicts."""
    for one in artifact:
        if isinstance(one, Document):
            yield one
        elif isinstance(one, dict) and one.get("type") == "Document":
            # Not validated: they were documents, and a store may have made anything of their metadata.
            yield Document.model_construct(**{"page_content": "", "metadata": {}, "id": None, **one})


def _replaced(last: AnyMessage, answer: GroundedAnswer) -> dict[str, Any]:
    """The state update that puts the grounded answer in the place of the last message, by its id."""
    # Stores keep in metadata what no JSON can hold: ids of their own, numbers of NumPy.
    grounded = to_jsonable_python(answer, fallback=str)
    kwargs = {**last.additional_kwargs, "grounded_answer": grounded}
    return {"messages": [last.model_copy(update={"content": answer.text, "additional_kwargs": kwargs})]}
