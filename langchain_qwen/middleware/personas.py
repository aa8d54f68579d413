"""A persona for an agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from langchain.agents.middleware.types import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig

from langchain_qwen.capabilities import local_model
from langchain_qwen.inputs import check_kind
from langchain_qwen.personas import Persona
from langchain_qwen.personas.checking import Checks
from langchain_qwen.personas.composing import answer_language, compose, effective

Request = ModelRequest[Any]
Response = ModelResponse[Any]


class PersonaMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Answers as a persona; the agent's state keeps the conversation without it.

    ```python
    agent = create_agent(model, tools, middleware=[PersonaMiddleware(builtin("support_agent"))])
    agent.invoke({"messages": [("human", "Hello")]}, context={"persona": "concise"})
    ```

    The runtime context may hold another `persona` for a run: a `Persona`, the name of a built-in one, or a dict of
    fields to change. The agent's system prompt is added to the persona's. Final answers keep to the persona's form: by
    a grammar where the agent has no tools and the model is a `ChatQwen`, else they are checked and asked for once more.

    Raises on use:
        OutputFormatError: The form is broken, also at the second try.
        OutputTruncatedError: `max_tokens` ended the answer within its form.
    """

    def __init__(self, persona: Persona):
        super().__init__()
        check_kind(self, persona, Persona)
        self.persona = persona

    def wrap_model_call(self, request: Request, handler: Callable[[Request], Response]) -> Response:
        """Put the persona on for one call of the model, and check its answer."""
        dressed, checks = self._dress(request)
        response = handler(dressed)
        if again := _second_try(dressed, response, checks):
            response = handler(again)
        return _checked(response, checks)

    async def awrap_model_call(self, request: Request, handler: Callable[[Request], Awaitable[Response]]) -> Response:
        """As `wrap_model_call`."""
        dressed, checks = self._dress(request)
        response = await handler(dressed)
        if again := _second_try(dressed, response, checks):
            response = await handler(again)
        return _checked(response, checks)

    def _dress(self, request: Request) -> tuple[Request, Checks]:
        persona = effective(self.persona, _config_of(request))
        if request.response_format is not None:
            # The agent's own structured output decides on the form.
            persona = persona.replace(output=None)
        own = [request.system_message] if request.system_message is not None else []
        conversation: list[BaseMessage] = [*own, *request.messages]
        system, *messages = compose(persona, conversation)
        assert isinstance(system, SystemMessage)
        settings = dict(request.model_settings)
        if persona.output is not None and local_model(request.model) is not None and not request.tools:
            settings["response_format"] = persona.output.response_format()
        dressed = request.override(system_message=system, messages=messages, model_settings=settings)  # type: ignore[arg-type]
        return dressed, Checks(persona, answer_language(persona, conversation))


def _config_of(request: Request) -> RunnableConfig:
    """The runtime context's persona, where `Persona.effective` looks for it."""
    context = request.runtime.context if request.runtime is not None else None
    persona = context.get("persona") if isinstance(context, Mapping) else getattr(context, "persona", None)
    return {"configurable": {"persona": persona}}


def _answer(response: Response) -> AIMessage | None:
    last = response.result[-1] if response.result else None
    return last if isinstance(last, AIMessage) and not last.tool_calls else None


def _second_try(request: Request, response: Response, checks: Checks) -> Request | None:
    answer = _answer(response)
    correction = checks.correction(answer) if answer is not None else None
    if answer is None or correction is None:
        return None
    return request.override(messages=[*request.messages, answer, HumanMessage(correction)])


def _checked(response: Response, checks: Checks) -> Response:
    answer = _answer(response)
    if answer is None:
        return response
    metadata = {**answer.response_metadata, **checks.verdict(answer)}
    result = [*response.result[:-1], answer.model_copy(update={"response_metadata": metadata})]
    return ModelResponse(result=result, structured_response=response.structured_response)
