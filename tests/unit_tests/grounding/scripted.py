"""A chat model whose answers are written down, for tests of what is around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from tests.unit_tests.output.answers import allows


class ScriptedModel(BaseChatModel):
    """Answers with `answer`, quotes with `quotes`, in pieces of `piece`.

    It says Yes of passages that hold `states`, or as likely as that says.
    """

    states: str | Callable[[str], bool | float] = ""
    answer: str = ""
    quotes: str = ""
    piece: int = 3
    prompts: list[list[BaseMessage]] = Field(default_factory=list)
    finish_reason: str = "stop"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def get_num_tokens(self, text: str) -> int:
        return len(text.split())

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Any = None) -> int:
        return sum(self.get_num_tokens(message.text) for message in messages)

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self.prompts.append(messages)
        if kwargs.get("logprobs"):
            shown = messages[-1].text.split("\n\nQuestion:")[0]
            states = self.states(shown) if callable(self.states) else self.states in shown
            yes = states if isinstance(states, float) else 0.9 if states else 0.1
            shares = {"Yes": yes, "No": 1 - yes}
            top = [{"token": token, "logprob": math.log(share)} for token, share in shares.items()]
            message = AIMessage("Yes", response_metadata={"logprobs": {"content": [{"top_logprobs": top}]}})
        else:
            message = AIMessage("".join(chunk.text for chunk in self._stream(messages, **kwargs)))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self.prompts.append(messages)
        text = self.answer
        if "response_format" in kwargs:
            text = self.quotes
            if self.finish_reason == "stop":
                assert allows(kwargs["response_format"]["grammar"], text), text
        for start in range(0, len(text), self.piece):
            yield ChatGenerationChunk(message=AIMessageChunk(text[start : start + self.piece]))
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_token_details": {"cache_read": 4}}
        metadata = {"finish_reason": self.finish_reason}
        yield ChatGenerationChunk(message=AIMessageChunk("", usage_metadata=usage, response_metadata=metadata))
