"""A real server behind a proxy that breaks off, stalls, or writes nonsense: typed errors, in time, and no work left."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import urlsplit

import pytest

from langchain_qwen.engine import Request
from langchain_qwen.engine.remote import Patience, RemoteEngine, Server
from langchain_qwen.errors import AnswerLostError, GenerationTimeoutError, ServerTimeoutError, ServerUnreachableError
from tests.vllm.conftest import RAY, SERVED, engine_of, prompt
from tests.vllm.test_server import none_runs

pytestmark = pytest.mark.skipif(bool(RAY), reason="looks at vLLM's own metrics")
PATIENCE = Patience(connect=5.0, first_token=4.0, next_token=2.0)
SLACK_S = 6.0  # the machine has other work
PASSED = 3  # pieces of the answer, its head among them, that pass before the fault

Fault = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def drop(writer):
    writer.transport.abort()


async def truncate(writer):
    writer.write(b"7\r\ndata: {")
    await writer.drain()
    writer.close()


async def stall(writer):
    await asyncio.sleep(60)


async def garbage(writer):
    writer.write(b"\x00\xff\x13 no chunk\r\n" * 20)
    await writer.drain()


async def error_behind_the_200(writer):
    event = b'data: {"error": {"message": "the engine died", "code": 500}}\n\n'
    writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event))
    await writer.drain()


@contextlib.contextmanager
def proxy(base_url: str, fault: Fault, passed: int) -> Iterator[str]:
    """Hands on what the server says, `passed` pieces of it, and then does as `fault` says."""
    target = urlsplit(base_url)
    ready, stop = threading.Event(), threading.Event()
    port = 0

    async def connected(reader, writer):
        from_server, to_server = await asyncio.open_connection(target.hostname, target.port)

        async def send():
            while data := await reader.read(1 << 16):
                to_server.write(data)
            to_server.close()

        sending = asyncio.ensure_future(send())
        try:
            for _ in range(passed):
                writer.write(await from_server.read(1 << 16))
                await writer.drain()
            waiting = {asyncio.ensure_future(fault(writer)), sending}  # a client that goes ends it
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
        except ConnectionError:
            pass
        finally:
            to_server.close()
            writer.close()

    async def serve():
        nonlocal port
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ready.set()
        await asyncio.to_thread(stop.wait)
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        stop.set()
        thread.join(10)


def through(url, model, **changed):
    """An engine that goes that way."""
    known = engine_of(model)
    arguments = {"context_window": known.info.context_window, "vocab_size": known.info.vocab_size}
    arguments = {**arguments, "decode": model._open().tokenizer.decode, "patience": PATIENCE, "max_retries": 0}
    return RemoteEngine(Server(url, SERVED, None), **{**arguments, **changed})


def ask(engine, model, **changed):
    """How long it took to its end."""
    begin = time.monotonic()
    ids = prompt(model, "Write a long story about a mill.")
    try:
        list(engine.stream(Request(ids, 400, frozenset(), **changed)))
    finally:
        ask.seconds = time.monotonic() - begin


@pytest.mark.parametrize("fault", [drop, truncate, stall, garbage, error_behind_the_200])
def test_in_mid_answer(model, base_url, fault):
    with proxy(base_url, fault, PASSED) as url, pytest.raises(AnswerLostError) as lost:
        ask(through(url, model), model)
    assert ask.seconds < PATIENCE.next_token + SLACK_S
    assert lost.value.text == model._open().tokenizer.decode(lost.value.token_ids)
    assert lost.value.token_ids
    assert none_runs(base_url)


@pytest.mark.parametrize(("fault", "kind"), [(drop, ServerUnreachableError), (stall, ServerTimeoutError)])
def test_before_the_answer(model, base_url, fault, kind):
    with proxy(base_url, fault, 0) as url, pytest.raises(kind):
        ask(through(url, model), model)
    assert ask.seconds < PATIENCE.first_token + SLACK_S
    assert none_runs(base_url)


def test_the_calls_own_timeout_is_kept(model, base_url):
    patient = Patience(first_token=60, next_token=60)
    with proxy(base_url, stall, PASSED) as url, pytest.raises(GenerationTimeoutError):
        ask(through(url, model, patience=patient), model, deadline=time.monotonic() + 3)
    assert ask.seconds < 3 + SLACK_S
    assert none_runs(base_url)
