"""Whatever goes wrong on the engine's thread, every caller hears of it as a typed error, and the next one is served."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiktoken

from langchain_qwen import ChatQwen, backends, errors
from langchain_qwen.checkpoints import resolve
from langchain_qwen.engine import Constraint, Request, SamplingParams, Token, sharing
from langchain_qwen.engine.local import LocalEngine
from langchain_qwen.engine.runners.cpu.runner import CpuRunner
from langchain_qwen.engine.runners.cpu.weights import ModelWeights, load_weights
from langchain_qwen.engine.scheduler import Scheduler
from langchain_qwen.engine.sequence import Sequence
from langchain_qwen.engine.worker import Worker
from tests.tiny import make_tiny_checkpoint

PATIENCE_S = 60
ENDLESS = SamplingParams(logit_bias={264: -100, 266: -100})

split_spaces = tiktoken.Encoding(
    "t", pat_str=r"\s+(?!\S)|.", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
)


def panic(*_: Any) -> Any:
    """A real one, of an extension in Rust."""
    split_spaces.encode_ordinary(" " * 2_000_000 + "x")


def request(prompt: tuple[int, ...], max_tokens: int = 20, **settings: Any) -> Request:
    return Request(prompt, max_tokens, frozenset(), ENDLESS, **settings)


def tokens(engine: LocalEngine, wanted: Request) -> list[int]:
    return [event.id for event in engine.stream(wanted) if isinstance(event, Token)]


async def atokens(engine: LocalEngine, wanted: Request) -> list[int]:
    return [event.id async for event in engine.astream(wanted) if isinstance(event, Token)]


@pytest.fixture(scope="module")
def weights(tiny_checkpoint, tmp_path_factory) -> ModelWeights:
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    cache = tmp_path_factory.mktemp("cache")
    return load_weights(tiny_checkpoint, config, precision="int4", fingerprint="t", cache_folder=cache, num_threads=2)


@pytest.fixture
def runner(weights) -> CpuRunner:
    return CpuRunner(weights, precision="int4", num_threads=2, max_step_tokens=64)


@pytest.fixture
def engine(runner) -> Iterator[LocalEngine]:
    engine = LocalEngine(runner, model="tiny", context_window=512, num_blocks=64, max_step_tokens=64)
    yield engine
    engine.close()


def everyone(engine: LocalEngine, wanted: Request, count: int = 3) -> list[BaseException | list[int]]:
    """What as many callers get, some in threads and some on an event loop."""

    async def together() -> list[Any]:
        return await asyncio.gather(*(atokens(engine, wanted) for _ in range(count)), return_exceptions=True)

    with ThreadPoolExecutor(count + 1) as pool:
        on_loop = pool.submit(lambda: asyncio.run(together()))
        in_threads = [pool.submit(tokens, engine, wanted) for _ in range(count)]
        return [f.exception(PATIENCE_S) or f.result() for f in in_threads] + on_loop.result(PATIENCE_S)


@dataclass(frozen=True, eq=False)
class Panicking(Constraint):
    """A grammar whose matcher panics."""

    def matcher(self) -> Any:
        return PanickingMatcher()


class PanickingMatcher:
    complete = False

    def forced(self) -> list[int]:
        return []

    def accept(self, token: int) -> None:
        pass

    def allowed(self) -> Any:
        return panic()


def test_a_panic_is_no_exception():
    """What the following is about."""
    with pytest.raises(BaseException, match="StackOverflow") as caught:
        panic()
    assert not isinstance(caught.value, Exception)


def test_a_panic_in_one_request_reaches_its_caller_as_an_error_and_nobody_else(engine):
    expected = tokens(engine, request((1, 2), 300))
    companion = engine.stream(request((1, 2), 300))
    events = [next(companion)]
    wanted = request((3,), constraint=Panicking(None, ""))
    with pytest.raises(errors.EngineError, match="PanicException"):
        tokens(engine, wanted)
    with pytest.raises(errors.EngineError, match="PanicException"):
        asyncio.run(atokens(engine, wanted))
    events += companion
    assert [event.id for event in events if isinstance(event, Token)] == expected


@pytest.mark.parametrize("raised", [MemoryError(), SystemExit(), KeyboardInterrupt(), RuntimeError("x"), panic])
@pytest.mark.parametrize("place", [(Scheduler, "_plan"), (Scheduler, "_drop_ended"), (Scheduler, "add")])
def test_an_error_in_bookkeeping_ends_its_requests_and_not_the_engine(engine, monkeypatch, raised, place):
    expected = tokens(engine, request((5, 6)))

    def fail(*_: Any) -> Any:
        if raised is panic:
            panic()
        raise raised

    with monkeypatch.context() as patch:
        patch.setattr(*place, fail)
        for result in everyone(engine, request((5, 6))):
            assert isinstance(result, errors.EngineError)
    assert tokens(engine, request((5, 6))) == expected
    assert engine.between_steps(lambda pool, _: pool.free) == 64


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_death_of_the_thread_ends_everyone_who_waits_and_the_next_one_is_served(engine, monkeypatch):
    """Memory that lacks even for saying so."""
    expected = tokens(engine, request((5, 6)))
    first = engine._worker.thread

    def fail(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Scheduler, "_plan", fail)
        patch.setattr(Scheduler, "fail_all", fail)
        for result in everyone(engine, request((5, 6))):
            assert isinstance(result, errors.EngineError)
        patch.setattr(Worker, "_turn", fail)
        with pytest.raises(errors.EngineError):  # a job as well
            engine.between_steps(lambda *_: 1)
    assert not first.is_alive()
    assert tokens(engine, request((5, 6))) == expected
    assert asyncio.run(atokens(engine, request((5, 6)))) == expected


def test_closing_after_the_death_of_the_thread_frees_the_memory(runner):
    engine = LocalEngine(runner, model="tiny", context_window=512, num_blocks=64, max_step_tokens=64)
    engine._worker.close()
    engine._worker.thread.join(PATIENCE_S)
    engine.close()
    with pytest.raises(errors.EngineClosedError):
        tokens(engine, request((1,)))


def test_an_event_that_gets_lost_does_not_leave_its_caller_waiting(engine, monkeypatch):
    """The queue had no memory for the error, say."""

    def fail(self: Sequence, error: BaseException) -> None:
        self.gone = True

    monkeypatch.setattr(Sequence, "fail", fail)
    monkeypatch.setattr(CpuRunner, "step", lambda *_: 1 / 0)
    for result in everyone(engine, request((5, 6)), count=1):
        assert isinstance(result, errors.EngineError)


def test_a_thread_that_is_refused_is_a_typed_error_and_frees_what_was_taken(runner):
    before = os.listdir("/proc/self/task") if sys.platform == "linux" else []
    threading.stack_size(1 << 47)  # more than there are addresses
    try:
        with pytest.raises(errors.EngineError, match="refuses the engine a thread"):
            LocalEngine(runner, model="tiny", context_window=512, num_blocks=64, max_step_tokens=64)
    finally:
        threading.stack_size(0)
    if before:  # threads of other tests may end meanwhile
        assert {*os.listdir("/proc/self/task")} <= {*before}


class TestTimeouts:
    def test_a_caller_keeps_its_timeout_while_the_engine_is_in_a_long_step(self, engine, monkeypatch):
        go_on = threading.Event()
        step = CpuRunner.step
        monkeypatch.setattr(CpuRunner, "step", lambda *args: go_on.wait(PATIENCE_S) and step(*args))
        try:
            with pytest.raises(errors.GenerationTimeoutError):
                tokens(engine, request((1,), deadline=time.monotonic() + 0.1))
            with pytest.raises(errors.GenerationTimeoutError):
                asyncio.run(atokens(engine, request((1,), deadline=time.monotonic() + 0.1)))
            assert not go_on.is_set()
        finally:
            go_on.set()

    def test_waiting_for_another_calls_load_counts(self, tiny_checkpoint, monkeypatch):
        loading, go_on = threading.Event(), threading.Event()
        load_engine = backends.load_engine

        def slow(*args: Any, **settings: Any) -> Any:
            loading.set()
            go_on.wait(PATIENCE_S)
            return load_engine(*args, **settings)

        monkeypatch.setattr(backends, "load_engine", slow)
        with ChatQwen(model=str(tiny_checkpoint), device="cpu", max_tokens=3, kv_cache_bytes=3 << 20) as model:
            thread = threading.Thread(target=model.load)
            thread.start()
            loading.wait(PATIENCE_S)
            try:
                with pytest.raises(errors.GenerationTimeoutError):
                    model.invoke("x", timeout=0.2)
                with pytest.raises(errors.GenerationTimeoutError):
                    asyncio.run(model.ainvoke("x", timeout=0.2))
                assert not go_on.is_set()
            finally:
                go_on.set()
                thread.join()
            assert model.invoke("x").usage_metadata


class TestMemory:
    @pytest.mark.parametrize("size", [10**14, 10**19, 10**30])
    def test_too_much_kv_memory_is_an_out_of_memory_error(self, tiny_checkpoint, size):
        for precision in ("int4", "fp32"):
            model = ChatQwen(model=str(tiny_checkpoint), device="cpu", precision=precision, kv_cache_bytes=size)
            with model, pytest.raises(errors.OutOfMemoryError, match="kv_cache_bytes"):
                model.invoke("x")

    @pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space")
    def test_little_memory_at_load_is_an_out_of_memory_error(self, tiny_checkpoint):
        code = f"""
