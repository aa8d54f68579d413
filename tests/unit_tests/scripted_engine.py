"""An engine that says what it is told, token by token, under the grammar of each request."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator

from langchain_qwen.engine import Event, Finished, Request, Started, Token
from langchain_qwen.engine.protocol import EngineInfo
from langchain_qwen.errors import GenerationTimeoutError
from langchain_qwen.prompting.tokenizer import Tokenizer


class ScriptedEngine:
    """Answers the first request with the first text, and so on; tags in a text are control tokens.

    Attributes:
        requests: All that came.
        closed: How many streams were closed.
    """

    def __init__(self, tokenizer: Tokenizer, *texts: str, window: int = 2048):
        self.info = EngineInfo("scripted", window, tokenizer.vocab_size, "cpu", "fp32")
        self.requests: list[Request] = []
        self.closed = 0
        self._tokenizer = tokenizer
        self._texts = list(texts)

    def stream(self, request: Request) -> Generator[Event, None, None]:
        self.requests.append(request)
        text = self._texts.pop(0)
        matcher = request.constraint.matcher() if request.constraint else None
        try:
            yield Started(len(request.prompt_ids), 16, 0.5, 0.25)
            tokens = self._tokenizer.llguidance.tokenize_str(text, parse_special=True)
            for token in tokens[: request.max_tokens]:
                if request.deadline is not None and time.monotonic() > request.deadline:
                    raise GenerationTimeoutError("too late")
                if token in request.stop_ids:
                    yield Finished("stop", 0, 0, 0, 0.0)
                    return
                if matcher is not None:
                    matcher.accept(token)
                yield Token(token, -1.0, () if request.top_logprobs is None else ((token, -1.0),))
            yield Finished("length" if len(tokens) > request.max_tokens else "stop", len(tokens), 0, 0, 0.0)
        finally:
            self.closed += 1

    async def astream(self, request: Request) -> AsyncGenerator[Event, None]:
        events = self.stream(request)
        try:
            for event in events:
                yield event
        finally:
            events.close()

    def close(self, *, wait: bool = True) -> None:
        """There is nothing to close."""
