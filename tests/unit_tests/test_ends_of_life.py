"""However a call, a stream, a loop, an object or the process ends: nothing hangs, nothing crashes, nothing is lost."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.runnables import ConfigurableField

from langchain_qwen import ChatQwen, errors
from langchain_qwen.checkpoints import resolve
from langchain_qwen.history import HistoryTrimmer
from langchain_qwen.personas import Persona
from langchain_qwen.safety import InputGuard, SafetyParser

PATIENCE_S = 60


@pytest.fixture
def model(tiny_checkpoint) -> Iterator[ChatQwen]:
    with ChatQwen(
        model=str(tiny_checkpoint),
        device="cpu",
        temperature=0,
        max_tokens=40,
        kv_cache_bytes=5 << 20,
        logit_bias={264: -100, 266: -100},
    ) as model:
        model.load()
        yield model


def engine_of(model: ChatQwen) -> Any:
    return model._backend.engine(resolve(model.model))


def wait_until_idle(model: ChatQwen) -> None:
    engine, deadline = engine_of(model), time.monotonic() + PATIENCE_S
    while engine._worker.scheduler.pool.free < engine._num_blocks:
        assert time.monotonic() < deadline, "blocks were lost"
        time.sleep(0.005)


# -- the process ------------------------------------------------------------------------------------------------------

PROCESSES = {
    "an open stream": ("stream = model.stream('x'); next(stream); print('end')", 0, "end"),
    "an open asynchronous stream": (
        """
async def main():
    global stream
    stream = model.astream("x")
    await anext(stream)
asyncio.run(main())
print("end")
""",
        0,
        "end",
    ),
    "a thread in the middle of an answer": (
        """
def use():
    while True:
        model.invoke("x")
threading.Thread(target=use, daemon=True).start()
time.sleep(0.3)
print("end")
""",
        0,
        "end",
    ),
    "a thread that is waited for": (
        "threading.Thread(target=lambda: print(len(model.invoke('x').text) > 0)).start()",
        0,
        "True",
    ),
    "sys.exit in a callback": (
        """
class Leave(BaseCallbackHandler):
    def on_llm_new_token(self, *args, **kwargs):
        sys.exit(3)
for _ in model.stream("x", config={"callbacks": [Leave()]}):
    pass
""",
        3,
        "",
    ),
    "Ctrl-C in invoke": (
        """
after(0.5, signal.SIGINT)
try:
    while True:
        model.invoke("x")
except KeyboardInterrupt:
    print("interrupted", len(model.invoke("x", max_tokens=3).text) > 0)
""",
        0,
        "interrupted True",
    ),
    "Ctrl-C in asyncio": (
        """
async def main():
    after(0.5, signal.SIGINT)
    while True:
        await asyncio.gather(*(model.ainvoke("x") for _ in range(4)))
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", len(model.invoke("x", max_tokens=3).text) > 0)
""",
        0,
        "interrupted True",
    ),
    "SIGTERM in invoke": ("after(0.5, signal.SIGTERM)\nwhile True: model.invoke('x')", -15, ""),
    "SIGTERM with a handler that exits": (
        """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
after(0.5, signal.SIGTERM)
while True: model.invoke("x")
""",
        4,
        "",
    ),
    "an engine that nobody closes": (
        """
from langchain_qwen.checkpoints import resolve
from langchain_qwen.engine import Request
from langchain_qwen.engine.loading import load_engine
engine = load_engine(resolve(model.model), precision="int4", device="cpu", kv_cache_bytes=1 << 22)
def use():
    for _ in engine.stream(Request((1, 2), 400, frozenset())):
        pass
for _ in range(3):
    threading.Thread(target=use, daemon=True).start()
time.sleep(0.2)
print("end")
""",
        0,
        "end",
    ),
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_ends_with(tiny_checkpoint, name):
    body, code, output = PROCESSES[name]
    program = f"""
import asyncio, os, signal, sys, threading, time
from langchain_core.callbacks import BaseCallbackHandler
from langchain_qwen import ChatQwen
signal.signal(signal.SIGINT, signal.default_int_handler)
def after(seconds, number):
    timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()