import resource
from langchain_qwen import ChatQwen, backends, errors
import langchain_qwen.engine.runners.cpu.runner
with ChatQwen(model={str(tiny_checkpoint)!r}, device="cpu", max_tokens=3) as model:
    model.invoke("x")  # so that everything is imported
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
try:
    ChatQwen(model={str(tiny_checkpoint)!r}, device="cpu", max_tokens=3, kv_cache_bytes=1 << 30).invoke("x")
except errors.OutOfMemoryError as error:
    print("typed")
ChatQwen(model={str(tiny_checkpoint)!r}, device="cpu", max_tokens=3, kv_cache_bytes=1 << 20).invoke("x")
print("goes on")
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.stdout.split("\n")[:2] == ["typed", "goes on"], done.stderr


def save_again(folder: Path, seed: int) -> None:
    """New files in the place of the old ones: older safetensors write into the old file, which an engine has mapped."""
    for file in make_tiny_checkpoint(folder.with_name("again"), seed=seed).iterdir():
        file.replace(folder / file.name)


class TestSavedAgain:
    def engine(self, model: ChatQwen) -> Any:
        return model._backend.engine(resolve(model.model))

    def test_the_engine_of_the_former_weights_is_freed(self, tmp_path: Path):
        folder = make_tiny_checkpoint(tmp_path / "m", seed=1)
        settings = {"logit_bias": {264: -100, 266: -100}, "temperature": 0, "max_tokens": 200, "device": "cpu"}
        with ChatQwen(model=str(folder), kv_cache_bytes=3 << 20, **settings) as model:
            whole = model.invoke("x").content
            stream = model.stream("x")
            begin = next(stream).text
            thread = self.engine(model)._worker.thread
            before = len(sharing._registry)
            save_again(folder, seed=2)
            assert model.invoke("x").content != whole
            assert len(sharing._registry) == before
            assert begin + "".join(chunk.text for chunk in stream) == whole, "a running answer lost its engine"
            del stream
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def test_not_while_another_object_uses_it(self, tmp_path: Path):
        folder = make_tiny_checkpoint(tmp_path / "m", seed=1)
        a, b = (ChatQwen(model=str(folder), device="cpu", max_tokens=2, kv_cache_bytes=3 << 20) for _ in range(2))
        with a, b:
            thread = self.engine(a)._worker.thread
            assert self.engine(b)._worker.thread is thread
            save_again(folder, seed=2)
            a.invoke("x")
            assert thread.is_alive()
            b.invoke("x")
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def test_an_engine_that_is_dropped_without_being_closed_ends_its_thread(runner):
    engine = LocalEngine(runner, model="tiny", context_window=512, num_blocks=64, max_step_tokens=64)
    tokens(engine, request((1,)))
    thread = engine._worker.thread
    del engine
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
