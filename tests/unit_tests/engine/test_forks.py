"""A process may fork after a model was loaded: child and parent both go on, and give what they gave before.

Every child runs under a deadline of its own, since what these tests prevent is hanging.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import SystemMessage

from langchain_qwen import ChatQwen, errors
from langchain_qwen.forks import cached_property

PATIENCE_S = 60

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` returns in a forked child, which ends without the interpreter's own end; raises what it raises."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE_S)
        try:
            result = pickle.dumps((True, work()))
        except BaseException as error:  # noqa: BLE001  the parent raises it
            traceback.print_exc()
            result = pickle.dumps((False, error))
        os.write(writer, result)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status} (14: it hung)"
    good, value = pickle.loads(content)
    if not good:
        raise value
    return value


def make(folder: Any, **settings: Any) -> ChatQwen:
    settings = {"precision": "int4", "device": "cpu", "temperature": 0, "kv_cache_bytes": 1 << 22} | settings
    return ChatQwen(model=str(folder), logit_bias={264: -100, 266: -100}, **settings)


@pytest.fixture
def model(tiny_checkpoint) -> Iterator[ChatQwen]:
    with make(tiny_checkpoint, max_tokens=12) as model:
        yield model


def answer(model: ChatQwen, text: str = "the first") -> str:
    return str(model.invoke(text).content)


def _answer_in_worker(folder: str) -> str:
    with make(folder, max_tokens=12) as model:
        return answer(model)


_loaded: ChatQwen | None = None


def _answer_of_the_loaded(text: str) -> str:
    assert _loaded is not None
    return answer(_loaded, text)


def test_a_child_answers_after_the_parent_has_loaded(model):
    expected = answer(model)
    assert in_child(lambda: answer(model)) == expected
    assert in_child(lambda: answer(model.model_copy())) == expected
    assert answer(model) == expected


def test_a_child_answers_with_a_new_object_async_and_in_threads(model, tiny_checkpoint):
    expected = answer(model)

    def work() -> list[str]:
        answers = [answer(make(tiny_checkpoint, max_tokens=12)), str(asyncio.run(model.ainvoke("the first")).content)]
        return answers + [str(m.content) for m in model.batch(["the first"] * 8)]

    assert in_child(work) == [expected] * 10


def test_a_child_can_warm(model, tmp_path, monkeypatch):
    monkeypatch.setenv("LANGCHAIN_QWEN_CACHE", str(tmp_path))
    answer(model)
    assert in_child(lambda: model.warm([SystemMessage("the " * 60)])) > 0


def test_a_child_does_not_write_into_the_parents_memory(model):
    """Python's anonymous mappings are shared with children by default."""
    text = "the cat " * 20
    expected = answer(model, text)

    def work() -> None:
        for number in range(40):
            answer(model, f"{number} " * 30)

    in_child(work)
    message = model.invoke(text)
    assert message.usage_metadata["input_token_details"]["cache_read"] > 0
    assert message.content == expected


def test_forking_while_an_answer_runs_leaves_the_answer_to_the_parent(model):
    settings = {"max_tokens": 150}
    whole = "".join(chunk.text for chunk in model.stream("the first", **settings))
    stream = model.stream("the first", **settings)
    begin = next(stream).text

    def work() -> str:
        with pytest.raises(errors.EngineError, match="before the process was forked"):
            next(stream)
        return str(model.invoke("the first", **settings).content)

    assert in_child(work) == whole
    assert begin + "".join(chunk.text for chunk in stream) == whole


def test_forking_while_other_threads_use_the_engine(model, tiny_checkpoint):
    """Whatever locks they hold at that moment."""
    expected = answer(model)
    done = threading.Event()
    wrong: list[str] = []

    def use() -> None:
        while not done.is_set():
            with make(tiny_checkpoint, max_tokens=12) as other:  # leases come and go
                if answer(other) != expected:
                    wrong.append("parent")

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert in_child(lambda: answer(model)) == expected
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_forking_while_another_thread_loads(tiny_checkpoint, monkeypatch):
    from langchain_qwen import backends

    loading, go_on = threading.Event(), threading.Event()
    load_engine = backends.load_engine
    parent = os.getpid()

    def slow(*args: Any, **kwargs: Any) -> Any:
        if os.getpid() == parent:
            loading.set()
            go_on.wait()
        return load_engine(*args, **kwargs)

    monkeypatch.setattr(backends, "load_engine", slow)
    with make(tiny_checkpoint, max_tokens=12, kv_cache_bytes=1 << 21) as model:
        thread = threading.Thread(target=model.load)
        thread.start()
        loading.wait()
        try:
            got = in_child(lambda: answer(model))
        finally:
            go_on.set()
            thread.join()
        assert got == answer(model)


