"""One writer at a time to each thread of a checkpointer.

LangGraph reads a thread's state when a run begins and writes it when the run's steps end. Two runs that overlap on one
thread id begin with the same state, and the later one hides what the earlier one wrote. Here they take turns.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.utils.aiter import aclosing

from langchain_qwen.errors import InvalidParameterError


class OneWriterPerThread(Runnable[Any, Any]):
    """A graph or agent whose runs on one `thread_id` follow each other, in all processes that name the same folder.

    ```python
    agent = OneWriterPerThread(create_agent(model, checkpointer=SqliteSaver(connection)))
    ```

    Args:
        graph: What is run with `config={"configurable": {"thread_id": ...}}`.
        folder: Where the lock files are, for instance beside the SQLite file. None is a folder of this object, which is
            enough where one process writes.
    """

    def __init__(self, graph: Runnable[Any, Any], *, folder: str | Path | None = None):
        self.graph = graph
        self._own = tempfile.TemporaryDirectory() if folder is None else None
        self._folder = Path(folder or self._own.name)  # type: ignore[union-attr]
        self._folder.mkdir(parents=True, exist_ok=True)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Run when the runs before are done."""
        with self._lock(config):
            return self.graph.invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Run when the runs before are done."""
        lock = await _acquired(self._lock(config))
        try:
            return await self.graph.ainvoke(input, config, **kwargs)
        finally:
            lock.release()

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002
        """Stream when the runs before are done; the turn ends with the stream."""
        with self._lock(config):
            yield from self.graph.stream(input, config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:  # noqa: A002
        """Stream when the runs before are done; the turn ends with the stream."""
        lock = await _acquired(self._lock(config))
        try:
            # Closed here: whoever comes next would else begin while this run still writes its state.
            async with aclosing(self.graph.astream(input, config, **kwargs)) as items:
                async for item in items:
                    yield item
        finally:
            lock.release()

    def _lock(self, config: RunnableConfig | None) -> FileLock:
        thread_id = (config or {}).get("configurable", {}).get("thread_id")
        if thread_id is None:
            raise InvalidParameterError('pass config={"configurable": {"thread_id": ...}}: it says who shares a state')
        name = hashlib.blake2b(str(thread_id).encode(), digest_size=16).hexdigest()
        return FileLock(self._folder / f"{name}.lock", thread_local=False)


async def _acquired(lock: FileLock) -> FileLock:
    # Tries in the event loop: a thread that waits could get the lock after its task was cancelled, and keep it.
    while True:
        try:
            lock.acquire(blocking=False)
        except TimeoutError:  # noqa: PERF203  the loop is for waiting
            await asyncio.sleep(0.02)
        else:
            return lock
