"""vLLM's engine in this process, with the real 0.5B: run by the Python of the environment that has vLLM."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import os
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_qwen import ChatQwen
from langchain_qwen.engine import Request
from langchain_qwen.errors import (
    ContextOverflowError,
    EngineClosedError,
    EngineError,
    GenerationTimeoutError,
    InvalidParameterError,
    RequestError,
)
from langchain_qwen.safety import SafetyParser
from tests.vllm.conftest import MODEL, engine_of
from tests.vllm.test_smoke import *  # noqa: F403  the same as of a server, with the `model` of this file
from tests.vllm.test_smoke import MILL

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None,
    reason="vLLM is not installed beside this Python; `make test-vllm` runs these in an environment that has it",
)
WINDOW = 4096
ARGUMENTS = {
    **{"model": MODEL, "engine": "vllm", "kv_cache_bytes": 1 << 29, "temperature": 0, "max_tokens": 200},
    "vllm_kwargs": {"enforce_eager": True, "max_model_len": WINDOW},
}


@pytest.fixture(scope="module")
def model() -> Iterator[ChatQwen]:
    with ChatQwen(**ARGUMENTS) as model:
        model.load()
        yield model


def running(model):
    """Requests that vLLM has."""
    return engine_of(model)._host.llm.get_num_unfinished_requests()


def none_runs(model, within=2.0):
    until = time.monotonic() + within
    while (count := running(model)) and time.monotonic() < until:
        time.sleep(0.05)
    return count == 0


class TestChatQwenInVllm(ChatModelIntegrationTests):
    """LangChain's own tests."""

    @pytest.fixture(autouse=True)
    def _started(self, model):
        """One engine for all of them."""

    @property
    def chat_model_class(self):
        return ChatQwen

    @property
    def chat_model_params(self):
        return {**ARGUMENTS, "repetition_penalty": 1.1}

    @property
    def supports_json_mode(self):
        return True

    @property
    def has_tool_choice(self):
        return True

    @property
    def returns_usage_metadata(self):
        return True

    @property
    def supported_usage_metadata_details(self):
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream=False):
        model = ChatQwen(**self.chat_model_params)
        question = "Which of these is a colour: " + ", ".join(f"word{i}" for i in range(80)) + ", red?"
        model.invoke(question, max_tokens=2)  # vLLM's blocks on a CPU are of 128 tokens
        if not stream:
            return model.invoke(question, max_tokens=2)
        chunks = list(model.stream(question, max_tokens=2))
        return sum(chunks[1:], chunks[0])


def test_what_it_is(model):
    info = engine_of(model).info
    assert (info.context_window, info.vocab_size, info.device, info.precision) == (WINDOW, 151_936, "cpu", "bf16")
    assert model.context_window == WINDOW
    told = model.invoke("Say hi.", max_tokens=4).response_metadata
    assert told["model_name"] == MODEL
    assert told["system_fingerprint"].endswith("-bf16-vllm")


def test_many_at_once(model):
    answers = model.batch([f"Name a {thing}." for thing in ("river", "colour", "bird", "tree")], max_tokens=8)
    assert all(answer.text for answer in answers)


def test_a_guard_and_a_grammar_of_llguidance(model):
    assert SafetyParser("balanced").guard(model).invoke("Say hi.", max_tokens=8).text
    schema = {"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 7}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    assert json.loads(model.bind(response_format=form).invoke("Any number.").text)["n"] % 7 == 0


def test_cached_tokens_are_told(model):
    system = SystemMessage(f"You look after this mill. {MILL * 8}")
    assert model.warm([system]) >= 128
    told = model.invoke([system, HumanMessage("Who built it?")], max_tokens=4).usage_metadata
    assert told["input_token_details"]["cache_read"] >= 128


def test_cancelled_work_ends(model):
    async def half():
        async def one(number):
            async for _ in model.astream(f"Write a story about {number}.", max_tokens=500, ignore_eos=True):
                pass

        tasks = [asyncio.ensure_future(one(number)) for number in range(8)]
        await asyncio.sleep(2)
        assert running(model) == 8
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(result, asyncio.CancelledError) for result in asyncio.run(half()))
    assert none_runs(model)
    chunks = model.stream("Write a story.", max_tokens=500, ignore_eos=True)
    next(chunks)
    assert running(model) == 1
    chunks.close()
    assert none_runs(model)
    with pytest.raises(GenerationTimeoutError, match="tokens were generated"):
        model.invoke("Write a story.", max_tokens=500, ignore_eos=True, timeout=2)
    assert none_runs(model)


def test_what_cannot_be_is_a_typed_error(model):
    with pytest.raises(ContextOverflowError):
        model.invoke("word " * WINDOW)
    with pytest.raises(ContextOverflowError):
        list(engine_of(model).stream(Request((9,) * WINDOW, 4, frozenset())))
    with pytest.raises(InvalidParameterError, match="-100 to 100"):
        model.invoke("hi", logit_bias={5: -101.0})
    with pytest.raises(RequestError, match="vLLM does not take"):
        model.invoke("hi", temperature=3.0)
    assert none_runs(model)
    with pytest.raises(InvalidParameterError, match="no_such_thing"):
        ChatQwen(**{**ARGUMENTS, "vllm_kwargs": {"no_such_thing": 1}}).load()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_is_told_and_the_parent_goes_on(model):
    child = os.fork()
    if child == 0:
        try:
            model.invoke("Say hi.")
            os._exit(1)
        except EngineError as error:
            os._exit(0 if "fork" in str(error) else 2)
    assert os.waitpid(child, 0)[1] == 0
    assert model.invoke("Say hi.", max_tokens=4).text


def test_it_starts_anew_after_its_death_and_goes_when_closed():
    """Last: the fixture's engine is another one, of which there is no need any more."""
    own = ChatQwen(**{**ARGUMENTS, "kv_cache_bytes": 1 << 28})
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    own.load()
    started = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    assert sum(process.memory_info().rss for process in started) > 1e9  # the weights are there
    failures: list[EngineError] = []

    def read():
        try:
            own.invoke("Write a story.", max_tokens=2000, ignore_eos=True)
        except EngineError as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(3)
    for process in started:
        if process.is_running():
            process.kill()
    reader.join(60)
    assert [type(error) for error in failures] == [EngineError]
    assert "start anew" in str(failures[0])
    assert own.invoke("Say hi.", max_tokens=4).text
    again = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    chunks = own.stream("Write a story.", max_tokens=2000, ignore_eos=True)
    next(chunks)
    own.close()
    with pytest.raises(EngineClosedError):
        list(chunks)
    with pytest.raises(EngineClosedError):
        own.invoke("Say hi.")
    gc.collect()
    _, alive = psutil.wait_procs(again, timeout=10)
    assert [process.name() for process in alive if "resource_tracker" not in " ".join(process.cmdline())] == []