def test_a_fork_inside_a_fork(model):
    expected = answer(model)
    assert in_child(lambda: (answer(model), in_child(lambda: answer(model)), answer(model))) == (expected,) * 3


def test_a_child_may_close_what_the_parent_goes_on_using(model):
    expected = answer(model)

    def work() -> None:
        model.close()
        with pytest.raises(errors.EngineClosedError):
            answer(model)

    in_child(work)
    assert answer(model) == expected


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes_work(model, tiny_checkpoint, method):
    global _loaded  # what a forked worker inherits
    expected = answer(model)
    _loaded = model
    try:
        with multiprocessing.get_context(method).Pool(2) as pool:
            results = [pool.apply_async(_answer_in_worker, (str(tiny_checkpoint),)) for _ in range(2)]
            if method == "fork":
                results += [pool.apply_async(_answer_of_the_loaded, ("the first",)) for _ in range(4)]
            assert {result.get(PATIENCE_S) for result in results} == {expected}
    finally:
        _loaded = None


def test_a_pool_hands_back_every_error(model):
    """An exception that cannot be unpickled ends the thread of the pool that reads results: the caller hangs."""
    global _loaded
    answer(model)
    _loaded = model
    try:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            with pytest.raises(errors.ContextOverflowError) as caught:
                pool.apply_async(_answer_of_the_loaded, ("the " * 5000,)).get(PATIENCE_S)
            assert caught.value.context_window > 0
    finally:
        _loaded = None


@pytest.mark.parametrize(
    "error",
    [
        errors.ContextOverflowError("long", prompt_tokens=5, reserved_tokens=2, context_window=6),
        errors.BlockedInputError("bad", rule="r"),
        errors.AnswerLostError("lost", text="so far", token_ids=(1, 2)),
        *(
            kind("text")
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, errors.QwenError) and not kind._keywords
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_processes_whole(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_torch_is_refused_at_once_in_a_forked_child(tiny_checkpoint):
    with make(tiny_checkpoint, precision="fp32", max_tokens=4) as model:
        expected = answer(model)

        def work() -> None:
            for use in (model, make(tiny_checkpoint, precision="fp32", max_tokens=4, kv_cache_bytes=1 << 21)):
                started = time.process_time()
                with pytest.raises(errors.EngineError, match="spawn"):
                    answer(use)
                assert time.process_time() - started < 5

        in_child(work)
        assert answer(model) == expected


@pytest.mark.parametrize("end", ["sys.exit(0)", "os._exit(0)", "pass"])
@pytest.mark.parametrize("used", [True, False])
def test_a_child_that_ends_does_not_hang(tiny_checkpoint, end, used):
    code = f"""
import os, sys
from langchain_qwen import ChatQwen
model = ChatQwen(model={str(tiny_checkpoint)!r}, precision="int4", device="cpu", max_tokens=400)
stream = model.stream("the")
next(stream)
child = os.fork()
if child == 0:
    if {used}:
        model.invoke("the", max_tokens=3)
    {end}
else:
    _, status = os.waitpid(child, 0)
    print("child", status, len(list(stream)) > 0)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "child 0 True"), done.stderr


def test_a_property_that_another_thread_was_computing_is_computed_in_the_child():
    """functools.cached_property of Python 3.11 and before holds one lock for all objects meanwhile."""
    computing, go_on = threading.Event(), threading.Event()
    parent = os.getpid()

    class Slow:
        @cached_property
        def value(self) -> int:
            if os.getpid() == parent:
                computing.set()
                go_on.wait(PATIENCE_S)
            return 5

    thread = threading.Thread(target=lambda: Slow().value)
    thread.start()
    computing.wait(PATIENCE_S)
    try:
        assert in_child(lambda: Slow().value) == 5
    finally:
        go_on.set()
        thread.join()
