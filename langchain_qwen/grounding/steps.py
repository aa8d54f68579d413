"""The way of one question, as a generator of steps that know nothing of sync or async.

`plan` yields what has to be done (retrieve, ask the model, pass an event on) and is sent the result; whoever runs it
does the work, see `answering.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage

from langchain_qwen.grounding import prompts
from langchain_qwen.grounding.composing import Composer, Evidence
from langchain_qwen.grounding.cutoff import named_years
from langchain_qwen.grounding.passages import Passage, pack, read_passages, without_duplicates
from langchain_qwen.grounding.quoting import Quote, QuoteReader, quote_grammar
from langchain_qwen.grounding.types import (
    AbstainReason,
    AnswerText,
    Citation,
    Figures,
    GroundedAnswer,
    LeftOut,
    Unsupported,
)
from langchain_qwen.grounding.verifying import Support, support, years

_STANDALONE_TOKENS = 100
# Room that the quotes take in the window, beside the answer and its repetition sentence by sentence.
_QUOTE_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Settings:
    """What `GroundedAnswerer` was told, see there."""

    answerable_above: float | None
    max_passages: int
    max_prompt_tokens: int
    max_answer_tokens: int
    on_unsupported: Literal["drop", "flag", "abstain"]
    min_coverage: float
    judged: bool
    knowledge_cutoff: date
    date_key: str
    withhold: bool
    abstain_text: str
    count: Callable[[list[BaseMessage]], int]
    window: int | None

    def fits(self, question: str, as_of: date) -> Callable[[Sequence[Passage]], bool]:
        """Whether the prompt with some passages leaves the room that answer and quotes need."""
        room = self.max_prompt_tokens
        if self.window is not None:
            room = min(room, self.window - 3 * self.max_answer_tokens - _QUOTE_TOKENS)
        return lambda passages: self.count(prompts.answer(passages, question, as_of)) <= room


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Get documents; the result is a list of them."""

    query: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask several things at once; the result is a list of messages."""

    prompts: list[list[BaseMessage]]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Generate:
    """Begin a streamed answer; `NextText` gets its chunks."""

    prompt: list[BaseMessage]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NextText:
    """The next chunk of the answer begun last; None at its end."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Call the judge with question, sentence and evidence; the result is whether it supports the sentence."""

    arguments: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Emit:
    """Pass something on to the caller."""

    event: AnswerText | Citation


Step = Retrieve | Ask | Generate | NextText | Judge | Emit
Plan = Generator[Step, Any, GroundedAnswer]


@dataclass(slots=True)
class _Meter:
    """Adds up the figures of an answer."""

    started: float = field(default_factory=time.monotonic)
    figures: Figures = field(default_factory=Figures)

    def add(self, message: BaseMessage) -> None:
        usage = getattr(message, "usage_metadata", None)
        if usage:
            done = self.figures
            self._set(
                input_tokens=done.input_tokens + usage["input_tokens"],
                cached_tokens=done.cached_tokens + usage.get("input_token_details", {}).get("cache_read", 0),
                output_tokens=done.output_tokens + usage["output_tokens"],
            )

    def retrieved(self) -> None:
        self._set(retrieval_s=self._passed())

    def text(self) -> None:
        if self.figures.first_text_s is None:
            self._set(first_text_s=self._passed())

    def total(self) -> Figures:
        self._set(total_s=self._passed())
        return self.figures

    def _set(self, **values: Any) -> None:
        self.figures = self.figures.model_copy(update=values)

    def _passed(self) -> float:
        return time.monotonic() - self.started


def plan(conversation: Sequence[BaseMessage], settings: Settings, as_of: date) -> Plan:
    """All steps from the last question of a conversation to its answer."""
    return _Answering(settings, as_of).run(conversation)


class _Answering:
    """One question on its way."""

    def __init__(self, settings: Settings, as_of: date):
        self._settings = settings
        self._as_of = as_of
        self._meter = _Meter()
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
        self._read, self._left_out = without_duplicates(
            read_passages(documents, date_key=self._settings.date_key, withhold=self._settings.withhold)
        )
        passages = self._read[: self._settings.max_passages]
        if not passages:
            return (yield from self._abstain(AbstainReason.NOTHING_RETRIEVED, []))
        undated = self._undated(passages)
        if undated is not None:
            return (yield from self._abstain(undated, passages))
        passages, best = yield from self._answering(passages)
        if not passages:
            return (yield from self._abstain(AbstainReason.NOT_STATED, best))
        packed, left_out = pack(passages, self._settings.fits(self._question, self._as_of))
        self._left_out += left_out
        if not packed:
            return (yield from self._abstain(AbstainReason.NOTHING_RETRIEVED, best))
        return (yield from self._write(packed, best))

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

    def _answering(self, passages: list[Passage]) -> Generator[Step, Any, tuple[list[Passage], list[Passage]]]:
        """The passages that state the answer, and all, both best first."""
        threshold = self._settings.answerable_above
        if threshold is None:
            return passages, passages
        asked = [prompts.gate(passage, self._question, self._as_of) for passage in (None, *passages)]
        messages = yield Ask(asked, dict(prompts.ONE_TOKEN))
        for message in messages:
            self._meter.add(message)
        empty, *odds = map(prompts.log_odds, messages)
        scores = [odd - empty for odd in odds]
        order = sorted(range(len(passages)), key=lambda i: -scores[i])
        self._answerability = scores[order[0]]
        return [passages[i] for i in order if scores[i] >= threshold], [passages[i] for i in order]

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
        if not statements:
            return (yield from self._abstain(AbstainReason.NOT_STATED, best))
        held: list[AnswerText | Citation] = []
        gathered: list[Evidence] = []
        reader = QuoteReader(passages)
        grammar = quote_grammar(passages, len(statements))
        options: dict[str, Any] = {
            "max_tokens": _QUOTE_TOKENS,
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
