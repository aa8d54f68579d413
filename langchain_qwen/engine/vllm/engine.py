"""`VllmEngine`: the engine's protocol over vLLM in this process."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import queue
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import anyio

from langchain_qwen.engine.protocol import EngineInfo, Event, Finished, Request, Started, Token
from langchain_qwen.engine.vllm.host import Host
from langchain_qwen.engine.vllm.parameters import likeliest, sampling_fields
from langchain_qwen.errors import (
    EngineClosedError,
    EngineError,
    GenerationTimeoutError,
    RequestError,
)
from langchain_qwen.forks import renewed_lock

# How often a caller that waits for its next token looks whether it was interrupted, and whether vLLM still lives.
WATCH_S = 0.25
_NAMES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}

_engines: weakref.WeakSet[VllmEngine] = weakref.WeakSet()


class VllmEngine:
    """Generates with vLLM in this process, for any number of threads and event loops.

    What a request's tokens depend on is vLLM's matter: who shares its batch and what it has cached may change
    roundings, and with them an answer. Where vLLM's processes have died, the next request starts them anew.

    Args:
        arguments: Of vLLM's `AsyncEngineArgs`.
        model: What the engine is called.
        context_window: Of the checkpoint; vLLM may hold less.
        vocab_size: Of the checkpoint.
    """

    def __init__(self, arguments: Mapping[str, Any], *, model: str, context_window: int, vocab_size: int):
        self._arguments = dict(arguments)
        self._closed = False
        self._starting = renewed_lock(self, "_starting")
        self._numbers = itertools.count()
        self._host = self._start()
        config = self._host.llm.vllm_config
        self.info = EngineInfo(
            model=model,
            context_window=min(context_window, config.model_config.max_model_len),
            vocab_size=vocab_size,
            device=str(config.device_config.device_type),
            precision=config.model_config.quantization or _NAMES[str(config.model_config.dtype).split(".")[-1]],
        )
        _engines.add(self)

    def stream(self, request: Request) -> Generator[Event, None, None]:
        """Generate, blocking between events. The request is sent at the first `next`."""
        events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        host = self._living()
        work = self._begin(host, request, events.put)
        try:
            while True:
                event = self._next(events, host, request)
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            if host.here:
                work.cancel()

    async def astream(self, request: Request) -> AsyncGenerator[Event, None]:
        """Generate without blocking the event loop. The request is sent at the first step of the iteration."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | BaseException] = asyncio.Queue()

        def put(event: Event | BaseException) -> None:
            try:
                loop.call_soon_threadsafe(events.put_nowait, event)
            except RuntimeError:  # the loop was closed, so nobody reads any more
                work.cancel()

        host = self._host if self._host.alive and not self._closed else await asyncio.to_thread(self._living)
        work = self._begin(host, request, put)
        try:
            while True:
                try:
                    event = await asyncio.wait_for(events.get(), WATCH_S)
                except (TimeoutError, asyncio.TimeoutError):
                    if (lost := self._lost(host)) is None:
                        continue
                    event = lost if events.empty() else events.get_nowait()
                if request.was_interrupted:
                    raise _interrupted()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            if host.here:
                work.cancel()

    def close(self, *, wait: bool = True) -> None:
        """End all streams and vLLM's processes, which frees their memory. Closing twice does nothing.

        Args:
            wait: For that. The garbage collector must not: it may run on any thread.
        """
        self._closed = True
        if wait:
            with self._starting:  # so that no new one comes after this
                host = self._host
        else:
            host = self._host
        host.close()
        if wait and host.here:
            host.thread.join()

    def _start(self) -> Host:
        host = Host(self._arguments)
        # An engine that is dropped without being closed ends its processes, once no stream holds it.
        weakref.finalize(self, host.close).atexit = False
        return host

    def _living(self) -> Host:
        if self._closed:
            raise _closed()
        if not self._host.here:
            raise EngineError(
                "vLLM was started before this process was forked, and its processes belong to the parent; load the "
                "model after the fork, or start the child with `spawn`"
            )
        if not self._host.alive:
            with self._starting:
                if not self._host.alive and not self._closed:
                    self._host.close()
                    self._host.thread.join()
                    self._host = self._start()
        return self._host

    def _begin(self, host: Host, request: Request, put: Callable[[Event | BaseException], None]) -> Future[None]:
        window = self.info.context_window
        if not request.fits(window):
            raise request.overflow(window, f"vLLM holds {window}", "raise `kv_cache_bytes`")
        fields = sampling_fields(request)
        name = f"langchain-qwen-{next(self._numbers)}"
        try:
            return host.run(lambda: _generate(host, name, request, fields, put))
        except RuntimeError as error:
            raise self._ended() from error

    def _next(
        self, events: queue.SimpleQueue[Event | BaseException], host: Host, request: Request
    ) -> Event | BaseException:
        while True:
            if request.was_interrupted:
                raise _interrupted()
            try:
                return events.get(timeout=WATCH_S)
            except queue.Empty:
                lost = self._lost(host)
                if lost is not None and events.empty():
                    raise lost from None

    def _lost(self, host: Host) -> EngineError | None:
        """Why no event will come any more; None while one may."""
        if not host.here:
            return EngineError(
                "this stream was begun before the process was forked, and its answer comes to the parent; begin a new "
                "one there"
            )
        return None if host.thread.is_alive() else self._ended()

    def _ended(self) -> EngineError:
        return _closed() if self._closed else _died()


