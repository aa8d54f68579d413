"""SafetyParser: the runnable that stands after the model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import Runnable, RunnableConfig, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase

from langchain_qwen.errors import CapabilityError
from langchain_qwen.safety.audit import AuditEvent, adispatch, dispatch
from langchain_qwen.safety.compiled import CompiledPolicy
from langchain_qwen.safety.guarded_model import GuardedChatModel
from langchain_qwen.safety.messages import AnswerFilter
from langchain_qwen.safety.streams import as_last_chunk

Output = TypeVar("Output", str, AIMessage)


class SafetyParser(CompiledPolicy, Runnable[Any, Any]):
    """Lets through what a policy allows, of messages, chunks and strings.

    ```python
    from langchain_qwen import ChatQwen
    from langchain_qwen.safety import SafetyParser

    parser = SafetyParser("balanced")
    parser.invoke("Write to kim@example.com.")  # "Write to [EMAIL]."
    ```

    Behind a model it filters answers, whole, streamed or awaited. `guard` gives a chat model that does so, and takes
    tools and schemas as before:

    ```python
    model = ChatQwen(model="coder-1.5b", temperature=0)
    chain = model | parser
    guarded = parser.guard(model)
    guarded.invoke("Repeat: my mail is kim@example.com").text  # "Your mail address is [EMAIL]."
    for chunk in guarded.stream("Repeat: my mail is kim@example.com"):
        print(chunk.text, end="")  # the same
    guarded.bind_tools([look_up]).invoke("Where does Ada live?").tool_calls  # [{"name": "look_up", ...}]
    guarded.with_structured_output(Name).invoke("Ada is here.")  # Name(name="Ada")
    ```

    What comes out of a stream, put together, is what comes out for the whole text, however it was cut into chunks.
    Only the shortest end that could still become a finding is held back. `stop` and `block` close the model's stream,
    which ends the generation in the engine.

    Args:
        policy: A policy, the name of a shipped one, or the path of a YAML file.
        judge: A model for rules that ask one; the guarded model itself will do (at temperature 0).
        system_prompt: What must not leak (for rules with the detector `prompt_leak`).
        canary: A word planted in the system prompt that must never come out.
        detectors: Detectors of your own by name: a `Detector`, or a function from a line to the spans that count.
        language: Language of the refusal text.
        as_json: The text is JSON, so edits are written in JSON's escapes. Set by `guard` where a schema is bound.
        hash_key: The deployment's key for `action: hash`, 16 bytes or more. Default: the environment's
            LANGCHAIN_QWEN_HASH_KEY, or else a random key, with which equal values are known again within this process
            only. It is never logged; a pickle of the parser holds a key that was given.

    Raises:
        InvalidParameterError: For a key that is too short.
        PolicyError: For policies that are not valid or need what was not given.
    """

    def guard(self, model: Runnable[Any, Any]) -> Any:
        """A chat model with the same interface that answers, streams and calls tools under the policy.

        Args:
            model: A chat model, or one with arguments, a config, retries or fallbacks: these stay around it.

        Raises:
            CapabilityError: For a runnable that is no chat model, and for fields that are configurable: guard the model
                first.
        """
        if isinstance(model, BaseChatModel):
            return GuardedChatModel(model=model, parser=self)
        if isinstance(model, RunnableBindingBase):
            return model.model_copy(update={"bound": self.guard(model.bound)})
        if isinstance(model, RunnableWithFallbacks):
            others = [self.guard(fallback) for fallback in model.fallbacks]
            return model.model_copy(update={"runnable": self.guard(model.runnable), "fallbacks": others})
        raise CapabilityError(
            f"a {type(model).__name__} cannot be guarded; guard the chat model in it, and then wrap what that gives"
        )

    # -- Runnable -----------------------------------------------------------------------------------------------

    def invoke(self, input: Output, config: RunnableConfig | None = None, **kwargs: Any) -> Output:  # noqa: A002, ARG002
        """Filter a whole message or string."""

        def run(value: Output, config: RunnableConfig) -> Output:
            answer = self.new_answer()
            output = _whole(answer, value)
            dispatch(answer.events, config)
            return output

        return cast("Output", self._call_with_config(cast("Any", run), input, config))

    async def ainvoke(self, input: Output, config: RunnableConfig | None = None, **kwargs: Any) -> Output:  # noqa: A002, ARG002
        """Filter a whole message or string."""

        async def run(value: Output, config: RunnableConfig) -> Output:
            answer = self.new_answer()
            output = await asyncio.to_thread(_whole, answer, value)  # a judge may be asked
            await adispatch(answer.events, config)
            return output

        return cast("Output", await self._acall_with_config(cast("Any", run), input, config))

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002, ARG002
        """Filter a stream; closes it as soon as the policy ends the answer."""

        # What is given to `run` is a copy of the stream, of which closing closes nothing.
        def run(pieces: Iterator[Any], config: RunnableConfig) -> Iterator[Any]:
            answer = self.new_answer()
            told, is_text = 0, False
            for piece in pieces:
                is_text = isinstance(piece, str)
                output = _piece(answer, piece)
                dispatch(answer.events[told:], config)
                told = len(answer.events)
                if output is not None:
                    yield output
                if answer.ended:
                    _close(input)
                    break
            yield from _rest(answer, text=is_text)
            dispatch(answer.events[told:], config)

        yield from self._transform_stream_with_config(input, run, config)  # type: ignore[arg-type]

    async def atransform(
        self,
        input: AsyncIterator[Any],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> AsyncIterator[Any]:
        """Filter a stream; closes it as soon as the policy ends the answer."""

        async def run(pieces: AsyncIterator[Any], config: RunnableConfig) -> AsyncIterator[Any]:
            answer = self.new_answer()
            told, is_text, asks = 0, False, self.judges_outputs
            async for piece in pieces:
                is_text = isinstance(piece, str)
                output = await asyncio.to_thread(_piece, answer, piece) if asks else _piece(answer, piece)
                await adispatch(answer.events[told:], config)
                told = len(answer.events)
                if output is not None:
                    yield output
                if answer.ended:
                    if hasattr(input, "aclose"):
                        await input.aclose()
                    break
            for rest in await asyncio.to_thread(lambda: list(_rest(answer, text=is_text))):
                yield rest
            await adispatch(answer.events[told:], config)

        async for output in self._atransform_stream_with_config(input, run, config):  # type: ignore[arg-type]
            yield output

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002
        """Filter one value as a stream of one piece."""
        return self.transform(iter([input]), config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:  # noqa: A002
        """Filter one value as a stream of one piece."""

        async def pieces() -> AsyncIterator[Any]:
            yield input

        async for output in self.atransform(pieces(), config, **kwargs):
            yield output

    def scan(self, text: str) -> tuple[str, list[AuditEvent]]:
        """The clean text and what was found, for notebooks and tests."""
        answer = self.new_answer()
        return _whole(answer, text), answer.events


def _whole(answer: AnswerFilter, value: Output) -> Output:
    if isinstance(value, str):
        text = answer.feed_text(value)
        return text + "".join(_rest(answer, text=True))
    if isinstance(value, AIMessage):
        return answer.whole(value)
    raise TypeError(f"SafetyParser filters messages of a model and strings, not {type(value).__name__}")


def _piece(answer: AnswerFilter, piece: Any) -> Any:
    if isinstance(piece, str):
        return answer.feed_text(piece) or None
    if isinstance(piece, AIMessageChunk):
        return answer.feed(piece)
    if isinstance(piece, AIMessage):
        return answer.feed(as_last_chunk(piece))
    raise TypeError(f"SafetyParser filters messages of a model and strings, not {type(piece).__name__}")


def _rest(answer: AnswerFilter, *, text: bool) -> Iterator[Any]:
    if not text:
        yield from answer.finish()
    elif rest := "".join(chunk.text for chunk in answer.finish()):
        yield rest


def _close(iterator: Any) -> None:
    if hasattr(iterator, "close"):
        iterator.close()
