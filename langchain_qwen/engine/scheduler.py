"""Which tokens of which requests go into the next step.

Requests that run at the same time share every step (continuous batching). Answers go on first; the rest of a
step's budget goes to prompts, in chunks, oldest first. When KV memory runs out, the newest request is set back to
waiting and later computed again, mostly from the prefix cache.
"""

from __future__ import annotations

import time
from collections import deque

from langchain_qwen.engine.blocks import BlockPool
from langchain_qwen.engine.runners.protocol import Chunk, Runner
from langchain_qwen.engine.sequence import Sequence
from langchain_qwen.errors import EngineError, GenerationTimeoutError


class Scheduler:
    """Runs steps until no request is left. Used from one thread only."""

    def __init__(self, runner: Runner, pool: BlockPool, *, max_running: int, max_step_tokens: int):
        self._runner = runner
        self.pool = pool
        self._max_running = max_running
        self._max_step_tokens = max_step_tokens
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []  # oldest first

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting and not self._running

    def add(self, sequence: Sequence) -> None:
        """Queue a request."""
        self._waiting.append(sequence)

    def step(self) -> None:
        """Compute the next tokens of as many requests as fit."""
        self._drop_ended()
        planned = self._plan()
        if not planned:
            return
        chunks = [self._chunk(sequence, count) for sequence, count in planned]
        logits = self._runner.step(chunks)
        row = 0
        for (sequence, count), chunk in zip(planned, chunks, strict=True):
            if not chunk.num_logits:
                sequence.advance(count, self.pool)
                sequence.tell_reading()
                continue
            known = sequence.pending
            rows = logits[row : row + chunk.num_logits]
            row += chunk.num_logits
            try:
                accepted, ended = sequence.sample(rows)
            except BaseException as error:  # noqa: BLE001  a panic of an extension is no Exception; the others must go on
                self._fail(sequence, error)
                continue
            sequence.advance(known + accepted, self.pool)
            if ended:
                self._remove(sequence)

    def fail_all(self, error: BaseException) -> None:
        """End every request with an error. The scheduler is not to be used again: its blocks are not given back."""
        for sequence in [*self._running, *self._waiting]:
            sequence.fail(error)

    def _fail(self, sequence: Sequence, error: BaseException) -> None:
        sequence.fail(error)
        self._remove(sequence)

    def _remove(self, sequence: Sequence) -> None:
        (self._running if sequence in self._running else self._waiting).remove(sequence)
        sequence.evict(self.pool)
        sequence.gone = True

    def _plan(self) -> list[tuple[Sequence, int]]:
        """Sequences of the next step with the number of tokens of each."""
        planned: list[tuple[Sequence, int]] = []
        budget = self._max_step_tokens
        # Answers need one token and their draft; whatever has more pending is a prompt.
        for sequence in sorted(self._running, key=lambda s: s.pending > 1):
            if sequence not in self._running:  # set back for an older one
                continue
            count = sequence.next_count(budget)
            if count and self._make_room(sequence, count, planned):
                planned.append((sequence, count))
                budget -= count
        while self._waiting and budget and len(self._running) < self._max_running:
            sequence = self._waiting[0]
            sequence.admit(self.pool)
            count = sequence.next_count(budget)
            if not sequence.reserve(count, self.pool):
                sequence.evict(self.pool)
                break
            self._waiting.popleft()
            self._running.append(sequence)
            planned.append((sequence, count))
            budget -= count
        return planned

    def _make_room(self, sequence: Sequence, count: int, planned: list[tuple[Sequence, int]]) -> bool:
        """Reserve blocks, setting back the newest other requests that are not in this step yet if need be."""
        while not sequence.reserve(count, self.pool):
            in_step = [s for s, _ in planned]
            newest = next((s for s in reversed(self._running) if s not in in_step), sequence)
            newest.evict(self.pool)
            self._running.remove(newest)
            self._waiting.appendleft(newest)
            if newest is sequence:
                return False
        return True

    @staticmethod
    def _chunk(sequence: Sequence, count: int) -> Chunk:
        complete = count == sequence.pending + len(sequence.draft)
        return Chunk(
            tokens=(sequence.tokens[sequence.computed :] + sequence.draft)[:count],
            start=sequence.computed,
            blocks=sequence.blocks,
            num_logits=1 + len(sequence.draft) if complete else 0,
            allowed=sequence.few_allowed,
        )

    def _drop_ended(self) -> None:
        """Forget requests that were cancelled or are out of time."""
        now = time.monotonic()
        for sequence in [*self._running, *self._waiting]:
            deadline = sequence.request.deadline
            late = deadline is not None and now > deadline
            if late and not sequence.cancelled:
                sequence.sink(
                    GenerationTimeoutError(
                        f"the answer was not complete when `timeout` passed ({sequence.answer_length} tokens "
                        "were generated); raise `timeout`, lower `max_tokens`, or stream and keep what has come"
                    )
                )
            if sequence.request.was_interrupted and not (late or sequence.cancelled):
                sequence.sink(EngineError("the call was interrupted"))
            if late or sequence.cancelled or sequence.request.was_interrupted:
                self._remove(sequence)
