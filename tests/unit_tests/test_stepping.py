"""One driver of steps, sync and async."""

from __future__ import annotations

import asyncio
import threading

import pytest

from langchain_qwen.stepping import Emit, Stream, aevents, arun, events, run


def doubling(closed: list[bool] | None = None):
    try:
        one = yield 1
        yield Emit("half")
        two = yield one
        return [one, two]
    finally:
        if closed is not None:
            closed.append(True)


def double(step: int) -> int:
    return 2 * step


async def adouble(step: int) -> int:
    return 2 * step


def test_results_go_back_in_and_the_last_one_comes_out():
    assert run(doubling(), double) == [2, 4]
    assert asyncio.run(arun(doubling(), adouble)) == [2, 4]


async def test_events_come_in_between():
    assert list(events(doubling(), double)) == ["half", [2, 4]]
    assert [event async for event in aevents(doubling(), adouble)] == ["half", [2, 4]]


def test_a_failing_step_closes_the_generator_and_is_raised():
    closed: list[bool] = []
    with pytest.raises(ZeroDivisionError):
        run(doubling(closed), lambda _: 1 // 0)
    assert closed == [True]


async def test_a_reader_that_goes_closes_the_generator():
    closed: list[bool] = []
    stream = aevents(doubling(closed), adouble)
    assert await anext(stream) == "half"
    await stream.aclose()
    assert closed == [True]


async def test_work_between_steps_leaves_the_event_loop_free():
    threads = []

    def steps():
        threads.append(threading.current_thread())
        yield Emit(1)

    assert await arun(steps(), adouble) is None
    assert threads != [threading.current_thread()]


def test_a_generator_without_steps():
    def none():
        return "done"
        yield

    assert run(none(), double) == "done"


class Letters(Stream):
    """Gives the letters a and b."""


def spelling():
    assert (yield Letters()) is None
    return "end"


async def test_all_that_a_stream_gives_is_passed_on():
    async def aletters(_):
        for letter in "ab":
            yield letter

    assert list(events(spelling(), lambda _: (letter for letter in "ab"))) == ["a", "b", "end"]
    assert [event async for event in aevents(spelling(), aletters)] == ["a", "b", "end"]


async def test_a_reader_that_goes_closes_the_stream_too():
    closed = []

    def letters(_):
        try:
            yield from "ab"
        finally:
            closed.append("sync")

    async def aletters(_):
        try:
            for letter in "ab":
                yield letter
        finally:
            closed.append("async")

    stream, astream = events(spelling(), letters), aevents(spelling(), aletters)
    assert (next(stream), await anext(astream)) == ("a", "a")
    stream.close()
    await astream.aclose()
    assert closed == ["sync", "async"]