model = ChatQwen(model={str(tiny_checkpoint)!r}, device="cpu", max_tokens=400, logit_bias={{264: -100, 266: -100}})
model.load()
{body}
"""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (code, output), done.stderr
    assert "Fatal" not in done.stderr


# -- callbacks --------------------------------------------------------------------------------------------------------


class Each(BaseCallbackHandler):
    raise_error = True

    def __init__(self, work: Any):
        self.work, self.results = work, []

    def on_llm_new_token(self, *_: Any, **__: Any) -> None:
        self.results.append(self.work())


class AsyncEach(AsyncCallbackHandler):
    raise_error = True

    def __init__(self, work: Any):
        self.work, self.results = work, []

    async def on_llm_new_token(self, *_: Any, **__: Any) -> None:
        self.results.append(await self.work())


def test_an_exception_in_a_callback_ends_its_answer_only(model):
    expected = model.invoke("x").content
    with pytest.raises(ZeroDivisionError):
        list(model.stream("x", config={"callbacks": [Each(lambda: 1 / 0)]}))
    wait_until_idle(model)

    async def fail() -> None:
        raise ZeroDivisionError

    async def read() -> None:
        async for _ in model.astream("x", config={"callbacks": [AsyncEach(fail)]}):
            pass

    with pytest.raises(ZeroDivisionError):
        asyncio.run(read())
    wait_until_idle(model)
    assert model.invoke("x").content == expected


def test_a_callback_may_call_the_model(model):
    expected = model.invoke("y", max_tokens=3).content
    each = Each(lambda: model.invoke("y", max_tokens=3).content)
    list(model.stream("x", config={"callbacks": [each]}, max_tokens=5))
    assert each.results
    assert set(each.results) == {expected}

    async def ask() -> Any:
        return (await model.ainvoke("y", max_tokens=3)).content

    async def read(each: AsyncEach) -> None:
        async for _ in model.astream("x", config={"callbacks": [each]}, max_tokens=5):
            pass

    async_each = AsyncEach(ask)
    asyncio.run(read(async_each))
    assert set(async_each.results) == {expected}


def slow_model(tiny_checkpoint, monkeypatch) -> ChatQwen:
    """One whose answer does not end before somebody ends it, however busy the machine is."""
    settings = {"device": "cpu", "max_tokens": 1500, "kv_cache_bytes": 5 << 20, "logit_bias": {264: -100, 266: -100}}
    model = ChatQwen(model=str(tiny_checkpoint), **settings)
    runner = engine_of(model)._runner
    step = runner.step
    monkeypatch.setattr(runner, "step", lambda *args: time.sleep(0.02) or step(*args))
    return model


def test_a_callback_may_close_the_model(tiny_checkpoint, monkeypatch):
    async def read(model: ChatQwen, each: AsyncEach) -> None:
        async for _ in model.astream("x", config={"callbacks": [each]}):
            pass

    with slow_model(tiny_checkpoint, monkeypatch) as model, pytest.raises(errors.EngineClosedError):
        list(model.stream("x", config={"callbacks": [Each(model.close)]}))
    with slow_model(tiny_checkpoint, monkeypatch) as model:

        async def close() -> None:
            model.close()

        with pytest.raises(errors.EngineClosedError):
            asyncio.run(read(model, AsyncEach(close)))


def test_closing_from_other_threads_ends_everyone(tiny_checkpoint, monkeypatch):
    model = slow_model(tiny_checkpoint, monkeypatch)
    streams = [model.stream("x" * n) for n in range(1, 5)]
    for stream in streams:
        next(stream)
    closers = [threading.Thread(target=model.close) for _ in range(4)]
    for closer in closers:
        closer.start()
    for stream in streams:
        with pytest.raises(errors.EngineClosedError):
            list(stream)
    for closer in closers:
        closer.join(PATIENCE_S)
        assert not closer.is_alive()


# -- streams and loops ------------------------------------------------------------------------------------------------


# langchain-core wants to tell callbacks of the end, and no loop is left to do it on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning")
def test_a_loop_that_is_closed_under_a_stream_costs_nothing(model):
    expected = model.invoke("x").content
    loop = asyncio.new_event_loop()
    stream = model.astream("x")
    loop.run_until_complete(anext(stream))
    loop.close()
    wait_until_idle(model)
    assert model.invoke("x").content == expected
    del stream
    gc.collect()


def test_a_half_read_stream_may_be_collected_in_another_thread(model):
    kept = [model.stream("x"), model.stream("y")]
    for stream in kept:
        next(stream)
    del stream

    def drop() -> None:
        kept.clear()
        gc.collect()

    thread = threading.Thread(target=drop)
    thread.start()
    thread.join(PATIENCE_S)
    wait_until_idle(model)


async def test_200_streams_with_cancels_lose_nothing(model):
    expected = (await model.ainvoke("x 3")).content
    chance = random.Random(0)

    async def one(number: int, stop_after: int | None) -> str:
        text = ""
        stream = model.astream(f"x {number % 7}")
        async for chunk in stream:
            text += chunk.text
            if stop_after is not None and len(text) > stop_after:
                await stream.aclose()
                break
        return text

    tasks = [asyncio.create_task(one(n, chance.choice([None, None, 1, 5]))) for n in range(200)]
    for task in chance.sample(tasks, 80):
        asyncio.get_running_loop().call_later(chance.random(), task.cancel)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, str | asyncio.CancelledError) for result in results)
    await asyncio.to_thread(wait_until_idle, model)
    assert (await model.ainvoke("x 3")).content == expected


# -- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda m: m.model_copy(), lambda m: m.model_copy(deep=True),
     lambda m: pickle.loads(pickle.dumps(m))],
    ids=["copy", "deepcopy", "model_copy", "model_copy(deep)", "pickle"],
)  # fmt: skip
@pytest.mark.parametrize("wrap", [
    lambda m: m,
    lambda m: m.bind(stop=["zz"]),
    lambda m: m.bind_tools([{"type": "function", "function": {"name": "f", "parameters": {}}}]),
    lambda m: m.with_retry(),
    lambda m: m.configurable_fields(seed=ConfigurableField(id="seed")),
    lambda m: SafetyParser("balanced").guard(m),
    lambda m: Persona(name="p", instructions="You are brief.") | SafetyParser("balanced").guard(m),
    lambda m: InputGuard(SafetyParser("strict", canary="heron")) | HistoryTrimmer(m, window=600) | m,
], ids=["model", "bind", "bind_tools", "with_retry", "fields", "guard", "persona", "trimmer"])  # fmt: skip
def test_copies_and_pickles_answer_the_same_and_outlive_the_original(tiny_checkpoint, again, wrap):
    settings = {"device": "cpu", "temperature": 0, "max_tokens": 5, "kv_cache_bytes": 5 << 20}
    model = ChatQwen(model=str(tiny_checkpoint), **settings)
    expected = wrap(model).invoke("x").content
    other = again(wrap(model))
    del model
    gc.collect()
    assert other.invoke("x").content == expected
    assert again(other).invoke("x").content == expected
