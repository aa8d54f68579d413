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
    """Answers with `answer`, in pieces of `piece`, sure of each token by `log_probability`.

    Asked whether the passages state the answer it says Yes of prompts that hold `states`, or as likely as that says,
    and finds there `finds`, or its answer; asked whether they state what it answered, as likely as `confirms`; of other
    questions with Yes and No as `says` has it for a part of their text. `parts` are the lines that a question is split
    into, `replies` what it says to prompts whose last message holds a text.
    """

    states: str | Callable[[str], bool | float] = ""
    finds: str = ""
    confirms: float = 0.9
    says: dict[str, float] = Field(default_factory=dict)
    answer: str = ""
    parts: tuple[str, ...] = ()
    replies: dict[str, str] = Field(default_factory=dict)
    piece: int = 3
    log_probability: float = -0.1
    prompts: list[list[BaseMessage]] = Field(default_factory=list)
    local: bool = True
    context_window: int = 32_768
    max_tokens: int | None = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def as_local(self, arguments: Any = None) -> ScriptedModel | None:
        return self if self.local else None

    def get_num_tokens(self, text: str) -> int:
        return len(text.split())

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Any = None) -> int:
        return sum(self.get_num_tokens(message.text) for message in messages)

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        if kwargs.get("top_logprobs"):
            self.prompts.append(messages)
            yes = self._yes(messages)
            shares = {"Yes": yes, "No": 1 - yes}
            top = [{"token": token, "logprob": math.log(share)} for token, share in shares.items()]
            message = AIMessage(
                self._found(yes, kwargs.get("response_format")),
                response_metadata={"logprobs": {"content": [{"top_logprobs": top}]}},
            )
        else:
            chunks = [chunk.message for chunk in self._stream(messages, **kwargs)]
            tokens = [one for chunk in chunks for one in chunk.response_metadata.get("logprobs", {}).get("content", [])]
            metadata = {"logprobs": {"content": tokens}} if tokens else {}
            message = AIMessage("".join(chunk.text for chunk in chunks), response_metadata=metadata)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _found(self, yes: float, form: Any) -> str:
        if form is None:
            return "Yes"
        text = f"Yes: {(self.finds or self.answer).splitlines()[0][:100]}" if yes > 0.5 else "No"
        assert allows(form["grammar"], text), text
        return text

    def _yes(self, messages: list[BaseMessage]) -> float:
        asked = messages[-1].text
        for part, share in self.says.items():
            if part in asked:
                return share
        if asked.startswith("Is this answer stated"):
            return self.confirms
        states = self.states(asked) if callable(self.states) else self.states in asked
        return states if isinstance(states, float) else 0.9 if states else 0.1

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self.prompts.append(messages)
        text = next((reply for part, reply in self.replies.items() if part in messages[-1].text), self.answer)
        if "response_format" in kwargs:
            text = "\n".join(f"{number}. {part}" for number, part in enumerate(self.parts, 1))
            assert allows(kwargs["response_format"]["grammar"], text), text
        for start in range(0, len(text), self.piece):
            metadata: dict[str, Any] = {}
            if kwargs.get("logprobs"):
                token = {"token": text[start : start + self.piece], "logprob": self.log_probability}
                metadata = {"logprobs": {"content": [token]}}
            yield ChatGenerationChunk(
                message=AIMessageChunk(text[start : start + self.piece], response_metadata=metadata)
            )
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_token_details": {"cache_read": 4}}
        yield ChatGenerationChunk(message=AIMessageChunk("", usage_metadata=usage))
