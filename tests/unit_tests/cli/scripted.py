"""A chat model that follows a script, at the seam where the commands make theirs.

As a program it runs the command line on such a model, for tests that need a process with a terminal of its own:
`python -m tests.unit_tests.cli.scripted endless chat`.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from langchain_qwen.cli import model as models

WINDOW = 100


class ScriptedModel(BaseChatModel):
    """Answers with the pieces of the script's next item, raising those that are errors. A token is a word."""

    script: Iterator[Iterable[str | BaseException]]
    finish_reason: str = "stop"
    seen: list[list[BaseMessage]] = Field(default_factory=list)
    arguments: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def close(self) -> None:
        """There is nothing to close."""

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Any = None) -> int:
        return sum(len(message.text.split()) for message in messages)

    def _stream(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        self.seen.append(messages)
        self.arguments.append(kwargs)
        text = ""
        for piece in next(self.script):
            if isinstance(piece, BaseException):
                raise piece
            text += piece
            yield ChatGenerationChunk(message=AIMessageChunk(piece))
        used, new = self.get_num_tokens_from_messages(messages), len(text.split())
        usage = {
            "input_tokens": used,
            "output_tokens": new,
            "total_tokens": used + new,
            "input_token_details": {"cache_read": 7},
        }
        metadata = {"finish_reason": self.finish_reason, "timings": {"tokens_per_second": 12.34, "prefill_s": 0.5}}
        last = AIMessageChunk("", usage_metadata=usage, response_metadata=metadata, chunk_position="last")
        yield ChatGenerationChunk(message=last)

    def _generate(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> ChatResult:
        message = sum((chunk.message for chunk in self._stream(messages, **kwargs)), AIMessageChunk(""))
        return ChatResult(generations=[ChatGeneration(message=message)])


def scripted(*answers: str | Iterable[str | BaseException], **fields: Any) -> ScriptedModel:
    """A model with one answer after another; a string is one that comes in words."""
    split = [answer.split(" ") if isinstance(answer, str) else answer for answer in answers]
    script = [[p if not i or isinstance(p, BaseException) else f" {p}" for i, p in enumerate(a)] for a in split]
    return ScriptedModel(script=iter(script), profile={"max_input_tokens": WINDOW}, **fields)


def _endless() -> Iterator[str]:
    for number in itertools.count():
        time.sleep(0.01)
        yield f"line {number}\n"


if __name__ == "__main__":
    from langchain_qwen.cli import main

    assert sys.argv.pop(1) == "endless"
    endless = ScriptedModel(script=itertools.repeat(_endless()), profile={"max_input_tokens": WINDOW})
    models.make_model = lambda *_args, **_kwargs: endless
    main()
