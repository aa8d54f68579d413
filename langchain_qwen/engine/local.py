"""The engine in this process: requests of any number of threads and event loops, run together by a worker."""

from __future__ import annotations

import asyncio
import atexit
import functools
import queue
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import wait as wait_for
from typing import TypeVar

import psutil

from langchain_qwen.engine.blocks import BLOCK_SIZE, BlockPool
from langchain_qwen.engine.protocol import EngineInfo, Event, Finished, Request
from langchain_qwen.engine.runners.protocol import Runner
from langchain_qwen.engine.scheduler import Scheduler
from langchain_qwen.engine.sequence import Sequence
from langchain_qwen.engine.worker import Job, Worker
from langchain_qwen.errors import (
    EngineClosedError,
    EngineError,
    GenerationTimeoutError,
    OutOfMemoryError,
)
from langchain_qwen.forks import renewed_lock

T = TypeVar("T")

MAX_RUNNING = 64
# Long enough that products run at full speed, short enough that running answers do not stall for long.
MAX_STEP_TOKENS = 256
# How often a caller that waits for its next token looks whether the engine still lives.
WATCH_S = 1.0
# The engine itself keeps deadlines, between steps. A caller keeps its own where a step takes longer than this.
GRACE_S = 0.25
# No device has more.
MOST_BYTES = 1 << 50

_engines: weakref.WeakSet[LocalEngine] = weakref.WeakSet()


