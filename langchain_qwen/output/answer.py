"""From the engine's events to LangChain's message chunks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

from langchain_qwen.engine import Event, Finished, Reading, Started, Token
from langchain_qwen.output.chunks import ChunkMaker
from langchain_qwen.output.parser import OutputParser
from langchain_qwen.output.passes import Showing
from langchain_qwen.output.pieces import Piece
from langchain_qwen.output.plan import OutputPlan
from langchain_qwen.output.thought import Thought

PROVIDER = "qwen"


@dataclass(slots=True)
class Spent:
    """Tokens and seconds of all passes of a call so far."""

    passes: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = 0  # None where an engine has not told
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Answer:
    """Turns the events of one generation into chunks.

    Where the plan says what is generated `otherwise` and nothing of this answer reaches the caller, there is no chunk.

    Args:
        token_bytes: The bytes of a token.
        plan: The form that the answer has.
        thought_marks: The tokens around a reasoning model's reasoning.
        in_thought: Whether the prompt ends within it.
        stop: Strings that end the answer.
        with_logprobs: Whether to report log probabilities.
        prompt_tokens: For the usage.
        metadata: Goes into the last chunk's `response_metadata`.
        spent: By the passes before; this one is added.
        tells_usage: Whether the last chunk says how many tokens were used.
        parse: What makes an object of the whole text, for the last chunk's `parsed`.

    Attributes:
        complete: Whether this was all; the engine's iterator can be closed then.
        last: The chunk behind those of `feed`, with usage and metadata; None where something else has to be generated:
            the plan's `otherwise`, or what this pass decided.
    """

    def __init__(
        self,
        token_bytes: Callable[[int], bytes],
        plan: OutputPlan,
        *,
        thought_marks: tuple[int, int] | None,
        in_thought: bool,
        stop: Sequence[str],
        with_logprobs: bool,
        prompt_tokens: int,
        metadata: Mapping[str, Any],
        spent: Spent,
        tells_usage: bool,
        parse: Callable[[str], Any] | None,
    ):
        self.complete = False
        self.last: ChatGenerationChunk | None = None
        self._spent = spent
        self._tells_usage = tells_usage
        self._parse = parse
        self._text: list[str] = []  # for `parse`
        self._has_calls = False
        self._token_bytes = token_bytes
        self._plan = plan
        text_bytes = _without_control_tokens(token_bytes)
        self._thought = Thought(text_bytes, thought_marks, opened=in_thought)
        self._parser = OutputParser(text_bytes, stop=stop, tool_names=plan.tool_names, thought=self._thought)
        self._showing = Showing(plan)
        self._logprobs: list[dict[str, Any]] = []  # of tokens that have not been shown yet
        self._chunk_maker = ChunkMaker()
        self._with_logprobs = with_logprobs
        self._cached_tokens: int | None = None
        self._metadata = metadata
        self._spent.passes += 1
        self._spent.prompt_tokens += prompt_tokens
        self._first_token = time.monotonic()

    @property
    def decision(self) -> str:
        """What a pass that decides has said."""
        return self._showing.hidden

    def feed(self, event: Event) -> list[ChatGenerationChunk]:
        """The chunks that an event completes; none where text is held back."""
        match event:
            case Reading():
                return []
            case Started():
                self._cached_tokens = event.cached_tokens
                self._spent.queue_s += event.queue_s
                self._spent.prefill_s += event.prefill_s
                self._first_token = time.monotonic()
                return []
            case Token():
                self._spent.completion_tokens += 1
                self._note_logprob(event)
                chunks = self._chunks(self._parser.feed(event.id))
                only_call = self._plan.one_call and self._parser.calls_completed
                if self._parser.stopped or only_call or self._showing.done:
                    chunks += self._finish("stop")
                return chunks
            case Finished():
                if event.cached_tokens is not None:
                    self._cached_tokens = event.cached_tokens
                return self._finish(event.reason)

    def _finish(self, reason: str) -> list[ChatGenerationChunk]:
        self.complete = True
        chunks = self._chunks(self._parser.finish())
        spent = self._spent
        spent.reasoning_tokens += self._thought.tokens
        spent.decode_s += time.monotonic() - self._first_token
        if spent.cached_tokens is not None:
            told = self._cached_tokens
            spent.cached_tokens = None if told is None else spent.cached_tokens + told
        if self._plan.decides or (self._plan.otherwise is not None and not self._showing.anything):
            return []
        if self._logprobs:
            chunks.append(self._chunk(()))
        self.last = self._last("tool_calls" if reason == "stop" and self._showing.calls else reason)
        return chunks

    def _last(self, reason: str) -> ChatGenerationChunk:
        spent = self._spent
        usage = UsageMetadata(
            input_tokens=spent.prompt_tokens,
            output_tokens=spent.completion_tokens,
            total_tokens=spent.prompt_tokens + spent.completion_tokens,
            input_token_details=_details(spent.cached_tokens),
        )
        if spent.reasoning_tokens:
            usage["output_token_details"] = OutputTokenDetails(reasoning=spent.reasoning_tokens)
        decoded = spent.completion_tokens - spent.passes  # the first token of each belongs to its prefill
        metadata: dict[str, Any] = {
            **self._metadata,
            "model_provider": PROVIDER,
            "finish_reason": reason,
            "timings": {
                "queue_s": spent.queue_s,
                "prefill_s": spent.prefill_s,
                "decode_s": spent.decode_s,
                "tokens_per_second": decoded / spent.decode_s if decoded > 0 else None,
            },
        }
        if self._tells_usage:
            metadata["token_usage"] = {
                "prompt_tokens": usage["input_tokens"],
                "completion_tokens": usage["output_tokens"],
                "total_tokens": usage["total_tokens"],
            }
        message = AIMessageChunk(
            content="",
            usage_metadata=usage if self._tells_usage else None,
            response_metadata=metadata,
            chunk_position="last",
        )
        if self._parse and reason == "stop" and not self._parser.stopped and not self._has_calls:
            message.additional_kwargs["parsed"] = self._parse("".join(self._text))
        info = {"finish_reason": reason, "model_name": self._metadata.get("model_name")}
        return ChatGenerationChunk(message=message, generation_info=info)

    def _chunks(self, pieces: Sequence[Piece]) -> list[ChatGenerationChunk]:
        pieces = self._showing.feed(pieces)
        # What may be withdrawn brings its log probabilities when it is shown.
        alone = self._logprobs and (self._showing.anything or self._plan.otherwise is None)
        return [self._chunk(pieces)] if pieces or alone else []

    def _chunk(self, pieces: Sequence[Piece]) -> ChatGenerationChunk:
        chunk = self._chunk_maker.chunk(pieces)
        if self._parse:
            self._text.append(chunk.text)
            self._has_calls = self._has_calls or bool(chunk.tool_call_chunks)
        chunk.response_metadata = {"model_provider": PROVIDER}
        if self._logprobs:
            chunk.response_metadata["logprobs"] = {"content": self._logprobs}
            self._logprobs = []
        return ChatGenerationChunk(message=chunk)

    def _note_logprob(self, event: Token) -> None:
        """OpenAI's form: with each token its bytes, since a token need not be whole characters."""
        if not self._with_logprobs:
            return
        entry = self._logprob(event.id, event.logprob)
        entry["top_logprobs"] = [self._logprob(token, logprob) for token, logprob in event.top_logprobs]
        self._logprobs.append(entry)

    def _logprob(self, token: int, logprob: float | None) -> dict[str, Any]:
        raw = self._token_bytes(token)
        return {"token": raw.decode("utf-8", errors="replace"), "bytes": list(raw), "logprob": logprob}


def _details(cached_tokens: int | None) -> InputTokenDetails:
    return InputTokenDetails() if cached_tokens is None else InputTokenDetails(cache_read=cached_tokens)


def _without_control_tokens(token_bytes: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """The bytes of a token in the answer's text. The tags of calls are read there; other control tokens are no text."""

    def text_bytes(token: int) -> bytes:
        raw = token_bytes(token)
        return b"" if raw.startswith(b"<|") and raw.endswith(b"|>") else raw

    return text_bytes
