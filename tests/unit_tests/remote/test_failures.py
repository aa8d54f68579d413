"""Whatever goes wrong between here and a server is a typed error, in time, sync and async."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import shutil
import ssl
import subprocess
import time

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core import exceptions as core

from langchain_qwen import ChatQwen, errors
from langchain_qwen.engine import Constraint, Request, Token
from langchain_qwen.engine.remote import Patience, RemoteEngine, Server, connection
from langchain_qwen.engine.remote import engine as remote_engine
from langchain_qwen.engine.remote.wire import NonsenseError, Reply, ToldError
from tests.completions_server import URL, CompletionsServer, reached_over

REQUEST = Request((1, 2, 3), 8, frozenset({264, 266}))
SLACK_S = 8.0  # machines are busy; what hangs, hangs for a minute


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(remote_engine, "FIRST_DELAY_S", 0.01)


@pytest.fixture(params=["blocking", "async"])
def ask(request):
    """All events of an answer, both ways."""

    async def collected(engine, asked):
        return [event async for event in engine.astream(asked)]

    if request.param == "async":
        return lambda engine, asked=REQUEST: asyncio.run(collected(engine, asked))
    return lambda engine, asked=REQUEST: list(engine.stream(asked))


def engine(local, *, key=None, url=URL, **arguments):
    return RemoteEngine(
        Server(url, "qwen", key),
        decode=local._open().tokenizer.decode,
        context_window=2048,
        vocab_size=320,
        **arguments,
    )


def status(code, body=None, **headers):
    async def fault(exchange):
        await exchange.respond(code, body if body is not None else {"error": {"message": f"it is {code}"}}, **headers)

    return fault


def after(*ids, then):
    """A stream that begins well."""

    async def fault(exchange):
        await exchange.begin()
        for token in ids:
            await exchange.choice(token)
        await then(exchange)

    return fault


async def hang(exchange):
    await asyncio.sleep(60)


async def keep_alive_only(exchange):
    while True:
        await exchange.data(b": ping\n\n")
        await asyncio.sleep(0.05)


async def drip(exchange):
    while True:
        await exchange.data(b"x")
        await asyncio.sleep(0.05)


async def drop(exchange):
    exchange._writer.transport.abort()


async def truncate(exchange):
    await exchange.data(b'data: {"choi')
    await exchange.end()


async def garbage(exchange):
    await exchange.data(b"data: <html>\n\n")


async def nested(exchange):
    await exchange.data(b"data: " + b"[" * 200_000 + b"\n\n")


async def error_event(exchange):
    await exchange.event({"error": {"message": "the engine died", "type": "InternalServerError", "code": 500}})
    await exchange.event("[DONE]")
    await exchange.end()


async def silent_end(exchange):
    await exchange.event("[DONE]")
    await exchange.end()


async def odd_reason(exchange):
    await exchange.choice(70, finish_reason="abort")


@pytest.mark.parametrize(
    "fault", [hang, keep_alive_only, drip, drop, truncate, garbage, nested, error_event, odd_reason]
)
def test_what_breaks_off_in_mid_answer_keeps_the_text_so_far(local, server, ask, fault):
    server.faults.append(after(39, 40, 41, then=fault))
    begin = time.monotonic()
    with pytest.raises(errors.AnswerLostError) as caught:
        ask(engine(local, patience=Patience(next_token=0.3)))
    assert time.monotonic() - begin < 0.3 + SLACK_S
    expected = (39, 40, 41, 70) if fault is odd_reason else (39, 40, 41)
    assert caught.value.token_ids == expected
    assert caught.value.text == local._open().tokenizer.decode(expected)
    assert not server.faults  # and it was not asked again
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.text, copy.token_ids, str(copy)) == (caught.value.text, expected, str(caught.value))


def test_a_chat_model_raises_it_behind_the_chunks_that_came(remote, server):
    server.faults.append(after(39, 40, then=drop))
    got = []
    with pytest.raises(errors.AnswerLostError):
        got += [chunk.text for chunk in remote.stream("Hello")]
    server.faults.append(after(39, 40, then=drop))
    with pytest.raises(core.ModelAPIError):
        remote.invoke("Hello")


@pytest.mark.parametrize("fault", [hang, after(then=hang), after(then=keep_alive_only), after(then=drip)])
def test_a_first_token_that_does_not_come(local, server, ask, fault):
    server.faults.append(fault)
    begin = time.monotonic()
    with pytest.raises(errors.ServerTimeoutError, match="did not begin"):
        ask(engine(local, patience=Patience(first_token=0.5)))
    assert 0.5 <= time.monotonic() - begin < 0.5 + SLACK_S


@pytest.mark.parametrize("fault", [hang, after(39, then=keep_alive_only)])
def test_the_calls_own_timeout(local, server, ask, fault):
    server.faults.append(fault)
    begin = time.monotonic()
    patient = Patience(connect=5, first_token=0.1, next_token=30)  # a deadline is what to wait for the first token
    with pytest.raises(errors.GenerationTimeoutError):
        ask(engine(local, patience=patient), Request((1, 2), 8, frozenset(), deadline=begin + 0.4))
    assert 0.4 <= time.monotonic() - begin < 0.4 + SLACK_S


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "body", "kind", "message"),
        [
            (401, {"error": "Unauthorized"}, errors.ServerAccessError, "wants a key"),
            (403, {"error": {"message": "no"}}, errors.ServerAccessError, "403"),
            (404, {"detail": "Not Found"}, errors.ModelNotFoundError, "Not Found"),
            (404, {"error": {"message": "The model `x` does not exist."}}, errors.ModelNotFoundError, "does not exist"),
            (400, {"error": {"message": "temperature must be"}}, errors.RequestError, "temperature must be"),
            (
                400,
                {"error": {"message": "Token id 9 is out of vocabulary"}},
                errors.ServerCapabilityError,
                "vocabulary",
            ),
            (400, {"object": "error", "message": "Grammar error"}, errors.ServerCapabilityError, "backend guidance"),
            (500, {"error": {"message": "xgrammar failed"}}, errors.ServerCapabilityError, "backend guidance"),
            (422, {"detail": [{"loc": ["body", "prompt"], "msg": "bad"}]}, errors.RequestError, "bad"),
            (302, b"", errors.ServerError, "base_url"),
            (405, {"detail": "Method Not Allowed"}, errors.ServerError, "base_url"),
            (418, b"\xff\x00 teapot " * 1000, errors.ServerError, "teapot"),
        ],
    )
    def test_no_second_try_is_made_of_what_will_not_change(self, local, server, ask, code, body, kind, message):
        server.faults.append(status(code, body))
        with pytest.raises(errors.QwenError, match=message) as caught:
            ask(engine(local))
        assert type(caught.value) is kind
        assert len(str(caught.value)) < 1000
        assert not server.faults

    def test_a_prompt_too_long_for_the_server(self, local, server, ask):
        told = "This model's maximum context length is 2 tokens. However, you requested 11 tokens"
        server.faults.append(status(400, {"error": {"message": told}}))
        with pytest.raises(errors.ContextOverflowError, match="maximum context length") as caught:
            ask(engine(local))
        assert (caught.value.prompt_tokens, caught.value.reserved_tokens) == (3, 8)

    def test_the_servers_words_never_bring_the_key_out(self, local, server, ask):
        server.faults.append(status(401, {"error": {"message": "Incorrect API key provided: sk-1234"}}))
        with pytest.raises(errors.ServerAccessError) as caught:
            ask(engine(local, key="sk-1234"))
        assert "sk-1234" not in str(caught.value)
        assert "***" in str(caught.value)

    def test_a_wrong_key_and_none(self, local, tiny_checkpoint, tmp_path):
        tokenizer = local._open().tokenizer
        behind = local._backend.engine(local._open().checkpoint)
        arguments = {"base_url": URL, "model": "qwen", "tokenizer": str(tiny_checkpoint), "max_tokens": 2}
        with reached_over(tmp_path / "s"), CompletionsServer(tmp_path / "s", behind, tokenizer, key="right"):
            with pytest.raises(errors.ServerAccessError, match="wants a key"):
                ChatQwen(**arguments).invoke("Hello")
            with pytest.raises(core.ModelAuthenticationError, match="refuses the key"):
                ChatQwen(**arguments, api_key="wrong").invoke("Hello")
            assert ChatQwen(**arguments, api_key="right").invoke("Hello").usage_metadata["output_tokens"]

    @pytest.mark.parametrize("path", ["/models", "/v2"])
    def test_a_base_url_that_is_no_api(self, server, tiny_checkpoint, path):
        with pytest.raises(errors.ModelNotFoundError, match="/v1"):
            ChatQwen(base_url="http://server" + path, model="qwen", tokenizer=str(tiny_checkpoint)).invoke("Hello")


class TestRetries:
    @pytest.mark.parametrize("fault", [status(429), status(500), status(502), status(503), status(504), drop])
    def test_what_may_pass_is_tried_again(self, local, server, ask, caplog, fault):
        server.faults.extend([fault, fault])
        assert ask(engine(local)) != []
        assert not server.faults
        assert len([record for record in caplog.records if "trying again" in record.message]) == 2

    @pytest.mark.parametrize(
        "fault", [after(then=drop), after(then=garbage), after(then=error_event), after(then=silent_end)]
    )
    def test_also_behind_a_200_while_nothing_was_streamed(self, local, server, ask, fault):
        server.faults.append(fault)
        assert ask(engine(local)) != []

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            (status(429), errors.ServerBusyError),
            (status(500), errors.ServerError),
            (drop, errors.ServerUnreachableError),
        ],
    )
    def test_but_not_for_ever(self, local, server, ask, fault, kind):
        server.faults.extend([fault] * 2)
        with pytest.raises(errors.ServerError) as caught:
            ask(engine(local, max_retries=1))
        assert type(caught.value) is kind
        assert not server.faults

    def test_the_server_says_how_long_to_wait(self, local, server, ask):
        server.faults.append(status(429, retry_after="0.4"))
        begin = time.monotonic()
        ask(engine(local))
        assert time.monotonic() - begin >= 0.4

    @pytest.mark.parametrize("told", ["3600", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "nan"])
    def test_within_reason(self, local, server, ask, told):
        server.faults.append(status(503, retry_after=told))
        begin = time.monotonic()
        with contextlib.suppress(errors.ServerBusyError):
            ask(engine(local))
        assert time.monotonic() - begin < SLACK_S  # not an hour

    def test_no_try_begins_behind_the_deadline(self, local, server, ask):
        server.faults.append(status(429, retry_after="25"))
        begin = time.monotonic()
        with pytest.raises(errors.ServerBusyError):
            ask(engine(local), Request((1, 2), 8, frozenset(), deadline=begin + 20))
        assert time.monotonic() - begin < 15


class TestConnections:
    def test_nobody_there(self, local, tmp_path, ask):
        nobody = pytest.raises(errors.ServerUnreachableError, match="nobody answers")
        with reached_over(tmp_path / "absent"), nobody as caught:
            ask(engine(local))
        assert isinstance(caught.value, (core.ModelConnectionError, ConnectionError))

    def test_a_chat_model_says_so_before_anything_else_is_lost(self, tiny_checkpoint, tmp_path):
        model = ChatQwen(base_url=URL, tokenizer=str(tiny_checkpoint))
        with reached_over(tmp_path / "absent"), pytest.raises(errors.ServerUnreachableError):
            model.load()

    def test_tls_with_one_who_speaks_none(self, local, server, ask):
        with pytest.raises(errors.ServerUnreachableError, match="TLS"):
            ask(engine(local, url="https://server/v1"))

    @pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
    def test_a_certificate_that_nobody_vouches_for(self, local, tmp_path, ask, monkeypatch):
        files = {name: str(tmp_path / f"{name}.pem") for name in ("key", "cert")}
        made = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=server -days 2 -addext subjectAltName=DNS:server"
        command = [*made.split(), "-keyout", files["key"], "-out", files["cert"]]
        subprocess.run(command, check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(files["cert"], files["key"])
        behind, tokenizer = local._backend.engine(local._open().checkpoint), local._open().tokenizer
        trusting = ssl.create_default_context(cafile=files["cert"])
        with CompletionsServer(tmp_path / "s", behind, tokenizer, tls=tls):
            over = {"uds": str(tmp_path / "s")}
            monkeypatch.setattr(connection, "way", lambda: {"transport": httpx.AsyncHTTPTransport(**over)})
            with pytest.raises(errors.ServerUnreachableError, match="SSL_CERT_FILE"):
                ask(engine(local, url="https://server/v1"))
            trusted = {**over, "verify": trusting}
            monkeypatch.setattr(connection, "way", lambda: {"transport": httpx.AsyncHTTPTransport(**trusted)})
            assert ask(engine(local, url="https://server/v1")) != []

    @pytest.mark.parametrize("proxy", ["socks9://proxy:1"])
    def test_a_proxy_of_the_environment_that_cannot_be_used(self, local, ask, monkeypatch, proxy):
        monkeypatch.setattr(connection, "way", dict)  # that of httpx itself
        monkeypatch.setenv("ALL_PROXY", proxy)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(errors.ConfigurationError, match="proxy"):
            ask(engine(local))

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_certificates_of_the_environment_that_cannot_be_read(self, local, ask, monkeypatch, tmp_path, content):
        if content is not None:
            (tmp_path / "ca.pem").write_text(content)
        monkeypatch.setattr(connection, "way", lambda: {"verify": connection._certificates.__wrapped__()})
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with pytest.raises(errors.ConfigurationError, match="SSL_CERT_FILE"):
            ask(engine(local))

    def test_a_server_without_end_of_its_line(self, local, server, ask, monkeypatch):
        monkeypatch.setattr("langchain_qwen.engine.remote.wire.LONGEST_LINE", 1000)

        async def flood(exchange):
            await exchange.begin()
            for _ in range(50):
                await exchange.data(b"x" * 100)

        server.faults.append(flood)
        with pytest.raises(errors.ServerError, match="line without end"):
            ask(engine(local, max_retries=0))


class TestServersOfAnotherKind:
    def test_a_byte_order_mark_hides_no_token(self, local, server, ask):
        async def fault(exchange):
            await exchange.begin()
            await exchange.data(b"\xef\xbb\xbf")
            await exchange.choice(39)
            await exchange.choice(40, finish_reason="stop")
            await exchange.event("[DONE]")
            await exchange.end()

        server.faults.append(fault)
        assert [event.id for event in ask(engine(local)) if isinstance(event, Token)] == [39, 40]

    def test_no_token_ids(self, local, server, ask):
        async def fault(exchange):
            await exchange.begin()
            await exchange.event({"choices": [{"index": 0, "text": "Hello"}]})

        server.faults.append(fault)
        with pytest.raises(errors.ServerCapabilityError, match="return_token_ids"):
            ask(engine(local))

    def test_other_prompt_ids(self, local, server, ask):
        async def fault(exchange):
            await exchange.begin()
            await exchange.choice(39, prompt_token_ids=[0, 1, 2, 3])

        server.faults.append(fault)
        with pytest.raises(errors.ServerCapabilityError, match="changed the prompt"):
            ask(engine(local))

    @pytest.mark.parametrize("token", [320, -1, "39", 1.5, True, None])
    def test_tokens_that_are_none(self, local, server, ask, token):
        server.faults.append(after(token, then=hang))
        with pytest.raises(errors.ServerCapabilityError, match="vocabulary"):
            ask(engine(local))

    def test_another_text_for_the_same_ids(self, local, server, ask):
        async def fault(exchange):
            await exchange.begin()
            await exchange.choice(39, text=local._open().tokenizer.decode([39]))
            await exchange.choice(40, text="zzz")

        server.faults.append(fault)
        with pytest.raises(errors.ServerCapabilityError, match="vocabulary"):
            ask(engine(local))

    def test_text_that_lags_behind_whole_characters(self, local, server, ask):
        tokenizer = local._open().tokenizer
        euro = tokenizer.encode("é")
        assert len(euro) == 2

        async def fault(exchange):
            await exchange.begin()
            await exchange.choice(euro[0], text="")
            await exchange.choice(euro[1], text="é")
            await exchange.choice(39, 264, text=tokenizer.decode([39]), finish_reason="stop", stop_reason=264)
            await exchange.event("[DONE]")
            await exchange.end()

        server.faults.append(fault)
        events = ask(engine(local))
        assert [event.id for event in events[1:-1]] == [*euro, 39]

    @pytest.mark.parametrize(("text", "where"), [("zzz", "does not fit"), ("a", "ends where none may")])
    def test_one_that_ignores_grammars(self, local, server, ask, text, where):
        tokenizer = local._open().tokenizer

        async def fault(exchange):
            await exchange.begin()
            for token in tokenizer.encode(text):
                await exchange.choice(token)
            await exchange.choice(264, finish_reason="stop", stop_reason=264)

        server.faults.append(fault)
        constrained = Request((1, 2), 8, frozenset({264}), constraint=Constraint(tokenizer.llguidance, 'start: "abc"'))
        with pytest.raises(errors.ServerCapabilityError, match=f"{where}.*backend guidance"):
            ask(engine(local), constrained)

    @pytest.mark.parametrize(
        "fault", [status(500, {"error": {"message": "Internal server error"}}), after(then=error_event)]
    )
    def test_a_500_to_a_grammar_names_the_flag(self, local, server, ask, fault):
        server.faults.extend([fault, fault])
        grammar = Constraint(local._open().tokenizer.llguidance, 'start: "abc"')
        with pytest.raises(errors.ServerCapabilityError, match=r"backend guidance.*log"):
            ask(engine(local, max_retries=1), Request((1, 2), 8, frozenset({264}), constraint=grammar))
        assert not server.faults

    def test_no_log_probabilities(self, local, server, ask):
        server.faults.append(after(39, then=hang))
        with pytest.raises(errors.ServerCapabilityError, match="log probabilities"):
            ask(engine(local), Request((1, 2), 8, frozenset(), top_logprobs=1))

    @pytest.mark.parametrize("body", [b"<html>Sign in</html>", b"[]", b'{"data": 1}', b'{"data": [1]}', b"[" * 100_000])
    def test_a_list_of_models_that_is_none(self, local, server, monkeypatch, body):
        async def answer(exchange):
            await exchange.respond(200, body)

        monkeypatch.setattr(server, "_answer", answer)
        decode = local._open().tokenizer.decode
        with pytest.raises(errors.ServerError, match="no list of models"):
            RemoteEngine.connect(Server(URL, "qwen", None), decode=decode, context_window=64, vocab_size=320)


def test_a_stream_that_a_forked_child_inherits_is_the_parents(local, server):
    events = engine(local).stream(REQUEST)
    next(events)
    if (child := os.fork()) == 0:
        try:
            next(events)
        except errors.EngineError as error:
            os._exit(7 if "parent" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert len(list(events)) > 1


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from(
            [
                b"data: ",
                b"[DONE]",
                b"\n",
                b"\r\n",
                b": ping",
                b"{",
                b"}",
                b'"choices":',
                b"[",
                b"]",
                b'"token_ids":[39]',
                b",",
                b'{"choices":[{"token_ids":[39]}]}',
                b'{"choices":[{"token_ids":null,"finish_reason":"stop"}]}',
                b"null",
                b'{"error":1}',
                b'{"choices":[{"token_ids":[40],"finish_reason":"stop"}]}',
                b'{"usage":{"prompt_tokens_details":null}}',
                b'{"choices":{}}',
            ]
        )
    ).map(b"".join),
    st.integers(1, 20),
)
def test_whatever_a_server_writes_is_read_or_is_nonsense(data, step):
    """And however it is cut into packets, it is the same."""

    def read(size):
        reply, events = Reply(REQUEST, lambda ids: "", 320), []
        try:
            for start in range(0, len(data), size):
                events += [type(event) for event in reply.feed(data[start : start + size])]
        except (NonsenseError, ToldError, errors.ServerCapabilityError) as error:
            events.append(type(error))
        return events

    assert read(step) == read(max(1, len(data)))
