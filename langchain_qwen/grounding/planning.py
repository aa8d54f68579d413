"""The way of one question, as a generator of steps: `plan` yields what has to be done and is sent the result."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage

from langchain_qwen.grounding import prompts
from langchain_qwen.grounding.answer import GroundedAnswer
from langchain_qwen.grounding.composing import Composer, Evidence
from langchain_qwen.grounding.cutoff import named_years
from langchain_qwen.grounding.passages import Passage, cut_down, pack, read_passages, without_duplicates
from langchain_qwen.grounding.quoting import Quote, QuoteReader, quote_grammar
from langchain_qwen.grounding.steps import (
    QUOTE_TOKENS,
    Ask,
    Generate,
    Judge,
    Meter,
    NextText,
    Plan,
    Retrieve,
    Settings,
    Step,
)
from langchain_qwen.grounding.types import AbstainReason, AnswerText, Citation, LeftOut, Unsupported
from langchain_qwen.grounding.verifying import Support, declines, support, years
from langchain_qwen.stepping import Emit
from langchain_qwen.yes_or_no import ONE_TOKEN

_STANDALONE_TOKENS = 100
_DOCUMENTS = 20  # so many are read for each passage that may be looked at: others may be empty or duplicates


def plan(conversation: Sequence[BaseMessage], settings: Settings, as_of: date) -> Plan:
    """All steps from the last question of a conversation to its answer."""
    return _Answering(settings, as_of).run(conversation)


class _Answering:
    """One question on its way."""

    def __init__(self, settings: Settings, as_of: date):
        self._settings = settings
        self._as_of = as_of
        self._meter = Meter()
        self._question = ""
        self._read: list[Passage] = []
        self._left_out: list[LeftOut] = []
        self._answerability: float | None = None

    def run(self, conversation: Sequence[BaseMessage]) -> Plan:
        self._question = conversation[-1].text
        if len(conversation) > 1:
            self._question = yield from self._standalone(conversation)
        documents: list[Document] = yield Retrieve(self._question)
        self._meter.retrieved()
        self._read, self._left_out = self._passages(documents)
        passages = self._read[: self._settings.max_passages]
        if not passages:
            return (yield from self._abstain(AbstainReason.NOTHING_RETRIEVED, []))
        undated = self._undated(passages)
        if undated is not None:
            return (yield from self._abstain(undated, passages))
        passages = self._dated(passages)
        passages, best = yield from self._answering(passages)
        if not passages:
            return (yield from self._abstain(AbstainReason.NOT_STATED, best))
        packed, left_out = pack(passages, self._settings.fits(self._question, self._as_of))
        self._left_out += left_out
        if not packed:
            return (yield from self._abstain(AbstainReason.NOTHING_RETRIEVED, best))
        return (yield from self._write(packed, best))

    def _passages(self, documents: Sequence[Document]) -> tuple[list[Passage], list[LeftOut]]:
        """What is read of the documents: no more of them than could be looked at, and of long ones the nearest."""
        settings = self._settings
        looked_at = documents[: _DOCUMENTS * settings.max_passages]
        looked_at, unread = cut_down(
            looked_at, self._question, most_tokens=settings.max_prompt_tokens, count=settings.count_text
        )
        read = read_passages(looked_at, date_key=settings.date_key, withhold=settings.withhold)
        passages, left_out = without_duplicates(read)
        return passages, [*unread, *left_out]

    def _standalone(self, conversation: Sequence[BaseMessage]) -> Generator[Step, Any, str]:
        options = {"max_tokens": _STANDALONE_TOKENS}
        (message,) = yield Ask([prompts.standalone(conversation)], options)
        self._meter.add(message)
        return message.text.strip() or conversation[-1].text

    def _undated(self, passages: Sequence[Passage]) -> AbstainReason | None:
        """Why to abstain where the question names years that no passage speaks of."""
        known = years("\n".join(map(_evidence, passages)))
        absent = [int(year) for year in named_years(self._question, self._as_of) if year not in known]
        if not absent:
            return None
        later = max(absent) > self._settings.knowledge_cutoff.year
        return AbstainReason.NO_DATED_EVIDENCE if later else AbstainReason.NOT_STATED

    def _dated(self, passages: list[Passage]) -> list[Passage]:
        """Where the question names years: the passages that speak of one, since the answer must cite them."""
        asked = set(named_years(self._question, self._as_of))
        return [one for one in passages if asked.intersection(years(_evidence(one)))] if asked else passages

    def _answering(self, passages: list[Passage]) -> Generator[Step, Any, tuple[list[Passage], list[Passage]]]:
        """The passages that state the answer, and all, both best first."""
        threshold = self._settings.answerable_above
        if threshold is None:
            return passages, passages
        asked = [prompts.gate(passage, self._question) for passage in passages]
        messages = yield Ask(asked, ONE_TOKEN)
        for message in messages:
            self._meter.add(message)
        scores = list(map(prompts.log_odds, messages))
        order = sorted(range(len(passages)), key=lambda i: -scores[i])
        # The best of several unfit passages scores higher than one: see "Grounded answers" in benchmarks/RESULTS.md.
        self._answerability = scores[order[0]] - math.log(len(passages)) / 2
        best = [passages[i] for i in order]
        if self._answerability < threshold:
            return [], best
        return [passages[i] for i in order if scores[i] >= threshold], best

    def _write(self, passages: list[Passage], best: list[Passage]) -> Plan:
        """The answer, then its quotes sentence by sentence, each checked as soon as its quotes are there."""
        mode = self._settings.on_unsupported
        composer = Composer(live=mode == "flag")
        asked = prompts.answer(passages, self._question, self._as_of)
        yield Generate(asked, {"max_tokens": self._settings.max_answer_tokens})
        answer = ""
        while (chunk := (yield NextText())) is not None:
            self._meter.add(chunk)
            answer += chunk.text
            yield from self._emit(composer.feed(chunk.text))
        yield from self._emit(composer.feed("", final=True))
        statements = composer.statements
        # Text that was passed on already is not taken back.
        if not statements or (mode != "flag" and declines(statements[0])):
            return (yield from self._abstain(AbstainReason.NOT_STATED, best))
        held: list[AnswerText | Citation] = []
        gathered: list[Evidence] = []
        reader = QuoteReader(passages)
        grammar = quote_grammar(passages, statements, self._question)
        options: dict[str, Any] = {
            "max_tokens": QUOTE_TOKENS,
            "response_format": {"type": "grammar", "grammar": grammar},
        }
        yield Generate(prompts.quotes(asked, answer, statements), options)
        complete = True
        while composer.open:
            chunk = yield NextText()
            if chunk is None:
                items: Sequence[Quote | int] = reader.finish() if complete else [0] * len(composer.open)
            else:
                self._meter.add(chunk)
                complete = complete and chunk.response_metadata.get("finish_reason") != "length"
                items = reader.feed(chunk.text)
            for item in items:
                if isinstance(item, Quote):
                    gathered.append(Evidence(passages[item.passage], item.start, item.end))
                    continue
                found, supported = yield from self._support(composer.open[0], gathered)
                events = composer.close(gathered, found, supported=supported)
                gathered = []
                if mode == "abstain":
                    held += events
                else:
                    yield from self._emit(events)
        if not composer.text or (mode == "abstain" and composer.unsupported):
            reason = AbstainReason.UNSUPPORTED if complete else AbstainReason.CUT_SHORT
            return (yield from self._abstain(reason, best, composer.unsupported))
        yield from self._emit(held)
        return self._result(composer)

    def _support(self, statement: str, evidence: Sequence[Evidence]) -> Generator[Step, Any, tuple[Support, bool]]:
        """What the cited passages hold of a sentence, and whether that is enough."""
        cited = "\n".join(dict.fromkeys(_evidence(one.passage) for one in evidence))
        found = support(statement, cited, self._question)
        absent = [year for year in named_years(self._question, self._as_of) if year not in years(cited)]
        found = replace(found, missing=tuple(dict.fromkeys((*found.missing, *absent))))
        supported = bool(evidence) and not found.missing and found.coverage >= self._settings.min_coverage
        if supported and self._settings.judged:
            supported = yield Judge((self._question, statement, cited))
        return found, supported

    def _emit(self, events: Sequence[AnswerText | Citation]) -> Generator[Step, Any, None]:
        for event in events:
            self._meter.text()
            yield Emit(event)

    def _abstain(self, reason: AbstainReason, best: Sequence[Passage], unsupported: Sequence[Unsupported] = ()) -> Plan:
        text = self._settings.abstain_text
        yield from self._emit([AnswerText(text=text)])
        nearest = best[0].nearest() if best else None
        dropped = tuple(one.model_copy(update={"answer_start": None, "answer_end": None}) for one in unsupported)
        return GroundedAnswer(
            text=text, abstained=reason, nearest=nearest, unsupported=dropped, **self._circumstances()
        )

    def _result(self, composer: Composer) -> GroundedAnswer:
        dates = [citation.document_date for citation in composer.citations if citation.document_date]
        return GroundedAnswer(
            text=composer.text,
            citations=tuple(composer.citations),
            unsupported=tuple(composer.unsupported),
            evidence_date=max(dates, default=None),
            **self._circumstances(),
        )

    def _circumstances(self) -> dict[str, Any]:
        return {
            "question": self._question,
            "as_of": self._as_of,
            "answerability": self._answerability,
            "suspicious": tuple(found for passage in self._read for found in passage.suspicious),
            "left_out": tuple(self._left_out),
            "figures": self._meter.total(),
        }


def _evidence(passage: Passage) -> str:
    """What a passage says, its title and date included; text that was withheld is none."""
    return f"{passage.heading}{passage.text}"
