"""The engine in this process: a scheduler on a thread of its own over a runner."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future
from typing import TypeVar

from langchain_qwen.engine.blocks import BLOCK_SIZE, BlockPool
from langchain_qwen.engine.protocol import EngineInfo, Event, Finished, Request
from langchain_qwen.engine.runners.protocol import Runner
from langchain_qwen.engine.scheduler import Scheduler
from langchain_qwen.engine.sequence import Sequence
from langchain_qwen.errors import ContextOverflowError, EngineClosedError, OutOfMemoryError

T = TypeVar("T")

MAX_RUNNING = 64
# Long enough that products run at full speed, short enough that running answers do not stall for long.
MAX_STEP_TOKENS = 256


class LocalEngine:
    """Runs requests of any number of threads and event loops together."""

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
        try:
            runner.allocate(num_blocks)
        except (MemoryError, RuntimeError) as error:
            needed = num_blocks * BLOCK_SIZE * runner.kv_bytes_per_token
            raise OutOfMemoryError(
                f"KV memory of {needed / 2**30:.2f} GiB cannot be had ({error}); lower `kv_cache_bytes`"
            ) from error
        self._runner = runner
        self._scheduler = Scheduler(
            runner, BlockPool(num_blocks), max_running=max_running, max_step_tokens=max_step_tokens
        )
        self.info = EngineInfo(
            model=model,
            context_window=min(context_window, num_blocks * BLOCK_SIZE),
            vocab_size=runner.vocab_size,
            device=runner.device,
            precision=runner.precision,
        )
        self._wake = threading.Condition()
        self._inbox: list[Sequence] = []
        self._work: list[Callable[[], None]] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"langchain-qwen {model}", daemon=True)
        self._thread.start()

    def stream(self, request: Request) -> Generator[Event, None, None]:
        """Generate, blocking between events. The request is queued at the first `next`."""
        events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        sequence = self._submit(Sequence(request, events.put))
        try:
            while True:
                event = events.get()
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

        def put(event: Event | BaseException) -> None:
            try:
                loop.call_soon_threadsafe(events.put_nowait, event)
            except RuntimeError:  # the loop was closed, so nobody reads any more
                sequence.cancelled = True

        # A large grammar takes a while to compile.
        sequence = await asyncio.to_thread(Sequence, request, put) if request.constraint else Sequence(request, put)
        self._submit(sequence)
        try:
            while True:
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            sequence.cancelled = True

    def close(self) -> None:
        """Stop all work and free the weights. Waits for the running step. Closing twice does nothing."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def between_steps(self, work: Callable[[BlockPool, Runner], T]) -> T:
        """Run something on the engine's own thread, where nothing else touches the KV memory.

        Raises:
            EngineClosedError: The engine has been closed.
        """
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(work(self._scheduler.pool, self._runner))
            except BaseException as error:  # noqa: BLE001  the caller gets it
                result.set_exception(error)

        with self._wake:
            if self._closed:
                raise EngineClosedError("the engine has been closed; create a new ChatQwen")
            self._work.append(run)
            self._wake.notify()
        return result.result()

    @property
    def free_blocks(self) -> int:
        """KV blocks that no running request holds."""
        return self._scheduler.pool.free

    def _submit(self, sequence: Sequence) -> Sequence:
        request = sequence.request
        window, length = self.info.context_window, len(request.prompt_ids)
        if length + request.max_tokens > window:
            raise ContextOverflowError(
                f"the prompt has {length} tokens and {request.max_tokens} are reserved for the answer, but the "
                f"engine holds {window}; shorten the messages, lower `max_tokens`, or raise `kv_cache_bytes`",
                prompt_tokens=length,
                reserved_tokens=request.max_tokens,
                context_window=window,
            )
        with self._wake:
            if self._closed:
                raise EngineClosedError("the engine has been closed; create a new ChatQwen")
            self._inbox.append(sequence)
            self._wake.notify()
        return sequence

    def _run(self) -> None:
        scheduler = self._scheduler
        while True:
            with self._wake:
                while scheduler.idle and not (self._inbox or self._work or self._closed):
                    self._wake.wait()
                arrived, self._inbox = self._inbox, []
                work, self._work = self._work, []
                closed = self._closed
            for run in work:
                run()
            for sequence in arrived:
                scheduler.add(sequence)
            if closed:
                scheduler.fail_all(EngineClosedError("the engine was closed while the answer was generated"))
                self._runner.close()
                return
            try:
                scheduler.step()
            except Exception as error:  # noqa: BLE001  whatever it is, the callers must hear of it
                scheduler.fail_all(error)
