"""The thread of an engine: one life of a scheduler over a runner.

It outlives whatever a step raises, with a scheduler made anew. Where even that fails, and in a forked child, which has
no copy of the thread, the life is over: those who wait see it (`alive`), and the engine starts another one.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from langchain_qwen.engine.blocks import BlockPool
from langchain_qwen.engine.runners.protocol import Runner
from langchain_qwen.engine.scheduler import Scheduler
from langchain_qwen.engine.sequence import Sequence
from langchain_qwen.errors import EngineClosedError, EngineError

T = TypeVar("T")


class Job(Generic[T]):
    """Something to run between two steps, and what comes of it."""

    def __init__(self, work: Callable[[BlockPool, Runner], T]):
        self._work = work
        self.result: Future[T] = Future()

    def run(self, pool: BlockPool, runner: Runner) -> None:
        """Run it; the caller gets what it raises."""
        try:
            self.result.set_result(self._work(pool, runner))
        except BaseException as error:  # noqa: BLE001
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Tell the caller that it will not be run."""
        self.result.set_exception(error)


class Worker:
    """Runs what is put into its inbox, on a thread of its own."""

    def __init__(self, runner: Runner, new_scheduler: Callable[[], Scheduler], name: str):
        self._runner = runner
        self._new_scheduler = new_scheduler
        self.scheduler = new_scheduler()
        # A queue in C and no condition: a signal in the middle of taking a lock in Python would leave it locked.
        self._inbox: queue.SimpleQueue[Sequence | Job[Any] | None] = queue.SimpleQueue()
        self._arriving: Sequence | Job[Any] | None = None
        self._closing = False
        self._process = os.getpid()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self.thread.start()
        except RuntimeError as error:
            raise EngineError(
                f"the system refuses the engine a thread ({error}); free memory, or raise the limit of processes "
                "(ulimit -u, the container's pids limit)"
            ) from error

    @property
    def foreign(self) -> bool:
        """Whether it runs in the process that this one was forked from."""
        return self._process != os.getpid()

    @property
    def alive(self) -> bool:
        """Whether what is put into the inbox will be answered."""
        return not self.foreign and self.thread.is_alive()

    def put(self, item: Sequence | Job[Any]) -> None:
        """Have a request or a job done."""
        self._inbox.put(item)

    def close(self) -> None:
        """End the thread after the running step; everything that is not complete fails."""
        self._inbox.put(None)

    def _run(self) -> None:
        reason: BaseException = EngineClosedError("the engine was closed while the answer was generated")
        try:
            while not self._closing:
                try:
                    self._turn()
                except BaseException as error:  # noqa: BLE001, PERF203  whatever it is, the callers must hear of it
                    self._begin_anew(error)
        except BaseException as error:
            reason = error
            raise
        finally:
            self._fail_all(reason)
            if self._closing:
                self._runner.close()

    def _turn(self) -> None:
        """Take what has arrived, waiting where there is nothing else to do, and run one step."""
        wait = self.scheduler.idle
        while wait or not self._inbox.empty():
            item = self._arriving = self._inbox.get()
            if item is None:
                self._closing = True
                return
            if isinstance(item, Job):
                item.run(self.scheduler.pool, self._runner)
            else:
                self.scheduler.add(item)
            self._arriving = None
            wait = False
        self.scheduler.step()

    def _begin_anew(self, error: BaseException) -> None:
        """An error may have come in the middle of bookkeeping, so nothing of it is used again."""
        if self._arriving is not None:
            self._arriving.fail(error)
            self._arriving = None
        self.scheduler.fail_all(error)
        self.scheduler = self._new_scheduler()

    def _fail_all(self, error: BaseException) -> None:
        self.scheduler.fail_all(error)
        while not self._inbox.empty():
            item = self._inbox.get()
            if item is not None:
                item.fail(error)
