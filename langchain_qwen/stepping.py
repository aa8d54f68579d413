"""One driver for work that is written as a generator of steps.

The generator yields what has to be done (ask a model, retrieve, judge), is sent the result, and returns its own at the
end. It knows nothing of sync or async; whoever runs it says how a step is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")

Steps = Generator[Any, Any, Result]


@dataclass(frozen=True, slots=True)
class Emit:
    """A step that only passes something on to the caller."""

    event: Any


class Stream:
    """A step that is done bit by bit: `do` gives a generator, and all that comes of it is passed on to the caller."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _End:
    """What a generator returned; StopIteration cannot pass through a future."""

    result: Any


def run(steps: Steps[Result], do: Callable[[Any], Any]) -> Result:
    """Do all steps, and give what the generator returns."""
    *_, result = events(steps, do)
    return result  # type: ignore[no-any-return]


async def arun(steps: Steps[Result], do: Callable[[Any], Awaitable[Any]]) -> Result:
    """As `run`."""
    *_, result = [event async for event in aevents(steps, do)]
    return result  # type: ignore[no-any-return]


def events(steps: Steps[Any], do: Callable[[Any], Any]) -> Generator[Any, None, None]:
    """What `Emit` and `Stream` steps pass on, and last what the generator returns."""
    result: Any = None
    try:
        while True:
            match _advance(steps, result):
                case _End(result):
                    yield result
                    return
                case Emit(event):
                    result = None
                    yield event
                case Stream() as step:
                    result = None
                    with contextlib.closing(do(step)) as passed_on:
                        yield from passed_on
                case step:
                    result = do(step)
    finally:
        steps.close()


async def aevents(steps: Steps[Any], do: Callable[[Any], Any]) -> AsyncGenerator[Any, None]:
    """As `events`. The work between two steps runs on another thread: counting and checking take milliseconds."""
    result: Any = None
    try:
        while True:
            match await asyncio.to_thread(_advance, steps, result):
                case _End(result):
                    yield result
                    return
                case Emit(event):
                    result = None
                    yield event
                case Stream() as step:
                    result = None
                    async with contextlib.aclosing(do(step)) as passed_on:
                        async for event in passed_on:
                            yield event
                case step:
                    result = await do(step)
    finally:
        # A cancelled task leaves the thread running; the generator is then closed when it is collected.
        if inspect.getgeneratorstate(steps) != inspect.GEN_RUNNING:
            steps.close()


def _advance(steps: Steps[Any], result: Any) -> Any:
    try:
        return steps.send(result)
    except StopIteration as end:
        return _End(end.value)
