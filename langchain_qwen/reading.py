"""How far the reading of a long prompt is: an event for callback handlers, a bar for people."""

from __future__ import annotations

import contextlib
import contextvars
from typing import Any, TypeVar
from uuid import UUID, uuid4

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseCallbackHandler, CallbackManagerForLLMRun
from langchain_core.callbacks.manager import ahandle_event, handle_event
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig, ensure_config

from langchain_qwen.bars import Bar
from langchain_qwen.engine import Event, Reading

EVENT = "prompt_reading"
"""The custom event (`on_custom_event`): `tokens_read`, `tokens_total`, and `seconds_left` by the pace so far."""

_CUSTOM_EVENT = ("on_custom_event", "ignore_custom_event")

Manager = TypeVar("Manager", CallbackManagerForLLMRun | None, AsyncCallbackManagerForLLMRun | None)

SHOWN_ABOVE_S = 1.0  # a bar that goes at once would only flicker


_listening: contextvars.ContextVar[tuple[list[BaseCallbackHandler], UUID] | None] = contextvars.ContextVar(
    "listening", default=None
)


class Listening(BaseChatModel):
    """A chat model whose streams too tell handlers of the reading: LangChain gives `_stream` none.

    That is also called by `invoke`, where `streaming` is set or somebody follows the events of a whole graph.
    """

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:  # noqa: A002
        """As in every Runnable."""
        token = _listening.set(_handlers(config))
        try:
            return super().invoke(input, config, **kwargs)
        finally:
            _listening.reset(token)

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """As in every Runnable."""
        token = _listening.set(_handlers(config))
        try:
            return await super().ainvoke(input, config, **kwargs)
        finally:
            _listening.reset(token)

    def stream(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """As in every Runnable."""
        chunks = super().stream(input, config, **kwargs)
        token = _listening.set(_handlers(config))
        try:
            first = next(chunks)
        finally:
            _listening.reset(token)
        with contextlib.closing(chunks):  # type: ignore[type-var]  # a generator
            yield first
            yield from chunks

    async def astream(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """As in every Runnable."""
        chunks = super().astream(input, config, **kwargs)
        token = _listening.set(_handlers(config))
        try:
            first = await anext(chunks)
        finally:
            _listening.reset(token)
        async with contextlib.aclosing(chunks):  # type: ignore[type-var]
            yield first
            async for chunk in chunks:
                yield chunk


def _handlers(config: RunnableConfig | None) -> tuple[list[BaseCallbackHandler], UUID] | None:
    """Who listens, and the id of the run around the call, or a new one."""
    given = ensure_config(config).get("callbacks")
    if not given:
        return None
    handlers = given if isinstance(given, list) else given.handlers
    around = None if isinstance(given, list) else given.parent_run_id
    return handlers, around or uuid4()


class Watch:
    """Follows the events of one generation; `close` takes the bar away."""

    def __init__(self, run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None):
        self._heard_by = (run_manager.handlers, run_manager.run_id) if run_manager else _listening.get()
        self._bar: Bar | None = None

    def see(self, event: Event) -> None:
        """Tell handlers and people."""
        if (data := self._show(event)) and self._heard_by:
            handlers, run_id = self._heard_by
            handle_event(handlers, *_CUSTOM_EVENT, EVENT, data, run_id=run_id)

    async def asee(self, event: Event) -> None:
        """As `see`."""
        if (data := self._show(event)) and self._heard_by:
            handlers, run_id = self._heard_by
            await ahandle_event(handlers, *_CUSTOM_EVENT, EVENT, data, run_id=run_id)

    def close(self) -> None:
        """The generation has ended, or nobody reads it any more."""
        if self._bar:
            self._bar.close()
            self._bar = None

    def _show(self, event: Event) -> dict[str, Any] | None:
        """What handlers are told."""
        if not isinstance(event, Reading):
            self.close()
            return None
        if self._bar is None and event.left_s > SHOWN_ABOVE_S:
            self._bar = Bar("Reading the prompt", event.total, done=event.done, unit="tokens")
        if self._bar:
            self._bar.update(event.done)
        return {"tokens_read": event.done, "tokens_total": event.total, "seconds_left": event.left_s}


class _EventsOnly(BaseCallbackHandler):
    """A handler that hears of custom events alone, through its own method, sync or async."""

    ignore_llm = True

    def __init__(self, handler: BaseCallbackHandler):
        self._handler = handler
        self.on_custom_event = handler.on_custom_event  # type: ignore[method-assign]
        self.run_inline, self.raise_error = handler.run_inline, handler.raise_error

    @property
    def ignore_custom_event(self) -> bool:
        """As the handler's own."""
        return self._handler.ignore_custom_event


def events_only(run_manager: Manager) -> Manager:
    """The same run, whose handlers hear of custom events and not of tokens."""
    if run_manager is None:
        return None
    handlers: list[BaseCallbackHandler] = [_EventsOnly(handler) for handler in run_manager.handlers]
    return type(run_manager)(run_id=run_manager.run_id, handlers=handlers, inheritable_handlers=[])
