"""`RemoteEngine`: the engine's protocol over a server's completions API."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import anyio
import httpx

from langchain_qwen.engine.protocol import EngineInfo, Event, Request
from langchain_qwen.engine.remote import blocking
from langchain_qwen.engine.remote.connection import open_client
from langchain_qwen.engine.remote.failures import (
    Failure,
    Server,
    TooLongError,
    message_of,
    of_error,
    of_exception,
    of_status,
)
from langchain_qwen.engine.remote.server import longest_of
from langchain_qwen.engine.remote.wire import LONGEST_LINE, NonsenseError, Reply, ToldError, body
from langchain_qwen.errors import (
    AnswerLostError,
    ContextOverflowError,
    EngineClosedError,
    EngineError,
    GenerationTimeoutError,
    ServerError,
    ServerTimeoutError,
)

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_RETRIES = 2
FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0
MOST_OF_AN_ERROR = 64 << 10  # bytes
_HTTP_ERRORS = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for a server, where a request's own deadline is not sooner.

    Attributes:
        connect: For the connection.
        first_token: From the request to the first token: waiting in the server's queue, and the prompt. A request with
            a deadline waits until that.
        next_token: Between two tokens.
    """

    connect: float = 10.0
    first_token: float = 600.0
    next_token: float = 120.0


