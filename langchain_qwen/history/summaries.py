"""Blocks of summary, made by a model and remembered by what they summarize."""

from __future__ import annotations

import hashlib
import re
from collections.abc import MutableMapping
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_qwen.capabilities import bound_arguments
from langchain_qwen.history.counting import PromptCounter, key_of
from langchain_qwen.history.replay import SummaryFailure, SummaryRequest

# A small model asked to "summarize" tells what was spoken about and leaves out the facts, see benchmarks/RESULTS.md.
INSTRUCTION = (
    "Write down what you should remember from our conversation, in the language we speak: first every fact that I told "
    "about myself and others, with its name, number, date or place as it was said, then decisions, wishes and open "
    "questions. Short plain sentences, the most specific facts first, {words} words at most, and nothing else."
)

_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？।؟]|\n")


class Summaries:
    """Answers requests for summaries.

    The prompt is the conversation as it was sent, with the instruction behind it: a model that keeps a prefix cache has
    read nearly all of it. A summary that is too long ends with its last whole sentence that fits.

    Args:
        model: The chat model that writes them.
        counter: Counts them.
        max_tokens: The most tokens of one, without the words that introduce it.
        store: Keeps texts by the hash of what they summarize: the same history gets the same summary. A
            `shelve.open(path)` keeps them over restarts.
        instruction: What the model is told; `{words}` is replaced.
    """

    def __init__(
        self,
        model: Runnable[Any, BaseMessage],
        counter: PromptCounter,
        *,
        max_tokens: int,
        store: MutableMapping[str, str],
        instruction: str = INSTRUCTION,
    ):
        self._model = model
        self._counter = counter
        self._max_tokens = max_tokens
        self._store = store
        self._instruction = instruction.replace("{words}", str(max_tokens // 2))
        self._failed: dict[str, SummaryFailure] = {}

    def make(self, request: SummaryRequest, config: RunnableConfig) -> str | SummaryFailure:
        """The summary, or why there is none. A failure is remembered too, so that the cut does not change."""
        name = self._name(request)
        if (known := self._known(name)) is not None:
            return known
        try:
            text = self._model.invoke(self._prompt(request), config, **self._options()).text
        except Exception as error:  # noqa: BLE001  any model, any error: the report says which
            return self._fail(name, error)
        return self._keep(name, text)

    async def amake(self, request: SummaryRequest, config: RunnableConfig) -> str | SummaryFailure:
        """As `make`."""
        name = self._name(request)
        if (known := self._known(name)) is not None:
            return known
        try:
            text = (await self._model.ainvoke(self._prompt(request), config, **self._options())).text
        except Exception as error:  # noqa: BLE001
            return self._fail(name, error)
        return self._keep(name, text)

    def _prompt(self, request: SummaryRequest) -> list[BaseMessage]:
        return [*request.messages, HumanMessage(self._instruction)]

    def _options(self) -> dict[str, Any]:
        tools = {"tool_choice": "none"} if bound_arguments(self._model).get("tools") else {}
        return {"max_tokens": self._max_tokens, **tools}

    def _name(self, request: SummaryRequest) -> str:
        said = (self._instruction, self._max_tokens, request.fold, *map(key_of, request.messages))
        return hashlib.blake2b(repr(said).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def _known(self, name: str) -> str | SummaryFailure | None:
        return self._store.get(name) or self._failed.get(name)

    def _fail(self, name: str, error: Exception) -> SummaryFailure:
        self._failed[name] = SummaryFailure(f"{type(error).__name__}: {error}")
        return self._failed[name]

    def _keep(self, name: str, text: str) -> str | SummaryFailure:
        bounded = self._bounded(text.strip())
        if not bounded:
            return self._fail(name, ValueError("the model's summary is empty, or has no sentence that fits"))
        self._store[name] = bounded
        return bounded

    def _bounded(self, text: str) -> str:
        ends = [len(text), *reversed([match.end() for match in _SENTENCE_END.finditer(text)])]
        fitting = (end for end in ends if self._counter.segment([SystemMessage(text[:end])]) <= self._max_tokens)
        return text[: next(fitting, 0)].strip()