class LocalEngine:
    """Runs requests of any number of threads and event loops together.

    After a fork the child's first request starts a worker of its own, over the same weights and with KV memory of its
    own, where the runner can do that. Requests that were running stay with the parent.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        model: str,
        context_window: int,
        num_blocks: int,
        max_running: int = MAX_RUNNING,
        max_step_tokens: int = MAX_STEP_TOKENS,
    ):
        self._runner = runner
        self._num_blocks = num_blocks
        self._max_running = max_running
        self._max_step_tokens = max_step_tokens
        self.info = EngineInfo(
            model=model,
            context_window=min(context_window, num_blocks * BLOCK_SIZE),
            vocab_size=runner.vocab_size,
            device=runner.device,
            precision=runner.precision,
        )
        self._closed = False
        self._starting = renewed_lock(self, "_starting")
        try:
            self._worker = self._start()
        except BaseException:
            runner.close()
            raise
        _engines.add(self)

    def stream(self, request: Request) -> Generator[Event, None, None]:
        """Generate, blocking between events. The request is queued at the first `next`."""
        events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        sequence = Sequence(request, events.put)
        try:
            worker = self._submit(sequence)
            while True:
                event = self._next(events, worker, sequence)
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            sequence.cancelled = True

    async def astream(self, request: Request) -> AsyncGenerator[Event, None]:
        """Generate without blocking the event loop. The request is queued at the first step of the iteration."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        timer: asyncio.Handle | None = None

        def put(event: Event | BaseException) -> None:
            try:
                loop.call_soon_threadsafe(events.put_nowait, event)
            except RuntimeError:  # the loop was closed, so nobody reads any more
                sequence.cancelled = True

        def watch() -> None:
            nonlocal timer
            error = self._lost(worker, sequence)
            if error is None:
                timer = loop.call_later(_patience(sequence), watch)
            else:  # behind what has come meanwhile
                timer = loop.call_soon(events.put_nowait, error)

        # A large grammar takes a while to compile.
        sequence = await asyncio.to_thread(Sequence, request, put) if request.constraint else Sequence(request, put)
        try:
            worker = self._submit(sequence) if self._worker.alive else await asyncio.to_thread(self._submit, sequence)
            timer = loop.call_later(_patience(sequence), watch)
            while True:
                if worker.foreign:
                    raise _forked()
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            sequence.cancelled = True
            if timer is not None:
                timer.cancel()

    def close(self, *, wait: bool = True) -> None:
        """Stop all work and free the memory. Closing twice does nothing.

        Args:
            wait: For the running step. The garbage collector must not: it may run on any thread.
        """
        self._closed = True
        if wait:
            with self._starting:  # so that no new worker comes after this
                worker = self._worker
        else:
            worker = self._worker
        worker.close()
        if worker.alive:
            if not wait or threading.current_thread() is worker.thread:
                return
            worker.thread.join()
        self._runner.close()

    def between_steps(self, work: Callable[[BlockPool, Runner], T]) -> T:
        """Run something on the engine's own thread, where nothing else touches the KV memory.

        Raises:
            EngineClosedError: The engine has been closed.
        """
        job = Job(work)
        worker = self._living_worker()
        worker.put(job)
        while not wait_for([job.result], timeout=WATCH_S).done:
            if not worker.alive and not job.result.done():
                raise self._ended()
        return job.result.result()

    def _start(self) -> Worker:
        size = self._num_blocks * BLOCK_SIZE * self._runner.kv_bytes_per_token
        new_scheduler = functools.partial(
            _new_scheduler, self._runner, self._num_blocks, self._max_running, self._max_step_tokens
        )
        try:
            # Memory that is handed out page by page is promised beyond what there is.
            if size > (installed := psutil.virtual_memory().total if self.info.device == "cpu" else MOST_BYTES):
                raise MemoryError(f"{self.info.device} has at most {installed / 2**30:.2f} GiB")
            self._runner.allocate(self._num_blocks)
            worker = Worker(self._runner, new_scheduler, f"langchain-qwen {self.info.model}")
        except (MemoryError, RuntimeError, OSError, OverflowError) as error:
            raise OutOfMemoryError(
                f"KV memory of {size / 2**30:.2f} GiB cannot be had ({error}); lower `kv_cache_bytes`"
            ) from error
        # An engine that is dropped without being closed ends its thread, once no stream holds it.
        weakref.finalize(self, worker.close).atexit = False
        return worker

    def _living_worker(self) -> Worker:
        """The worker; a new one in a forked child, and where the last one's thread has died."""
        if self._closed:
            raise EngineClosedError("the engine has been closed; create a new ChatQwen")
        if not self._worker.alive:
            with self._starting:
                if not self._worker.alive and not self._closed:
                    self._worker = self._start()
        return self._worker

    def _submit(self, sequence: Sequence) -> Worker:
        window = self.info.context_window
        if not sequence.request.fits(window):
            raise sequence.request.overflow(window, f"the engine holds {window}", "raise `kv_cache_bytes`")
        worker = self._living_worker()
        worker.put(sequence)
        return worker

    def _next(
        self, events: queue.SimpleQueue[Event | BaseException], worker: Worker, sequence: Sequence
    ) -> Event | BaseException:
        if worker.foreign:  # what came before the fork is the parent's
            raise _forked()
        while True:
            try:
                return events.get(timeout=_patience(sequence))
            except queue.Empty:  # noqa: PERF203  once a second
                error = self._lost(worker, sequence)
                if error is not None and events.empty():
                    raise error from None

    def _lost(self, worker: Worker, sequence: Sequence) -> EngineError | None:
        """Why no event will come any more; None while one may."""
        deadline = sequence.request.deadline
        if deadline is not None and time.monotonic() > deadline + GRACE_S:
            return GenerationTimeoutError(
                f"the answer was not complete when `timeout` passed ({sequence.answer_length} tokens were generated, "
                "and the engine is in a long step); raise `timeout`, or send less at once"
            )
        return self._ended() if sequence.gone or not worker.alive else None

    def _ended(self) -> EngineError:
        if self._closed:
            return EngineClosedError("the engine was closed while the answer was generated")
        return EngineError(
            "the engine failed while the answer was generated (its log or standard error says why, most often for lack "
            "of memory); call again: it starts anew"
        )


def _patience(sequence: Sequence) -> float:
    """Seconds to wait for an event before looking whether one will come."""
    deadline = sequence.request.deadline
    return WATCH_S if deadline is None else min(WATCH_S, max(0.001, deadline + GRACE_S - time.monotonic()))


def _forked() -> EngineError:
    return EngineError(
        "this stream was begun before the process was forked, and its answer is generated in the parent; begin a new "
        "one here"
    )


def _new_scheduler(runner: Runner, num_blocks: int, max_running: int, max_step_tokens: int) -> Scheduler:
    return Scheduler(runner, BlockPool(num_blocks), max_running=max_running, max_step_tokens=max_step_tokens)


@atexit.register
def _close_all() -> None:
    """Stop the threads before the interpreter takes their modules apart."""
    for engine in list(_engines):
        engine.close()
