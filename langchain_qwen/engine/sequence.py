"""The state of one request while it is generated."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.memory import is_out_of_memory
from langchain_qwen.engine import sampling
from langchain_qwen.engine.blocks import BLOCK_SIZE, ROOT_HASH, BlockHash, BlockPool, chain_hash
from langchain_qwen.engine.protocol import Event, Finished, Reading, Request, Started, Token
from langchain_qwen.errors import EngineError, OutOfMemoryError

FEW_TOKENS = 1024  # at most a twentieth of the head's rows with their neighbours

Sink = Callable[[Event | BaseException], None]


class Sequence:
    """Tokens, KV blocks, grammar state and figures of a request.

    `tokens` is prompt plus answer; the KV memory holds the first `computed` of them. All methods run on the
    engine's thread, except that anyone may set `cancelled`.
    """

    def __init__(self, request: Request, sink: Sink):
        self.request = request
        self.sink = sink
        self.cancelled = False
        self.gone = False  # nothing more will be said to the sink
        self.tokens = list(request.prompt_ids)
        self.computed = 0
        self.draft: list[int] = []
        self.blocks: list[int] = []
        self._hashes: list[BlockHash] = []
        self._matcher = request.constraint.matcher() if request.constraint else None
        self._allowed: NDArray[np.bool_] | None = None  # by the grammar, for the next token, where known already
        self.few_allowed: NDArray[np.intp] | None = None
        self._counts: sampling.TokenCounts | None = None
        self._loop = sampling.Loop(request.max_tokens) if request.constraint else None
        self._cached: int | None = None
        self._submitted = time.monotonic()
        self._admitted = 0.0
        self._first_token = 0.0
        self._drafted = 0
        self._accepted = 0
        if self._matcher:
            self._plan_draft()

    @property
    def answer_length(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) - len(self.request.prompt_ids)

    @property
    def pending(self) -> int:
        """Known tokens that the KV memory lacks: the rest of the prompt, or the last token."""
        return len(self.tokens) - self.computed

    def next_count(self, budget: int) -> int:
        """Tokens for the next step, at most `budget`: a piece of the prompt, or all that is known and the draft."""
        if self.pending > budget:
            return budget
        self.draft = self.draft[: budget - self.pending]
        return self.pending + len(self.draft)

    def admit(self, pool: BlockPool) -> None:
        """Start from what the prefix cache holds. Also after a preemption, with the answer so far."""
        self.blocks, self._hashes = pool.match(self.tokens)
        self.computed = len(self.blocks) * BLOCK_SIZE
        if self._cached is None:
            self._cached = self.computed
            self._admitted = time.monotonic()

    def evict(self, pool: BlockPool) -> None:
        """Give all blocks back; `admit` starts again."""
        pool.release(self.blocks)
        self.blocks, self._hashes, self.computed = [], [], 0

    def reserve(self, count: int, pool: BlockPool) -> bool:
        """Make room in the KV memory for `count` more tokens; False when there is none."""
        missing = -(-(self.computed + count) // BLOCK_SIZE) - len(self.blocks)
        if missing > 0:
            blocks = pool.allocate(missing)
            if blocks is None:
                return False
            self.blocks += blocks
        return True

    def advance(self, count: int, pool: BlockPool) -> None:
        """`count` more known tokens are in the KV memory; share the blocks they filled."""
        self.computed += count
        for index in range(len(self._hashes), self.computed // BLOCK_SIZE):
            parent = self._hashes[-1] if self._hashes else ROOT_HASH
            tokens = self.tokens[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]
            self._hashes.append(chain_hash(parent, tokens))
            pool.publish(self.blocks[index], self._hashes[-1])

    def tell_reading(self) -> None:
        """Say how far the reading of the prompt is."""
        if self.answer_length:  # set back, and read again
            return
        total = len(self.request.prompt_ids)
        read = self.computed - (self._cached or 0)
        pace = (time.monotonic() - self._admitted) / read if read > 0 else 0.0
        self.sink(Reading(self.computed, total, pace * (total - self.computed)))

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        try:
            self.sink(_as_engine_error(error))
        finally:  # where memory for that is lacking, the reader finds out by itself
            self.gone = True

    def sample(self, logits: sampling.Logits) -> tuple[int, bool]:
        """Choose tokens from the logits of the last known token and of the draft after it.

        Each position is sampled as if there were no draft; a draft token counts when it is what was sampled. So
        drafts change nothing but the speed.

        Args:
            logits: float32 [1 + len(draft), vocabulary].

        Returns:
            How many draft tokens were right, and whether the request has ended.
        """
        if not self.answer_length:
            self._start()
        draft, self.draft = self.draft, []
        accepted = 0
        for row, expected in zip(logits, [*draft, None], strict=True):
            token = self._choose(row)
            if token in self.request.stop_ids:
                self._finish("stop")
                return accepted, True
            self._append(token, row)
            if self._matcher and self._matcher.complete:
                self._finish("stop")
                return accepted, True
            if self.answer_length >= self.request.max_tokens:
                self._finish("length")
                return accepted, True
            if token != expected:
                break
            accepted += 1
            self._accepted += 1
        if self._matcher:
            self._plan_draft()
            self._look_ahead()
        return accepted, False

    def _start(self) -> None:
        self._first_token = time.monotonic()
        if sampling.needs_counts(self.request.sampling):
            self._counts = sampling.TokenCounts(self.request.prompt_ids)
        self.sink(
            Started(
                prompt_tokens=len(self.request.prompt_ids),
                cached_tokens=self._cached or 0,
                queue_s=self._admitted - self._submitted,
                prefill_s=self._first_token - self._admitted,
            )
        )

    def _choose(self, row: sampling.Logits) -> int:
        logits = sampling.adjust(row, self.request.sampling, self._counts)
        if self._loop:
            logits = self._loop.lower(logits)
        if self._matcher:
            allowed = self._matcher.allowed() if self._allowed is None else self._allowed
            logits = np.where(allowed[: len(logits)], logits, np.float32(-np.inf))
        if self.answer_length < self.request.sampling.min_tokens:
            logits = sampling.without(logits, self.request.stop_ids)
        return sampling.choose(logits, self.request.sampling, self.answer_length)

    def _append(self, token: int, row: sampling.Logits) -> None:
        self.tokens.append(token)
        self._allowed = self.few_allowed = None
        if self._counts:
            self._counts.add(token)
        if self._loop:
            self._loop.add(token)
        if self._matcher:
            self._matcher.accept(token)
        if self.request.top_logprobs is None:
            self.sink(Token(token))
        else:
            self.sink(Token(token, *sampling.top_logprobs(row, token, self.request.top_logprobs)))

    def _plan_draft(self) -> None:
        """Draft what the grammar forces, within the tokens that may still be generated."""
        assert self._matcher
        room = self.request.max_tokens - self.answer_length - 1
        self.draft = self._matcher.forced()[: max(room, 0)]
        self._drafted += len(self.draft)

    def _look_ahead(self) -> None:
        """See whether the grammar leaves few tokens, so that the next step can do without the rest of the head."""
        assert self._matcher
        if self.draft or self.request.top_logprobs is not None:
            return
        self._allowed = self._matcher.allowed()
        few = np.flatnonzero(self._allowed)
        self.few_allowed = few if len(few) <= FEW_TOKENS else None

    def _finish(self, reason: Literal["stop", "length"]) -> None:
        self.sink(
            Finished(
                reason=reason,
                completion_tokens=self.answer_length,
                drafted_tokens=self._drafted,
                accepted_tokens=self._accepted,
                decode_s=time.monotonic() - self._first_token,
            )
        )


def _as_engine_error(error: BaseException) -> EngineError:
    """Our own errors as they are; the runner's with what to do."""
    if isinstance(error, EngineError):
        return error
    if is_out_of_memory(error):
        wrapped: EngineError = OutOfMemoryError(
            "memory ran out in the middle of a step; lower `kv_cache_bytes`, send fewer requests at once, or use "
            "a lower precision"
        )
    else:
        wrapped = EngineError(f"the model failed in a step: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
