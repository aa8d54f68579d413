"""Asynchronous work for callers that block, whether or not an event loop runs in their thread (a notebook has one)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import TypeVar

from langchain_qwen.errors import EngineError

T = TypeVar("T")

JOIN_S = 5.0  # closing a connection takes no time


def wait_for(work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, run by an event loop of its own."""

    async def once() -> AsyncGenerator[T, None]:
        yield await work()

    (result,) = iterate(once)
    return result


def iterate(work: Callable[[], AsyncGenerator[T, None]]) -> Generator[T, None, None]:
    """What `work` yields, from a thread with an event loop of its own; closing the generator cancels it.

    The thread is a daemon: a generator that a program keeps until it ends does not keep the program.
    """
    results: queue.SimpleQueue[tuple[T] | BaseException | None] = queue.SimpleQueue()
    begun = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def pump() -> None:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        begun.set()
        try:
            async with contextlib.aclosing(work()) as source:
                async for result in source:
                    results.put((result,))
        except BaseException as error:  # noqa: BLE001  raised in the thread that waits
            results.put(error)
        else:
            results.put(None)

    process = os.getpid()
    thread = threading.Thread(target=lambda: asyncio.run(pump()), name="langchain-qwen request", daemon=True)
    thread.start()
    try:
        while True:
            if os.getpid() != process:
                raise EngineError(
                    "this stream was begun before the process was forked, and its answer comes to the parent; begin a "
                    "new one here"
                )
            match results.get():
                case None:
                    return
                case BaseException() as error:
                    raise error
                case (result,):
                    yield result
    finally:
        if os.getpid() == process:
            begun.wait(JOIN_S)
            for loop, task in running:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(task.cancel)
            thread.join(JOIN_S)