async def _generate(
    host: Host,
    name: str,
    request: Request,
    fields: Mapping[str, Any],
    put: Callable[[Event | BaseException], None],
) -> None:
    """One request, on vLLM's event loop."""
    reply = _Reply(request)
    limit = None if request.deadline is None else max(0.0, request.deadline - time.monotonic())
    try:
        with anyio.move_on_after(limit) as scope:
            # Leaving the generator early, also by being cancelled, has vLLM stop the work.
            async for output in host.llm.generate(_prompt(request), _parameters(fields), name):
                for event in reply.read(output):
                    put(event)
        if scope.cancelled_caught:
            put(
                GenerationTimeoutError(
                    f"the answer was not complete when `timeout` passed ({reply.count} tokens were generated); raise "
                    "`timeout`, or lower `max_tokens`"
                )
            )
    except asyncio.CancelledError:
        put(_closed() if host.closing else EngineError("the request was cancelled"))
        raise
    except Exception as error:  # noqa: BLE001  raised in the thread that waits
        put(_closed() if host.closing else _as_ours(error))


def _prompt(request: Request) -> Any:
    from vllm.inputs import tokens_input

    return tokens_input(list(request.prompt_ids))


def _parameters(fields: Mapping[str, Any]) -> Any:
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    given = dict(fields)
    if "structured_outputs" in given:
        given["structured_outputs"] = StructuredOutputsParams(**given["structured_outputs"])
    return SamplingParams(**given, output_kind=RequestOutputKind.DELTA, detokenize=False)


def _as_ours(error: Exception) -> EngineError | RequestError:
    from vllm.exceptions import VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError

    if isinstance(error, EngineError):
        return error
    if isinstance(error, EngineDeadError):
        ours: EngineError | RequestError = _died()
    elif isinstance(error, (VLLMClientError, ValueError)):
        ours = RequestError(f"vLLM does not take this request: {error}")
    else:
        cause = error.__cause__ or error
        ours = EngineError(f"vLLM failed ({type(cause).__name__}: {cause}); its log says why")
    ours.__cause__ = error
    return ours


class _Reply:
    """Reads one answer.

    Args:
        request: What was asked.
    """

    def __init__(self, request: Request):
        self.count = 0
        self._request = request
        self._sent = self._first = time.monotonic()
        self._begun = False

    def read(self, output: Any) -> Iterator[Event]:
        """The events of vLLM's `RequestOutput` with what is new."""
        (answer,) = output.outputs
        now = time.monotonic()
        if not self._begun:
            self._begun, self._first = True, now
            cached = output.num_cached_tokens
            yield Started(len(self._request.prompt_ids), cached, 0.0, now - self._sent)
        for position, token in enumerate(answer.token_ids):
            if token in self._request.stop_ids:  # it is told, and is no part of the answer
                break
            self.count += 1
            yield self._token(token, answer.logprobs[position] if answer.logprobs else {})
        if (reason := answer.finish_reason) is None:
            return
        if reason not in ("stop", "length"):
            raise EngineError(f"vLLM ended the answer with {reason!r}; its log says why")
        yield Finished(reason, self.count, 0, 0, now - self._first)

    def _token(self, token: int, found: Mapping[int, Any]) -> Token:
        count = self._request.top_logprobs
        if count is None:
            return Token(token)
        likely = ((other, entry.logprob) for other, entry in found.items())
        return Token(token, found[token].logprob, likeliest(likely, count))


def _closed() -> EngineClosedError:
    return EngineClosedError("the model object has been closed; create a new ChatQwen")


def _died() -> EngineError:
    return EngineError(
        "vLLM's processes died (its log says why, most often for lack of memory); call again: they start anew"
    )


def _interrupted() -> EngineError:
    return EngineError("the call was interrupted")


@atexit.register
def _close_all() -> None:
    """End vLLM's processes while the interpreter is whole."""
    for engine in list(_engines):
        engine.close()
