"""Answers from memory: one that the model chose with little certainty says so.

Small models state what they do not know as firmly as what they do. What tells the two apart in part is how likely the
tokens of the answer were, and whether the question is about news, of which a small model keeps little.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_qwen.grounding import features
from langchain_qwen.grounding.risk import Logistic
from langchain_qwen.inputs import followed_by
from langchain_qwen.personas.languages import reply_language

FEATURES = ("mean_log_probability", "least_log_probability", "news")
RAISES = frozenset({"news"})
RISK = "risk"  # where a message's response_metadata has the chance that it is wrong


class FromMemory(Runnable[LanguageModelInput, AIMessage]):
    """A model whose unlikely answers end in a note; `response_metadata["risk"]` has the chance of being wrong.

    Args:
        model: Answers. It must report log probabilities.
        question: What is asked; the note is in its language.
        news: The log odds that the question is about news, as `CutoffVerdict.news`.
        by: Reads the risk off.
        unsure_above: The risk above which an answer says so.
    """

    def __init__(
        self, model: Runnable[LanguageModelInput, Any], question: str, *, news: float, by: Logistic, unsure_above: float
    ):
        self._model = model.bind(logprobs=True)
        self._question = question
        self._news = news
        self._by = by
        self._unsure_above = unsure_above

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:  # noqa: A002
        """The answer, with what there is to say of it."""
        return self._told(self._model.invoke(input, config, **kwargs))

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """As `invoke`."""
        return self._told(await self._model.ainvoke(input, config, **kwargs))

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessage]:
        """The answer as it comes, and what there is to say of it last."""
        chunks: list[AIMessage] = []
        for chunk in self._model.stream(input, config, **kwargs):
            chunks.append(chunk)
            yield chunk
        if (note := self._note(chunks)) is not None:
            yield note

    async def astream(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessage]:
        """As `stream`."""
        chunks: list[AIMessage] = []
        async for chunk in self._model.astream(input, config, **kwargs):
            chunks.append(chunk)
            yield chunk
        if (note := self._note(chunks)) is not None:
            yield note

    def _risk(self, messages: Sequence[BaseMessage]) -> float | None:
        """None for what is no answer in words, or from a model that tells no odds."""
        known = features.of_tokens(messages) | {"news": self._news}
        if not self._by.knows(known) or any(isinstance(one, AIMessage) and one.tool_calls for one in messages):
            return None
        return self._by.chance(known)

    def _note(self, chunks: Sequence[AIMessage]) -> AIMessageChunk | None:
        """What there is to say of the answer that the chunks are."""
        risk = self._risk(chunks)
        if risk is None:
            return None
        text = f"\n\n{reply_language(self._question).unsure}" if risk > self._unsure_above else ""
        return AIMessageChunk(content=text, id=chunks[-1].id, response_metadata={RISK: risk})

    def _told(self, message: AIMessage) -> AIMessage:
        note = self._note([message])
        if note is None:
            return message
        content = followed_by(message.content, note.text) if note.text else message.content
        metadata = {**message.response_metadata, **note.response_metadata}
        return message.model_copy(update={"content": content, "response_metadata": metadata})
