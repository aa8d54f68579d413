"""A chat model under a policy, with the interface of a chat model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.callbacks.manager import ahandle_event, handle_event
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding, ensure_config
from pydantic import ConfigDict, model_validator

from langchain_qwen import structured_output
from langchain_qwen.capabilities import LocalModel, local_model, require_local
from langchain_qwen.errors import BlockedInputError
from langchain_qwen.inputs import followed_by
from langchain_qwen.prompting import Prompter
from langchain_qwen.reading import events_only
from langchain_qwen.results import as_result
from langchain_qwen.safety.audit import EVENT, adispatch, dispatch
from langchain_qwen.safety.compiled import CompiledPolicy
from langchain_qwen.safety.input_guard import InputGuard
from langchain_qwen.safety.messages import AnswerFilter
from langchain_qwen.safety.streams import as_last_chunk
from langchain_qwen.together import Together

_OF_THE_RUN = (
    *("name", "cache", "callbacks", "tags", "metadata", "verbose"),
    *("rate_limiter", "disable_streaming", "streaming", "output_version"),
)
"""What LangChain looks up in the model that is called, which is the guarded one."""
_CUSTOM_EVENT = ("on_custom_event", "ignore_custom_event", EVENT)


class GuardedChatModel(Together):
    """The model with its inputs checked, the policy's instructions in its system prompt, and its answers filtered.

    Made by `SafetyParser.guard`. A blocked input is answered by a refusal, without the model being asked.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: BaseChatModel
    parser: CompiledPolicy
    streaming: bool = False
    """As the model's own."""

    @model_validator(mode="before")
    @classmethod
    def take_over(cls, given: dict[str, Any]) -> dict[str, Any]:
        """What is set for the model's runs, as its rate limiter and callbacks, counts for the guarded ones."""
        model = given["model"]
        of_run = {name: getattr(model, name) for name in _OF_THE_RUN if name in model.model_fields_set}
        if of_run.get("metadata"):
            of_run["metadata"] = dict(of_run["metadata"])  # LangChain writes versions into it
        return {**of_run, **given}

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [("model", self.model), ("parser", self.parser)]

    @property
    def _llm_type(self) -> str:
        return f"guarded-{self.model._llm_type}"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        policy = {"policy_hash": self.parser.policy.hash, "policy_language": self.parser.language}
        return {**self.model._identifying_params, **policy}

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """What caches know a call by: the model within says what its arguments mean."""
        return f"{super()._get_llm_string()}---{self.model._get_llm_string(stop, **kwargs)}"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return self.model._get_ls_params(stop, **kwargs)

    def _resolve_model_profile(self) -> ModelProfile | None:
        return self.model.profile

    def get_token_ids(self, text: str) -> list[int]:
        """Ids of the model's own tokenizer."""
        return self.model.get_token_ids(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None, **further: Any
    ) -> int:
        """As the model's own, the policy's instructions included; 0 for no messages."""
        sent = self._instructed(messages) if messages else []
        return self.model.get_num_tokens_from_messages(sent, tools, **further)

    # -- on this machine ------------------------------------------------------------------------------------------

    def as_local(self, arguments: Mapping[str, Any] | None = None) -> GuardedChatModel | None:
        """This model as it is when called with these arguments; None around a model that is not of this machine."""
        inner = local_model(self.model, arguments=arguments)
        return None if inner is None else self.model_copy(update={"model": inner})

    @property
    def max_tokens(self) -> int | None:
        """The longest answer."""
        return self._local.max_tokens

    @property
    def context_window(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._local.context_window

    @property
    def prompter(self) -> Prompter:
        """What renders, encodes and counts prompts, the policy's instructions included."""
        return self._local.prompter.after(self._instructed)

    def load(self) -> None:
        """Load the weights now rather than at the first call."""
        self._local.load()

    def warm(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """As `ChatQwen.warm`, the policy's instructions included."""
        return self._local.warm(self._instructed(messages), tools)

    def close(self) -> None:
        """Release the weights."""
        self._local.close()

    @property
    def _local(self) -> LocalModel:
        return require_local(self.model, "this method of a guarded model")

    # -- tools and structured output ------------------------------------------------------------------------------

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """As the model's own."""
        bound = self.model.bind_tools(tools, **kwargs)
        assert isinstance(bound, RunnableBinding)
        return self.bind(**bound.kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """As `ChatQwen.with_structured_output`; what is redacted stays valid JSON."""
        method, strict = kwargs.pop("method", "json_schema"), kwargs.pop("strict", None)
        return structured_output.build(
            self, schema, method=method, include_raw=include_raw, strict=strict, bound=kwargs
        )

    # -- generating ---------------------------------------------------------------------------------------------

    @property
    def _gains(self) -> bool:
        return local_model(self.model) is not None

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _as_result(list(self._chunks(messages, stop, run_manager, kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _as_result([chunk async for chunk in self._achunks(messages, stop, run_manager, kwargs)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages, stop, run_manager, kwargs):
            generation = _as_generation(chunk)
            if run_manager:
                run_manager.on_llm_new_token(generation.text, chunk=generation)
            yield generation

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in self._achunks(messages, stop, run_manager, kwargs):
            generation = _as_generation(chunk)
            if run_manager:
                await run_manager.on_llm_new_token(generation.text, chunk=generation)
            yield generation

    def _chunks(
        self, messages: list[BaseMessage], stop: list[str] | None, run_manager: Any, kwargs: dict[str, Any]
    ) -> Iterator[AIMessage]:
        """Clean chunks, or the one clean message of a model that does not stream."""
        answer, prompt = self._begin(messages, kwargs)
        whole = False
        if not answer.ended:
            upstream = self._upstream(prompt, stop, run_manager, kwargs)
            try:
                for message in upstream:
                    whole = not isinstance(message, AIMessageChunk)
                    yield answer.whole(message) if whole else answer.feed(message)
                    if answer.ended:
                        break
            finally:
                upstream.close()  # ends the generation in the engine
        if not whole:
            yield from answer.finish()
        _tell(run_manager, answer)

    async def _achunks(
        self, messages: list[BaseMessage], stop: list[str] | None, run_manager: Any, kwargs: dict[str, Any]
    ) -> AsyncIterator[AIMessage]:
        answer, prompt = await asyncio.to_thread(self._begin, messages, kwargs)  # a judge may be asked
        whole = False
        if not answer.ended:
            upstream = self._aupstream(prompt, stop, run_manager, kwargs)
            try:
                async for message in upstream:
                    whole = not isinstance(message, AIMessageChunk)
                    clean: Any = answer.whole if whole else answer.feed
                    yield await asyncio.to_thread(clean, message) if self.parser.judges_outputs else clean(message)
                    if answer.ended:
                        break
            finally:
                await upstream.aclose()
        for chunk in await asyncio.to_thread(answer.finish) if not whole else ():
            yield chunk
        await _atell(run_manager, answer)

    def _begin(self, messages: list[BaseMessage], kwargs: dict[str, Any]) -> tuple[AnswerFilter, list[BaseMessage]]:
        """The filter of the answer, and what the model is given: nothing where the policy blocks the input."""
        answer = self.parser.new_answer(as_json="response_format" in kwargs)
        try:
            cleaned, events = InputGuard(self.parser).clean(messages)
        except BlockedInputError as blocked:
            answer.end_before(blocked.rule)
            return answer, []
        answer.events += events
        return answer, self._instructed(cleaned)

    def _instructed(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        instructions = self.parser.policy.system_instructions(self.parser.language)
        if not instructions:
            return messages
        if messages and isinstance(messages[0], SystemMessage):
            content = followed_by(messages[0].content, f"\n\n{instructions}")
            return [messages[0].model_copy(update={"content": content}), *messages[1:]]
        return [SystemMessage(instructions), *messages]

    def _upstream(self, messages: list[BaseMessage], stop: list[str] | None, run_manager: Any, kwargs: Any) -> Any:
        if not self.model._should_stream(async_api=False, **{**kwargs, "stream": True}):
            result = self.model._generate(messages, stop, **kwargs)
            return (_answer_of(generation) for generation in result.generations[:1])
        return _messages(self.model._stream(messages, stop, events_only(run_manager), **kwargs))

    def _aupstream(self, messages: list[BaseMessage], stop: list[str] | None, run_manager: Any, kwargs: Any) -> Any:
        if not self.model._should_stream(async_api=True, **{**kwargs, "stream": True}):
            return _amessages(self._generated(messages, stop, kwargs))
        return _amessages(self.model._astream(messages, stop, events_only(run_manager), **kwargs))

    async def _generated(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk | ChatGeneration]:
        for generation in (await self.model._agenerate(messages, stop, **kwargs)).generations[:1]:
            yield generation


def _messages(chunks: Any) -> Iterator[AIMessage]:
    try:
        for chunk in chunks:
            yield _answer_of(chunk)
    finally:
        chunks.close()


async def _amessages(chunks: Any) -> AsyncIterator[AIMessage]:
    try:
        async for chunk in chunks:
            yield _answer_of(chunk)
    finally:
        await chunks.aclose()


def _answer_of(generation: ChatGeneration) -> AIMessage:
    message = generation.message
    if not isinstance(message, AIMessage):
        raise TypeError(f"a model answers with an AIMessage, not with a {type(message).__name__}")
    return message


def _as_generation(message: AIMessage) -> ChatGenerationChunk:
    chunk = as_last_chunk(message) if not isinstance(message, AIMessageChunk) else message
    finish = chunk.response_metadata.get("finish_reason")
    return ChatGenerationChunk(message=chunk, generation_info={"finish_reason": finish} if finish else None)


def _as_result(messages: list[AIMessage]) -> ChatResult:
    if len(messages) == 1 and not isinstance(messages[0], AIMessageChunk):
        return ChatResult(generations=[ChatGeneration(message=messages[0])])
    return as_result([[_as_generation(message) for message in messages]])


def _tell(run_manager: CallbackManagerForLLMRun | None, answer: AnswerFilter) -> None:
    """Audit events go to the handlers of this run, or of the run around it."""
    if run_manager is None:
        dispatch(answer.events, ensure_config())
        return
    for event in answer.events:
        handle_event(run_manager.handlers, *_CUSTOM_EVENT, event.as_dict(), run_id=run_manager.run_id)


async def _atell(run_manager: AsyncCallbackManagerForLLMRun | None, answer: AnswerFilter) -> None:
    if run_manager is None:
        await adispatch(answer.events, ensure_config())
        return
    for event in answer.events:
        await ahandle_event(run_manager.handlers, *_CUSTOM_EVENT, event.as_dict(), run_id=run_manager.run_id)
