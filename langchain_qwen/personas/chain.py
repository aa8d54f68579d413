"""A persona in front of a chat model: form and language are enforced, not only asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from pydantic import ConfigDict

from langchain_qwen.capabilities import bound_arguments, local_model
from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.inputs import messages_of
from langchain_qwen.personas.checking import Checks
from langchain_qwen.personas.composing import answer_language, effective, messages_that_fit, warn_if_weak
from langchain_qwen.personas.spec import PersonaSpec

PersonaInput = str | PromptValue | Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Call:
    """What one answer needs."""

    messages: list[BaseMessage]
    arguments: dict[str, Any]
    again: dict[str, Any]  # the arguments of a second try
    checks: Checks
    enforced: bool

    @property
    def may_ask_again(self) -> bool:
        """Whether the answer has to be seen whole before it can be shown."""
        return self.checks.looks_at_language or (self.checks.persona.output is not None and not self.enforced)


class PersonaChain(RunnableSerializable[PersonaInput, AIMessage]):
    """`persona | model`: answers that keep to the persona's form, in its language.

    A local model generates under the form's grammar, so what it streams keeps to it from the first token. With tools
    bound, or another model, the answer is checked and asked for once more; then, and with `retry_language`, it comes
    in one piece at the end. Each answer has a verdict in `response_metadata["persona"]`: the persona's name, the
    `language` it should be in, and whether it is (`language_held`).

    Raises on use:
        OutputFormatError: The form is broken, also at the second try.
        OutputTruncatedError: `max_tokens` ended the answer within its form.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    persona: PersonaSpec
    model: Runnable[Any, Any]

    def invoke(self, input: PersonaInput, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:  # noqa: A002
        """The answer to an input; `kwargs` go to the model."""
        return self._call_with_config(self._invoke, input, config, **kwargs)

    async def ainvoke(self, input: PersonaInput, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:  # noqa: A002
        """As `invoke`."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)

    def stream(
        self,
        input: PersonaInput,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessage]:
        """The answer in chunks, the last one with the verdict."""
        yield from self._transform_stream_with_config(iter([input]), self._stream, config, **kwargs)

    async def astream(
        self,
        input: PersonaInput,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessage]:
        """As `stream`."""

        async def inputs() -> AsyncIterator[PersonaInput]:
            yield input

        async for chunk in self._atransform_stream_with_config(inputs(), self._astream, config, **kwargs):
            yield chunk

    def _invoke(self, value: PersonaInput, run_manager: Any, config: RunnableConfig, **kwargs: Any) -> AIMessage:  # noqa: ARG002
        call = self._prepare(value, config, kwargs)
        answer = self.model.invoke(call.messages, config, **call.arguments)
        if correction := call.checks.correction(answer):
            again = [*call.messages, answer, HumanMessage(correction)]
            answer = self.model.invoke(again, config, **call.again)
        return _with_verdict(answer, call)

    async def _ainvoke(self, value: PersonaInput, run_manager: Any, config: RunnableConfig, **kwargs: Any) -> AIMessage:  # noqa: ARG002
        call = await asyncio.to_thread(self._prepare, value, config, kwargs)
        answer = await self.model.ainvoke(call.messages, config, **call.arguments)
        if correction := call.checks.correction(answer):
            again = [*call.messages, answer, HumanMessage(correction)]
            answer = await self.model.ainvoke(again, config, **call.again)
        return _with_verdict(answer, call)

    def _stream(
        self, inputs: Iterator[PersonaInput], run_manager: Any, config: RunnableConfig, **kwargs: Any
    ) -> Iterator[AIMessage]:
        (value,) = inputs
        call = self._prepare(value, config, kwargs)
        if call.may_ask_again:
            yield _as_chunk(self._invoke(value, run_manager, config, **kwargs))
            return
        whole = AIMessageChunk(content="")
        for chunk in self.model.stream(call.messages, config, **call.arguments):
            whole += chunk
            yield chunk
        yield AIMessageChunk(content="", response_metadata=call.checks.verdict(whole))

    async def _astream(
        self, inputs: AsyncIterator[PersonaInput], run_manager: Any, config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[AIMessage]:
        value = await anext(inputs)
        call = await asyncio.to_thread(self._prepare, value, config, kwargs)
        if call.may_ask_again:
            yield _as_chunk(await self._ainvoke(value, run_manager, config, **kwargs))
            return
        whole = AIMessageChunk(content="")
        async for chunk in self.model.astream(call.messages, config, **call.arguments):
            whole += chunk
            yield chunk
        yield AIMessageChunk(content="", response_metadata=call.checks.verdict(whole))

    def _prepare(self, value: PersonaInput, config: RunnableConfig, kwargs: dict[str, Any]) -> _Call:
        persona = effective(self.persona, config)
        given = {**bound_arguments(self.model, config), **kwargs}
        model = local_model(self.model, config, kwargs)
        arguments = dict(kwargs)
        enforced = False
        if persona.output is not None:
            if given.get("response_format"):
                raise InvalidParameterError(
                    f"persona {persona.name!r} promises a form of output, which contradicts response_format; drop one"
                )
            enforced = model is not None and not given.get("tools")
            if enforced:
                arguments["response_format"] = persona.output.response_format()
        messages = messages_that_fit(persona, value, model, {**given, **arguments})
        language = answer_language(persona, messages_of(value))
        warn_if_weak(language)
        again = arguments
        plain = model is not None and not given.get("tools") and not given.get("response_format")
        if language is not None and persona.output is None and plain:
            # Asked once more, a model may still go on in the letters of what it reads.
            again = {**arguments, "response_format": {"type": "grammar", "grammar": language.grammar}}
        return _Call(messages, arguments, again, Checks(persona, language), enforced)


def _with_verdict(answer: AIMessage, call: _Call) -> AIMessage:
    metadata = {**answer.response_metadata, **call.checks.verdict(answer)}
    return answer.model_copy(update={"response_metadata": metadata})


def _as_chunk(answer: AIMessage) -> AIMessageChunk:
    fields = answer.model_dump(exclude={"type", "tool_call_chunks", "chunk_position"})
    return AIMessageChunk(**fields, chunk_position="last")