class RemoteEngine:
    """Generates at a server that speaks vLLM's completions API, token ids both ways.

    What a request's tokens depend on is the server's matter: who shares its batch and what it has cached may change
    roundings, and with them an answer. Seeds are sent, but the same seed need not give the same answer.

    Args:
        server: The API, the model's name there, and the key.
        decode: Text of token ids by the tokenizer that made the prompts.
        context_window: Of the model; a server may serve less of it.
        vocab_size: Of the tokenizer.
        max_retries: How often a request is sent again where nothing of its answer has come.
        patience: How long to wait.
    """

    def __init__(
        self,
        server: Server,
        *,
        decode: Callable[[Sequence[int]], str],
        context_window: int,
        vocab_size: int,
        max_retries: int = MAX_RETRIES,
        patience: Patience = Patience(),
    ):
        self._server = server
        self._decode = decode
        self._max_retries = max_retries
        self._patience = patience
        self._closed = False
        self._waiting: set[tuple[asyncio.AbstractEventLoop, anyio.CancelScope]] = set()
        self.info = EngineInfo(server.model, context_window, vocab_size, "server", "server")

    @classmethod
    def connect(cls, server: Server, *, deadline: float | None = None, **arguments: Any) -> RemoteEngine:
        """An engine whose server has been asked what it has.

        Args:
            server: As for the class.
            deadline: When (`time.monotonic()` seconds) to give up.
            **arguments: As for the class.

        Raises:
            ServerError: It cannot be reached, refuses, or fails; the subclass and the text say why.
            ModelNotFoundError: It has other models.
        """
        engine = cls(server, **arguments)
        content = blocking.wait_for(lambda: engine._models(deadline))
        longest = longest_of(server, content)
        if longest is not None:
            engine.info = replace(engine.info, context_window=min(longest, engine.info.context_window))
        return engine

    def stream(self, request: Request) -> Generator[Event, None, None]:
        """Generate, blocking between events. The request is sent at the first `next`."""
        return blocking.iterate(lambda: self.astream(request))

    async def astream(self, request: Request) -> AsyncGenerator[Event, None]:
        """Generate without blocking the event loop. The request is sent at the first step of the iteration."""
        self._check(request)
        sent = body(self._server.model, request)
        for attempt in itertools.count():
            arguments = request, self._decode, self.info.vocab_size
            # A large grammar takes a while to compile.
            reply = await asyncio.to_thread(Reply, *arguments) if request.constraint else Reply(*arguments)
            try:
                async with contextlib.aclosing(self._attempt(request, sent, reply)) as events:
                    async for event in events:
                        if request.was_interrupted:
                            raise EngineError("the call was interrupted")
                        yield event
                return
            except TooLongError as error:
                raise self._too_long(request, str(error)) from None
            except Failure as failure:
                await self._before_next(attempt, failure, request.deadline)

    def close(self, *, wait: bool = True) -> None:  # noqa: ARG002  there is nothing to wait for
        """End all streams; later calls raise `EngineClosedError`."""
        self._closed = True
        for loop, scope in list(self._waiting):
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the stream with it
                loop.call_soon_threadsafe(scope.cancel)

    async def _attempt(self, request: Request, sent: dict[str, Any], reply: Reply) -> AsyncGenerator[Event, None]:
        """One request.

        Raises:
            Failure: Nothing of the answer has come.
        """
        try:
            async with self._exchange("POST", "/completions", request.deadline, reply, sent) as response:
                chunks = response.aiter_bytes()
                while not reply.finished:
                    chunk = await self._in_time(lambda: _next(chunks), request.deadline, reply)
                    for event in reply.end() if chunk is None else reply.feed(chunk):
                        yield event
                    if chunk is None and not reply.finished:
                        raise NonsenseError("it closed the connection")
        except _HTTP_ERRORS as error:
            if not reply.begun:
                raise of_exception(self._server, error) from error
            raise self._lost(reply, f"the connection broke: {error or type(error).__name__}") from error
        except NonsenseError as error:
            if not reply.begun:
                what = f"{self._server.url} does not answer as a completions API does ({error})"
                raise Failure(ServerError(self._server.quoted(what)), again=True) from error
            raise self._lost(reply, str(error)) from error
        except ToldError as told:
            code = told.body.get("code")
            if not reply.begun:
                status = code if isinstance(code, int) else 500
                raise of_error(
                    self._server, status, message_of(told.body), constrained=request.constraint is not None
                ) from None
            raise self._lost(reply, message_of(told.body)) from None

    @contextlib.asynccontextmanager
    async def _exchange(
        self,
        method: str,
        path: str,
        deadline: float | None,
        reply: Reply | None = None,
        sent: dict[str, Any] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request; its answer, if that is a 200. Leaving the block closes the connection."""
        async with open_client(self._server.url, self._server.key, self._patience.connect) as client:
            request = client.build_request(method, self._server.url + path, json=sent)
            response = await self._in_time(lambda: client.send(request, stream=True), deadline, reply)
            try:
                if response.status_code != 200:
                    content = await self._in_time(lambda: _beginning(response), deadline, reply)
                    constrained = sent is not None and "structured_outputs" in sent
                    status, headers = response.status_code, response.headers
                    raise of_status(self._server, status, headers, content, constrained=constrained)
                yield response
            finally:
                await response.aclose()

    async def _models(self, deadline: float | None) -> bytes:
        for attempt in itertools.count():
            answer = await self._try_models(deadline)
            if isinstance(answer, bytes):
                return answer
            await self._before_next(attempt, answer, deadline)
        raise AssertionError

    async def _try_models(self, deadline: float | None) -> bytes | Failure:
        try:
            async with self._exchange("GET", "/models", deadline) as response:
                return await self._in_time(lambda: _beginning(response, LONGEST_LINE), deadline, None)
        except _HTTP_ERRORS as error:
            return of_exception(self._server, error)
        except Failure as failure:
            return failure

    async def _in_time(self, work: Callable[[], Awaitable[T]], deadline: float | None, reply: Reply | None) -> T:
        """The result of `work`, or the error of the limit that passed first."""
        if self._closed:
            raise _closed()
        patience, now = self._patience, time.monotonic()
        if reply is None:
            limit = now + 2 * patience.connect if deadline is None else deadline
        elif not reply.begun:
            limit = reply.moved + patience.first_token if deadline is None else deadline
        else:
            limit = reply.moved + patience.next_token
        until = limit if deadline is None else min(limit, deadline)
        with anyio.move_on_after(max(0.0, until - now)) as scope:
            entry = (asyncio.get_running_loop(), scope)
            self._waiting.add(entry)
            try:
                return await work()
            finally:
                self._waiting.discard(entry)
        if self._closed:
            raise _closed()
        if deadline is not None and until == deadline:
            count = len(reply.tokens) if reply else 0
            raise GenerationTimeoutError(
                f"the answer was not complete when `timeout` passed ({count} tokens had come from {self._server.url}); "
                "raise `timeout`, or lower `max_tokens`"
            )
        if reply is not None and reply.begun:
            raise self._lost(reply, f"no token came for {patience.next_token:g} seconds")
        raise ServerTimeoutError(
            f"{self._server.url} did not begin to answer in {time.monotonic() - (reply.moved if reply else now):.0f} "
            "seconds; look at its queue, or give the call a `timeout` of your own"
        )

    async def _before_next(self, attempt: int, failure: Failure, deadline: float | None) -> None:
        """Wait before the next attempt, or raise where there is none: delays double, and differ between callers."""
        if not failure.again or attempt >= self._max_retries or self._closed:
            raise failure.error from failure.__cause__
        delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**attempt) * random.uniform(0.5, 1.0)  # noqa: S311  no secret
        if failure.after is not None:
            if failure.after > LONGEST_DELAY_S:
                raise failure.error from failure.__cause__
            delay = max(delay, failure.after)
        if deadline is not None and time.monotonic() + delay >= deadline:
            raise failure.error from failure.__cause__
        logger.warning("%s; trying again in %.1f seconds", failure.error, delay)
        await asyncio.sleep(delay)

    def _check(self, request: Request) -> None:
        if self._closed:
            raise _closed()
        if not request.fits(self.info.context_window):
            raise self._too_long(request, None)

    def _too_long(self, request: Request, told: str | None) -> ContextOverflowError:
        window = self.info.context_window
        said = f"holds {window}" if told is None else f"holds less; it says: {told}"
        holder = f"the model at {self._server.url} {said}"
        return request.overflow(window, holder, "start it with a larger `--max-model-len`")

    def _lost(self, reply: Reply, why: str) -> AnswerLostError:
        return AnswerLostError(
            f"{self._server.url} broke off after {len(reply.tokens)} tokens of its answer "
            f"({self._server.quoted(why)}); the error's `text` has them",
            text=self._decode(reply.tokens),
            token_ids=tuple(reply.tokens),
        )


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    async for chunk in chunks:
        return chunk
    return None


async def _beginning(response: httpx.Response, most: int = MOST_OF_AN_ERROR) -> bytes:
    content = b""
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) >= most:
            break
    return content[:most]


def _closed() -> EngineClosedError:
    return EngineClosedError("the model object has been closed; create a new ChatQwen")
