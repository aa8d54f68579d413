"""What comes over the wire is what the engine behind it says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import pickle
import shutil
import threading
import time
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.load import dumps
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_qwen import ChatQwen
from langchain_qwen.engine import Request, SamplingParams, Started, Token
from langchain_qwen.errors import (
    ContextOverflowError,
    EngineClosedError,
    InvalidParameterError,
    ModelNotFoundError,
)
from tests.completions_server import URL

QUESTION = "What is the capital of France?"


def engine_of(model):
    return model._backend.engine(model._open().checkpoint)


async def collected(source):
    return [event async for event in source]


def essence(events):
    """All but times; an engine tells of cached tokens at the beginning, a server at the end."""
    return [
        event
        if isinstance(event, Token)
        else type(event)
        if isinstance(event, Started)
        else (event.reason, event.completion_tokens)
        for event in events
    ]


@pytest.mark.parametrize("top_logprobs", [None, 0, 3])
def test_the_events_are_those_of_the_engine_behind(local, remote, top_logprobs):
    ids = tuple(local.prompter.encode([HumanMessage(QUESTION)]))
    request = Request(ids, 12, frozenset({264, 266}), SamplingParams(temperature=0.9, seed=5), top_logprobs)
    expected = essence(engine_of(local).stream(request))
    assert essence(engine_of(remote).stream(request)) == expected
    assert essence(asyncio.run(collected(engine_of(remote).astream(request)))) == expected


@settings(max_examples=25, deadline=None)
@given(
    st.builds(
        SamplingParams,
        temperature=st.sampled_from([0.0, 0.5, 1.5]),
        top_k=st.integers(0, 30),
        top_p=st.sampled_from([1.0, 0.7]),
        min_p=st.sampled_from([0.0, 0.1]),
        repetition_penalty=st.sampled_from([1.0, 1.3]),
        presence_penalty=st.sampled_from([0.0, 1.0]),
        frequency_penalty=st.sampled_from([0.0, -0.5]),
        logit_bias=st.dictionaries(st.integers(0, 319), st.sampled_from([-100.0, 3.0]), max_size=3),
        min_tokens=st.integers(0, 6),
        seed=st.integers(0, 2**63 - 1),
    ),
    st.frozensets(st.integers(0, 319), max_size=40),
)
def test_every_parameter_arrives(local, server, tiny_checkpoint, sampling, stop_ids):
    with ChatQwen(base_url=URL, model="qwen", tokenizer=str(tiny_checkpoint)) as remote:
        request = Request((1, 2, 3), 8, stop_ids, sampling)
        assert essence(engine_of(remote).stream(request)) == essence(engine_of(local).stream(request))


def test_a_chat_model_answers_as_the_local_one(local, remote):
    here, there = local.invoke(QUESTION, seed=3, temperature=1), remote.invoke(QUESTION, seed=3, temperature=1)
    assert there.text == here.text != ""
    assert there.usage_metadata["input_tokens"] == here.usage_metadata["input_tokens"]
    assert there.usage_metadata["output_tokens"] == here.usage_metadata["output_tokens"]
    assert there.response_metadata["model_name"] == "qwen"
    again = remote.invoke(QUESTION)
    assert again.usage_metadata["input_token_details"]["cache_read"] > 0


def test_blocking_within_a_running_loop(local, remote):
    async def in_a_notebook():
        return remote.invoke(QUESTION).text, (await remote.ainvoke(QUESTION)).text

    assert asyncio.run(in_a_notebook()) == (local.invoke(QUESTION).text,) * 2


def test_every_field_is_sent_whatever_the_call_leaves_out(remote, server):
    remote.invoke(QUESTION)
    sent = server.requests[-1].body
    assert sent["repetition_penalty"] == 1.1  # of the checkpoint's generation_config
    assert {"temperature", "top_k", "top_p", "min_p", "presence_penalty", "frequency_penalty", "seed"} <= sent.keys()


def test_ignore_eos_and_long_seeds(local, remote, server):
    answer = remote.invoke(QUESTION, ignore_eos=True, seed=-1, max_tokens=20)
    assert answer.usage_metadata["output_tokens"] == 20
    assert server.requests[-1].body["min_tokens"] == 20
    assert 0 <= server.requests[-1].body["seed"] < 2**63


def test_structured_output_keeps_to_its_schema(remote):
    schema = {
        "title": "thing",
        "type": "object",
        "properties": {"xyz": {"type": "integer", "minimum": 3, "maximum": 8}},
        "required": ["xyz"],
    }
    assert 3 <= remote.with_structured_output(schema).invoke(QUESTION, max_tokens=200)["xyz"] <= 8


def test_a_bias_that_the_server_would_cut_is_refused(remote):
    with pytest.raises(InvalidParameterError, match="-100 to 100"):
        remote.invoke(QUESTION, logit_bias={5: -101.0})
    with pytest.raises(InvalidParameterError):
        remote.invoke(QUESTION, logit_bias={5: -math.inf})


def test_cached_tokens_are_left_out_where_the_server_does_not_tell(remote, server):
    server.tells_cached = False
    try:
        usage = remote.invoke(QUESTION).usage_metadata
    finally:
        server.tells_cached = True
    assert "cache_read" not in usage["input_token_details"]


def test_a_call_may_name_another_model_of_the_server(remote, server):
    assert remote.invoke(QUESTION, model="other").response_metadata["model_name"] == "other"
    assert server.requests[-1].body["model"] == "other"
    with pytest.raises(ModelNotFoundError, match="it has: qwen, other"):
        remote.invoke(QUESTION, model="absent")


def test_what_counts_for_an_adapter_reads_the_models_files(remote, server, tiny_checkpoint):
    from langchain_qwen.history import HistoryTrimmer

    messages, report = HistoryTrimmer(remote.bind(model="other")).with_report([HumanMessage(QUESTION)])
    assert remote.invoke(messages, model="other").usage_metadata["input_tokens"] == report.tokens_after
    named_by_its_folder = ChatQwen(base_url=URL, model=str(tiny_checkpoint))  # `tokenizer` is `model` then
    other = named_by_its_folder.as_local({"model": "other"})
    assert other.get_num_tokens(QUESTION) == remote.get_num_tokens(QUESTION)


def test_the_window_is_the_smaller_one(remote, server, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(server, "max_model_len", 100)
    with ChatQwen(base_url=URL + "/", model="qwen", tokenizer=str(tiny_checkpoint), max_tokens=10) as model:
        assert model.context_window == 100
        with pytest.raises(ContextOverflowError, match="holds 100"):
            model.invoke("word " * 100)
    monkeypatch.setattr(server, "max_model_len", None)
    with ChatQwen(base_url=URL + "/", model="qwen", tokenizer=str(tiny_checkpoint), max_retries=1) as model:
        assert model.context_window == model._open().checkpoint.context_window


def test_no_weights_are_needed_here(server, tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "small", ignore=shutil.ignore_patterns("*.safetensors"))
    with ChatQwen(base_url=URL, model="qwen", tokenizer=str(folder), max_tokens=4) as model:
        assert model.invoke(QUESTION).usage_metadata["output_tokens"] > 0


def test_warm_says_what_the_server_has(remote):
    beginning = [SystemMessage("You know the mill. " * 12)]
    ready = remote.warm(beginning)
    assert ready >= 64
    usage = remote.invoke([*beginning, HumanMessage("Hello")]).usage_metadata
    assert usage["input_token_details"]["cache_read"] >= ready // 16 * 16


def wait_until_idle(server):
    until = time.monotonic() + 10
    while server.running and time.monotonic() < until:
        time.sleep(0.01)
    assert server.running == 0


def test_closing_a_stream_ends_it_at_the_server(remote, server):
    with contextlib.closing(remote.stream(QUESTION, max_tokens=1500, ignore_eos=True)) as chunks:
        next(chunks)
        assert server.running == 1
    wait_until_idle(server)


def test_cancelling_tasks_ends_their_streams(remote, server):
    async def half_of_them():
        tasks = [
            asyncio.ensure_future(remote.ainvoke(QUESTION, max_tokens=1500 if n % 2 else 5, ignore_eos=True))
            for n in range(16)
        ]
        while server.running < 8:  # noqa: ASYNC110  it runs in another loop
            await asyncio.sleep(0.01)
        await asyncio.wait(tasks[::2])
        for task in tasks[1::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(half_of_them())
    assert all(isinstance(result, asyncio.CancelledError) for result in results[1::2])
    assert all(result.usage_metadata["output_tokens"] == 5 for result in results[::2])
    wait_until_idle(server)
    assert not [thread for thread in threading.enumerate() if thread.name == "langchain-qwen request"]


def test_closing_the_model_ends_streams_in_other_threads_and_loops(server, tiny_checkpoint):
    model = ChatQwen(base_url=URL, model="qwen", tokenizer=str(tiny_checkpoint), max_tokens=1500, ignore_eos=True)
    errors = []

    def blocking():
        try:
            model.invoke(QUESTION)
        except EngineClosedError as error:
            errors.append(error)

    def in_a_loop():
        try:
            asyncio.run(model.ainvoke(QUESTION))
        except EngineClosedError as error:
            errors.append(error)

    threads = [threading.Thread(target=blocking), threading.Thread(target=in_a_loop)]
    for thread in threads:
        thread.start()
    while server.running < 2:
        time.sleep(0.01)
    model.close()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 2
    wait_until_idle(server)
    with pytest.raises(EngineClosedError):
        model.invoke(QUESTION)


class TestSettings:
    def test_the_key_is_sent_and_shown_nowhere(self, remote, server, tiny_checkpoint, caplog):
        caplog.set_level("DEBUG")
        secret = "sk-very-secret-1234"
        with ChatQwen(base_url=URL, model="qwen", tokenizer=str(tiny_checkpoint), api_key=secret) as model:
            model.invoke(QUESTION, max_tokens=2)
            assert server.requests[-1].headers["authorization"] == f"Bearer {secret}"
            shown = [repr(model), str(model), dumps(model), json.dumps(model._identifying_params, default=str)]
            shown += [model.model_dump_json(), repr(model._backend), repr(engine_of(model).__dict__), caplog.text]
            shown += [str(model._get_ls_params()), repr(model.bind(stop=["x"]))]
            assert not [text for text in shown if secret in text]
            assert pickle.loads(pickle.dumps(model)).api_key.get_secret_value() == secret

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"base_url": "http://me:pass@server/v1"}, "api_key"),
            ({"base_url": "http://server/v1?key=1"}, "path"),
            ({"base_url": "server:8000"}, "http://host:8000/v1"),
            ({"base_url": "http://server:99999/v1"}, "http://host:8000/v1"),
            ({"base_url": "http://[::1/v1"}, "http://host:8000/v1"),
            ({"base_url": "http://server/v1\n"}, "http://host:8000/v1"),
            ({"base_url": " http://server/v1"}, "http://host:8000/v1"),
            ({"base_url": "http://server/v1?"}, "path"),
            ({"base_url": "http://server/v1#"}, "path"),
            ({"base_url": URL, "precision": "int4"}, "precision"),
            ({"base_url": URL, "kv_cache_bytes": 1 << 20}, "kv_cache_bytes"),
            ({"tokenizer": "coder-0.5b"}, "base_url"),
            ({"base_url": URL, "max_retries": -1}, "max_retries"),
        ],
    )
    def test_settings_that_make_no_sense_are_refused(self, given, message):
        with pytest.raises(InvalidParameterError, match=message) as caught:
            ChatQwen(**given)
        assert "pass@" not in str(caught.value)

    @pytest.mark.parametrize("key", ["sk-1234\n", " sk-1234", "sk-1234\r\nX: 1", "sk-1234€"])
    def test_a_key_that_no_header_can_hold_is_refused(self, key):
        """An HTTP library would show it in its error."""
        with pytest.raises(InvalidParameterError, match="api_key"):
            ChatQwen(base_url=URL, api_key=key)

    @pytest.mark.parametrize("given", [{"precision": "int4"}, {"max_retries": -1}, {"api_key": "sk-1234\n"}])
    def test_tracebacks_of_wrong_settings_hold_no_key(self, given):
        with pytest.raises(InvalidParameterError) as caught:
            ChatQwen(**{"base_url": URL, "api_key": "-".join(["sk", "1234"]), **given})
        assert "sk-1234" not in "".join(traceback.format_exception(caught.value))
