"""Several prompts, or several answers to one prompt, at the same time: the engine makes one step of them all."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableConfig

from langchain_qwen.engine.local import MAX_RUNNING
from langchain_qwen.reading import Listening
from langchain_qwen.results import combined, combined_llm_outputs

Result = TypeVar("Result")
Item = TypeVar("Item")


_interrupted: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("interrupted", default=None)


def interruption() -> threading.Event | None:
    """What is set when the work that this call belongs to is to end; see `interruptible`."""
    return _interrupted.get()


def interruptible(task: Callable[[], Result]) -> Result:
    """Run on a thread of its own, so that Ctrl-C, which reaches the caller's alone, ends all calls within.

    Where threads wait for each other, Python raises KeyboardInterrupt only when all have come to their end.
    """
    context, event = contextvars.copy_context(), threading.Event()
    context.run(_interrupted.set, event)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(context.run, task)
        try:
            return future.result()
        except BaseException:
            event.set()
            raise


def side_by_side(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run each on a thread of its own, in a copy of the caller's context.

    Once all have ended, the error of the first one that failed is raised.
    """
    with ThreadPoolExecutor(min(len(tasks), MAX_RUNNING)) as pool:
        futures = [pool.submit(contextvars.copy_context().run, task) for task in tasks]
    return [future.result() for future in futures]


def drain(streams: Sequence[Generator[Item, None, None]]) -> list[list[Item]]:
    """All items of all streams.

    The first stream goes ahead until its first item, so that the others find its prompt computed.
    """
    first, *others = streams

    def drain_all() -> list[list[Item]]:
        head = next(first)
        tasks: list[Callable[[], list[Item]]] = [lambda: [head, *first], *(lambda s=s: list(s) for s in others)]
        return side_by_side(tasks)

    return interruptible(drain_all) if others else [list(first)]


async def adrain(streams: Sequence[AsyncGenerator[Item, None]]) -> list[list[Item]]:
    """As `drain`."""

    async def rest(stream: AsyncGenerator[Item, None]) -> list[Item]:
        return [item async for item in stream]

    first, *others = streams
    if not others:
        return [await rest(first)]
    head = await first.__anext__()
    ahead, *behind = await asyncio.gather(rest(first), *map(rest, others))
    return [[head, *ahead], *behind]


class Together(Listening):
    """A chat model whose engine gains from several calls at once."""

    @property
    def _gains(self) -> bool:
        """Whether it does."""
        return True

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return combined_llm_outputs(llm_outputs)

    def generate(self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any) -> LLMResult:
        """As in every LangChain model; several prompts run together."""
        run_id = kwargs.pop("run_id", None)
        if len(messages) < 2 or not self._gains:
            return super().generate(messages, *args, run_id=run_id, **kwargs)
        one = super().generate
        run_ids = [run_id, *[None] * (len(messages) - 1)]
        tasks = [
            partial(one, [prompt], *args, run_id=run_id, **kwargs)
            for prompt, run_id in zip(messages, run_ids, strict=True)
        ]
        return combined(interruptible(partial(side_by_side, tasks)))

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """As in every Runnable; without a `max_concurrency`, as many run together as the engine takes."""
        return interruptible(partial(super().batch, inputs, self._wide(config), **kwargs))

    def batch_as_completed(
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `batch`, each answer when it is there."""
        return super().batch_as_completed(inputs, self._wide(config), **kwargs)

    def _wide(self, config: RunnableConfig | Sequence[RunnableConfig] | None) -> Any:
        if not self._gains:
            return config
        if config is not None and not isinstance(config, Mapping):
            return [self._wide(one) for one in config]
        given = {name: value for name, value in (config or {}).items() if value is not None}
        return {"max_concurrency": MAX_RUNNING, **given}
