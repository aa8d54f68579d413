"""From the engine's events to LangChain's message chunks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

from langchain_qwen.engine import Event, Finished, Started, Token
from langchain_qwen.output.chunks import ChunkMaker
from langchain_qwen.output.parser import OutputParser
from langchain_qwen.output.pieces import Piece
from langchain_qwen.output.plan import OutputPlan

PROVIDER = "qwen"


class Answer:
    """Turns the events of one generation into chunks; the last one carries usage and metadata.

    Args:
        token_bytes: The bytes of a token.
        plan: The form that the answer has.
        stop: Strings that end it.
        with_logprobs: Whether to report log probabilities.
        prompt_tokens: For the usage.
        metadata: Goes into the last chunk's `response_metadata`.
    """

    def __init__(
        self,
        token_bytes: Callable[[int], bytes],
        plan: OutputPlan,
        *,
        stop: Sequence[str],
        with_logprobs: bool,
        prompt_tokens: int,
        metadata: Mapping[str, Any],
    ):
        self.complete = False
        """Whether the last chunk is out; the engine's iterator can be closed then."""
        self._token_bytes = token_bytes
        self._plan = plan
        self._parser = OutputParser(token_bytes, stop=stop, tool_names=plan.tool_names)
        self._chunk_maker = ChunkMaker()
        self._with_logprobs = with_logprobs
        self._metadata = metadata
        self._prompt_tokens = prompt_tokens
        self._completion_tokens = 0
        self._started = Started(prompt_tokens, 0, 0.0, 0.0)
        self._first_token = time.monotonic()

    def feed(self, event: Event) -> list[ChatGenerationChunk]:
        """The chunks that an event completes; none where text is held back."""
        match event:
            case Started():
                self._started = event
                self._first_token = time.monotonic()
                return []
            case Token():
                self._completion_tokens += 1
                pieces = self._parser.feed(event.id)
                chunks = self._chunks(pieces, self._logprobs(event))
                if self._parser.stopped or (self._plan.one_call and self._parser.calls_completed):
                    chunks += self._last("stop")
                return chunks
            case Finished():
                return self._last(event.reason)

    def _last(self, reason: str) -> list[ChatGenerationChunk]:
        self.complete = True
        chunks = self._chunks(self._parser.finish(), {})
        if reason == "stop" and self._parser.calls_completed:
            reason = "tool_calls"
        decode_s = time.monotonic() - self._first_token
        usage = UsageMetadata(
            input_tokens=self._prompt_tokens,
            output_tokens=self._completion_tokens,
            total_tokens=self._prompt_tokens + self._completion_tokens,
            input_token_details=InputTokenDetails(cache_read=self._started.cached_tokens),
        )
        metadata = {
            **self._metadata,
            "model_provider": PROVIDER,
            "finish_reason": reason,
            "timings": {
                "queue_s": self._started.queue_s,
                "prefill_s": self._started.prefill_s,
                "decode_s": decode_s,
                # The first token belongs to the prefill.
                "tokens_per_second": (self._completion_tokens - 1) / decode_s if self._completion_tokens > 1 else None,
            },
        }
        last = AIMessageChunk(content="", usage_metadata=usage, response_metadata=metadata, chunk_position="last")
        info = {"finish_reason": reason, "model_name": self._metadata.get("model_name")}
        return [*chunks, ChatGenerationChunk(message=last, generation_info=info)]

    def _chunks(self, pieces: Sequence[Piece], metadata: dict[str, Any]) -> list[ChatGenerationChunk]:
        if not pieces and not metadata:
            return []
        chunk = self._chunk_maker.chunk(pieces)
        chunk.response_metadata = {"model_provider": PROVIDER, **metadata}
        return [ChatGenerationChunk(message=chunk)]

    def _logprobs(self, event: Token) -> dict[str, Any]:
        """OpenAI's form: with each token its bytes, since a token need not be whole characters."""
        if not self._with_logprobs:
            return {}
        entry = self._logprob(event.id, event.logprob)
        entry["top_logprobs"] = [self._logprob(token, logprob) for token, logprob in event.top_logprobs]
        return {"logprobs": {"content": [entry]}}

    def _logprob(self, token: int, logprob: float | None) -> dict[str, Any]:
        raw = self._token_bytes(token)
        return {"token": raw.decode("utf-8", errors="replace"), "bytes": list(raw), "logprob": logprob}
