"""vLLM's completions API over a real engine, on a Unix socket of this machine, with faults on demand.

It speaks HTTP by hand, so that a test can break off anywhere. What it sends has the form that a real vLLM 0.32 sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from langchain_qwen.engine import Constraint, Engine, Finished, Request, SamplingParams, Token
from langchain_qwen.engine.remote import connection
from langchain_qwen.prompting import Tokenizer

URL = "http://server/v1"
SENT = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")


class Exchange:
    """One request, and what is written back.

    Attributes:
        path: Of the URL.
        headers: By names in lower case.
        body: Its JSON.
    """

    def __init__(self, writer: asyncio.StreamWriter, path: str, headers: dict[str, str], body: Any):
        self._writer = writer
        self.path, self.headers, self.body = path, headers, body

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def respond(self, status: int, body: Any, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join([*lines, "", ""]).encode() + content)

    async def begin(self) -> None:
        await self.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def data(self, content: bytes) -> None:
        await self.raw(b"%x\r\n%s\r\n" % (len(content), content))

    async def event(self, event: Any) -> None:
        text = event if isinstance(event, str) else json.dumps(event)
        await self.data(f"data: {text}\n\n".encode())

    async def choice(self, *ids: int, text: str = "", **more: Any) -> None:
        await self.event({"choices": [{"index": 0, "text": text, "token_ids": list(ids), **more}]})

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")


Fault = Callable[[Exchange], Awaitable[None]]


class CompletionsServer:
    """Runs on a thread of its own.

    Args:
        socket: Where.
        engine: What answers.
        tokenizer: Of its model.
        served: Names of the model.
        key: What clients have to bring.
        tells_cached: Whether it reports cached tokens (`--enable-prompt-tokens-details`).
        tls: Its certificate.

    Attributes:
        faults: What answers the next requests for completions in place of the engine, one each.
        requests: All that came.
        running: How many streams are under way.
    """

    def __init__(
        self,
        socket: Path,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        served: tuple[str, ...] = ("qwen",),
        key: str | None = None,
        tells_cached: bool = True,
        tls: ssl.SSLContext | None = None,
    ):
        self.socket, self.key, self.served, self.tells_cached = socket, key, served, tells_cached
        self.faults: deque[Fault] = deque()
        self.requests: list[Exchange] = []
        self.running = 0
        self.max_model_len: int | None = engine.info.context_window
        self._engine, self._tokenizer, self._tls = engine, tokenizer, tls
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> CompletionsServer:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_unix_server(self._connected, str(self.socket), ssl=self._tls)
        self._ready.set()
        await self._stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            exchange = await _read(reader, writer)
            self.requests.append(exchange)
            answer = asyncio.ensure_future(self._answer(exchange))
            gone = asyncio.ensure_future(reader.read(1))
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            answer.cancel()
            gone.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, exchange: Exchange) -> None:
        if self.key is not None and exchange.headers.get("authorization") != f"Bearer {self.key}":
            await exchange.respond(401, {"error": "Unauthorized"})
        elif exchange.path == "/v1/models":
            cards = [{"id": name, "object": "model", "max_model_len": self.max_model_len} for name in self.served]
            await exchange.respond(200, {"object": "list", "data": cards})
        elif exchange.path != "/v1/completions":
            await exchange.respond(404, {"detail": "Not Found"})
        elif exchange.body["model"] not in self.served:
            message = f"The model `{exchange.body['model']}` does not exist."
            await exchange.respond(404, {"error": {"message": message, "type": "NotFoundError", "code": 404}})
        elif self.faults:
            await self.faults.popleft()(exchange)
        else:
            self.running += 1
            try:
                await self._generate(exchange)
            finally:
                self.running -= 1

    async def _generate(self, exchange: Exchange) -> None:
        body, request = exchange.body, self._request(exchange.body)
        cached, count = 0, 0
        await exchange.begin()
        async with contextlib.aclosing(self._engine.astream(request)) as events:
            async for event in events:
                if isinstance(event, Token):
                    first = {"prompt_token_ids": body["prompt"]} if count == 0 else {}
                    count += 1
                    logprobs = {"logprobs": _logprobs(event)} if request.top_logprobs is not None else {}
                    await exchange.choice(event.id, text=self._tokenizer.decode([event.id]), **first, **logprobs)
                elif isinstance(event, Finished):
                    stop = [min(request.stop_ids)] if event.reason == "stop" and request.stop_ids else []
                    first = {"prompt_token_ids": body["prompt"]} if count == 0 else {}
                    await exchange.choice(*stop, finish_reason=event.reason, **first)
                else:
                    cached = event.cached_tokens or 0
        usage: dict[str, Any] = {"prompt_tokens": len(body["prompt"]), "completion_tokens": count + 1}
        if self.tells_cached:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        await exchange.event({"choices": [], "usage": usage})
        await exchange.event("[DONE]")
        await exchange.end()

    def _request(self, body: dict[str, Any]) -> Request:
        assert body["stream"]
        assert body["return_token_ids"]
        assert body["ignore_eos"]
        grammar = body.get("structured_outputs", {}).get("grammar")
        assert grammar is None or grammar.startswith("%llguidance {}")
        return Request(
            prompt_ids=tuple(body["prompt"]),
            max_tokens=body["max_tokens"],
            stop_ids=frozenset(body["stop_token_ids"]),
            sampling=SamplingParams(
                **{name: body[name] for name in SENT},
                logit_bias={int(token): bias for token, bias in body.get("logit_bias", {}).items()},
                min_tokens=body["min_tokens"],
                seed=body["seed"],
            ),
            top_logprobs=body.get("logprobs"),
            constraint=None if grammar is None else Constraint(self._tokenizer.llguidance, grammar),
        )


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange:
    if await reader.readexactly(1) == b"\x16":  # TLS
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        raise ConnectionError
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.split("\r\n")
    _, path, _ = first.split()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return Exchange(writer, path, headers, json.loads(content) if content else None)


def _logprobs(event: Token) -> dict[str, Any]:
    """With the token itself among the best, as the real one has it."""
    top = {f"token_id:{token}": logprob for token, logprob in event.top_logprobs}
    return {
        "tokens": [f"token_id:{event.id}"],
        "token_logprobs": [event.logprob],
        "top_logprobs": [{f"token_id:{event.id}": event.logprob, **top}],
    }


@contextlib.contextmanager
def reached_over(socket: Path) -> Iterator[None]:
    """Clients go to this socket, whatever their URL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "way", lambda: {"transport": httpx.AsyncHTTPTransport(uds=str(socket))})
        yield
