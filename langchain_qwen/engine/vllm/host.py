"""vLLM on an event loop of its own, on a thread of its own: its engine belongs to one loop, and callers have many."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any

from langchain_qwen.errors import EngineError, InvalidParameterError

logger = logging.getLogger(__name__)

START = (
    "vLLM did not start ({error}). What its processes wrote says why: most often memory is short, then lower "
    '`kv_cache_bytes` or `vllm_kwargs={{"gpu_memory_utilization": ...}}`'
)
UNGUARDED = (
    "vLLM starts processes that import the script anew, and this one would start vLLM again in each of them; put what "
    'the script does below `if __name__ == "__main__":`'
)


class Host:
    """Starts vLLM and keeps it; what it computes with runs in processes that vLLM starts.

    Args:
        arguments: Of vLLM's `AsyncEngineArgs`.

    Attributes:
        llm: vLLM's `AsyncLLM`, for coroutines that `run` runs.

    Raises:
        InvalidParameterError: vLLM does not take the arguments.
        EngineError: It did not start.
    """

    def __init__(self, arguments: Mapping[str, Any]):
        self.llm: Any = None
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: Future[None] = Future()
        self._closing = threading.Event()
        self._end: asyncio.Event | None = None
        self.thread = threading.Thread(
            target=lambda: asyncio.run(self._live(arguments)), name="langchain-qwen vllm", daemon=True
        )
        self.thread.start()
        try:
            self._ready.result()
        except BaseException:  # Ctrl-C too
            self.close()
            raise

    @property
    def here(self) -> bool:
        """Whether it was started by this process, rather than by one that was forked since."""
        return self._pid == os.getpid()

    @property
    def alive(self) -> bool:
        """Whether it can generate."""
        llm = self.llm
        return llm is not None and self.thread.is_alive() and not llm.errored

    @property
    def closing(self) -> bool:
        """Whether it has been told to end."""
        return self._closing.is_set()

    def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Future[None]:
        """Run something on vLLM's event loop; cancelling the future cancels it there.

        Raises:
            RuntimeError: The loop has ended.
        """
        assert self._loop is not None
        coroutine = work()
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise

    def close(self) -> None:
        """Tell it to end, from any thread; its thread and its processes are gone soon after."""
        self._closing.set()
        if self.here and self._loop is not None and self._end is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._end.set)

    async def _live(self, arguments: Mapping[str, Any]) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        try:
            self.llm = _start(arguments)  # blocks the loop, which nobody uses yet
        except BaseException as error:  # noqa: BLE001  raised in the thread that waits
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        try:
            if not self.closing:
                await self._end.wait()
        finally:
            # The requests first: each tells vLLM and its reader, and none waits for an answer that vLLM's end cuts off.
            handler = self.llm.output_handler
            for tasks in (asyncio.all_tasks() - {asyncio.current_task(), handler}, {handler} - {None}):
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            llm, self.llm = self.llm, None
            llm.shutdown()


def _start(arguments: Mapping[str, Any]) -> Any:
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # Python itself would say so, a minute later
        raise EngineError(UNGUARDED)
    # Nothing leaves this machine, also no statistics; and a library does not write to its user's standard output.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    from vllm.engine.arg_utils import AsyncEngineArgs  # takes ten seconds to import
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        given = AsyncEngineArgs(**arguments)
        config = given.create_engine_config()
    except (TypeError, ValueError) as error:  # pydantic's errors are ValueErrors
        raise InvalidParameterError(f"vLLM does not take these settings (`vllm_kwargs`): {error}") from error
    try:
        return AsyncLLM.from_vllm_config(config, disable_log_stats=given.disable_log_stats)
    except (RuntimeError, ValueError, OSError, TimeoutError, MemoryError) as error:
        raise EngineError(START.format(error=error)) from error
