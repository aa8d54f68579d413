"""From a conversation to its question and the passages that are shown for it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import date
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage

from langchain_qwen.grounding import prompts
from langchain_qwen.grounding.cutoff import named_years
from langchain_qwen.grounding.passages import (
    Passage,
    cut_down,
    documents_of,
    pack,
    read_passages,
    without_duplicates,
)
from langchain_qwen.grounding.retrieving import reciprocal_rank
from langchain_qwen.grounding.steps import Ask, Meter, Retrieve, Settings, Step
from langchain_qwen.grounding.types import AbstainReason, LeftOut
from langchain_qwen.grounding.verifying import years

_QUESTION_TOKENS = 100
_DOCUMENTS = 20  # so many are read for each passage that may be looked at: others may be empty or duplicates


class Gathering:
    """What is gathered for one question.

    Attributes:
        question: To be understood alone.
        read: All passages that were read.
        looked_at: Those of them that may be shown.
        language: What `prompts.asked_language` says of these.
        packed: Those that are shown.
        left_out: What was retrieved and is not shown.
        hint: What would help, if something stands in the way.
    """

    def __init__(self, settings: Settings, as_of: date, meter: Meter):
        self._settings = settings
        self._as_of = as_of
        self._meter = meter
        self.question = ""
        self.read: list[Passage] = []
        self.looked_at: list[Passage] = []
        self.language = ""
        self.packed: list[Passage] = []
        self.left_out: list[LeftOut] = []
        self.hint: str | None = None

    def run(self, conversation: Sequence[BaseMessage]) -> Generator[Step, Any, AbstainReason | None]:
        """Gather it; the result is why nothing can be answered, if so."""
        self.question = conversation[-1].text
        if any(message.type != "system" for message in conversation[:-1]):
            self.question = (yield from self._ask(prompts.standalone(conversation))) or conversation[-1].text
        documents = yield from self._retrieve()
        self._meter.retrieved()
        self.read, self.left_out = self._passages(documents)
        most = self._settings.max_passages
        self.looked_at = self.read[:most]
        self.left_out += [passage.left_out("too many") for passage in self.read[most:]]
        if not self.looked_at:
            return AbstainReason.NOTHING_RETRIEVED
        if self._is_later():
            return AbstainReason.NO_DATED_EVIDENCE
        # Told once: telling it for each passage that is tried takes longer than counting.
        self.language = prompts.asked_language(self.looked_at, self.question)
        self.packed, left_out = pack(self.looked_at, self._settings.fits(self.question, self._as_of, self.language))
        self.left_out += left_out
        return None if self.packed else AbstainReason.NOTHING_RETRIEVED

    def _retrieve(self) -> Generator[Step, Any, Sequence[Document]]:
        """Documents for the question, and for its translation where words alone would find little."""
        across = self._settings.across(self.question)
        if across is None or not self._settings.translate:
            self.hint = across.hint if across else None
            return documents_of((yield Retrieve(self.question)))
        original = self.question
        self.question = (yield from self._ask(prompts.translation(original, across.documents))) or original
        translated = yield Retrieve(self.question)
        return reciprocal_rank([translated, (yield Retrieve(original))])

    def _ask(self, prompt: list[BaseMessage]) -> Generator[Step, Any, str]:
        """A question in other words; empty where it was cut off, for half a question asks for something else."""
        (message,) = yield Ask([(prompt, {"max_tokens": _QUESTION_TOKENS})])
        self._meter.add(message)
        whole = message.response_metadata.get("finish_reason") != "length"
        return message.text.strip() if whole else ""

    def _passages(self, documents: Sequence[Document]) -> tuple[list[Passage], list[LeftOut]]:
        """What is read of the documents: no more of them than could be looked at, and of long ones the nearest."""
        settings = self._settings
        looked_at = documents[: _DOCUMENTS * settings.max_passages]
        looked_at, unread = cut_down(
            looked_at, self.question, most_tokens=settings.max_prompt_tokens, count=settings.count_text
        )
        read = read_passages(looked_at, date_key=settings.date_key, withhold=settings.withhold)
        passages, left_out = without_duplicates(read)
        return passages, [*unread, *left_out]

    def _is_later(self) -> bool:
        """Whether the question names a year that the model cannot know and that no passage can speak of."""
        known = years("\n".join(f"{passage.heading}{passage.text}" for passage in self.looked_at))
        absent = [int(year) for year in named_years(self.question, self._as_of) if year not in known]
        newest = max((passage.date.year for passage in self.looked_at if passage.date), default=0)
        return bool(absent) and max(absent) > max(newest, self._settings.knowledge_cutoff.year)
