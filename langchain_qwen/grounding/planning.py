"""The way of one question, as a generator of steps: `plan` yields what has to be done and is sent the result."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import date
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_qwen.grounding import features, prompts
from langchain_qwen.grounding.answer import GroundedAnswer
from langchain_qwen.grounding.composing import Composer, Evidence
from langchain_qwen.grounding.conflicts import Candidate, candidates
from langchain_qwen.grounding.gathering import Gathering
from langchain_qwen.grounding.parts import asks_for_several, read_parts
from langchain_qwen.grounding.passages import Passage
from langchain_qwen.grounding.quoting import Quoter
from langchain_qwen.grounding.steps import Ask, Generate, Judge, Meter, NextText, Plan, Settings, Step
from langchain_qwen.grounding.types import AbstainReason, AnswerText, Citation, Conflict, Unsupported
from langchain_qwen.grounding.verifying import Support, declines, support
from langchain_qwen.personas.languages import reply_language
from langchain_qwen.stepping import Emit
from langchain_qwen.yes_or_no import ONE_TOKEN

_SPLIT_TOKENS = 200
_PART_TOKENS = 80
_OTHERWISE_ABOVE = 0.0  # log odds that a sentence gives another answer


def plan(conversation: Sequence[BaseMessage], settings: Settings, as_of: date) -> Plan:
    """All steps from the last question of a conversation to its answer."""
    return _Answering(settings, as_of).run(conversation)


class _Answering:
    """One question on its way."""

    def __init__(self, settings: Settings, as_of: date):
        self._settings = settings
        self._as_of = as_of
        self._meter = Meter()
        self._gathered = Gathering(settings, as_of, self._meter)
        self._question = ""
        self._risk: float | None = None
        self._features: dict[str, float] = {}

    def run(self, conversation: Sequence[BaseMessage]) -> Plan:
        reason = yield from self._gathered.run(conversation)
        self._question = self._gathered.question
        if reason is not None:
            return (yield from self._abstain(reason, self._gathered.looked_at))
        return (yield from self._write(self._gathered.packed))

    def _write(self, passages: list[Passage]) -> Plan:
        """The answer of the plain prompt; all that follows annotates or withholds it."""
        live = self._settings.on_unsupported == "flag"
        quoter = Quoter(passages, self._question)
        self._features = features.of_question(self._question, passages, quoter)
        if live and (yield from self._risks_too_much_early(quoter)):
            return (yield from self._abstain(AbstainReason.NOT_STATED, passages))
        composer = Composer(live=live)
        asked = prompts.answer(passages, self._question, self._as_of, self._gathered.language)
        answer, messages = yield from self._generate(asked, composer)
        self._features |= features.of_answer(self._question, answer, passages, quoter) | features.of_tokens(messages)
        conflicts, risky = yield from self._check(asked, answer, passages, quoter)
        parts, missing = yield from self._parts(asked, answer, passages)
        # Text that was passed on already is not taken back.
        fit = live or not (not answer.strip() or declines(composer.statements[0]) or risky)
        if not fit and not parts:
            return (yield from self._abstain(AbstainReason.NOT_STATED, passages))
        if not parts:  # an answer to the whole in which no part is found was split wrongly
            missing = []
        if fit:
            parts = [(part, one) for part, one in parts if part.rstrip(".。") not in answer]
        else:
            composer = Composer(live=False)
        for part, _ in parts:
            yield from self._emit(composer.feed(f"\n{part}"))
        yield from self._emit(composer.feed("", final=True))
        quoters = [quoter, *(one for _, one in parts)]
        return (yield from self._close(composer, passages, quoters, conflicts, missing))

    def _generate(
        self, asked: list[BaseMessage], composer: Composer
    ) -> Generator[Step, Any, tuple[str, list[BaseMessage]]]:
        options: dict[str, Any] = {"max_tokens": self._settings.max_answer_tokens}
        if self._settings.tells_odds:
            options["logprobs"] = True
        yield Generate(asked, options)
        answer, messages = "", []
        while (chunk := (yield NextText())) is not None:
            self._meter.add(chunk)
            answer += chunk.text
            messages.append(chunk)
            yield from self._emit(composer.feed(chunk.text))
        return answer, messages

    def _risks_too_much_early(self, quoter: Quoter) -> Generator[Step, Any, bool]:
        """Before text is passed on live: whether the passages are too unlikely to state the answer."""
        settings = self._settings
        if settings.abstain_above is None or not settings.tells_odds:
            return False
        glance = settings.calibration.glance
        # Hardly any of these abstains, and asking takes a second.
        if settings.abstain_above == "calibrated" and glance.chance(self._features) <= glance.limit:
            return False
        message = yield from self._ask_one(prompts.stated(quoter.excerpt(), self._question), **ONE_TOKEN)
        self._features["early"] = prompts.log_odds(message)
        self._risk = settings.calibration.early.chance(self._features)
        return settings.too_risky(self._risk, settings.calibration.early)

    def _weigh(self) -> bool:
        """Read the risk off, and say whether it is too much."""
        by = self._settings.calibration.fullest(self._features)
        self._risk = by.chance(self._features)
        return self._settings.too_risky(self._risk, by)

    def _check(
        self, asked: list[BaseMessage], answer: str, passages: Sequence[Passage], quoter: Quoter
    ) -> Generator[Step, Any, tuple[list[Conflict], bool]]:
        """Ask about the answer, most of it behind the passages that have been read.

        Returns:
            What passages say otherwise, and whether the risk is too much.
        """
        settings = self._settings
        found = candidates(self._question, answer, passages, quoter)
        if not settings.tells_odds or not answer.strip():
            return [_conflict(one, None) for one in found], self._weigh()
        reply, *replies = yield Ask(
            [
                (prompts.stated(quoter.excerpt(answer), self._question), prompts.STATED),
                (prompts.confirmed(asked, answer), ONE_TOKEN),
                *((prompts.otherwise(self._question, one.statement, one.text), ONE_TOKEN) for one in found),
            ]
        )
        for message in (reply, *replies):
            self._meter.add(message)
        confirmed, *odds = (prompts.log_odds(message) for message in replies)
        self._features |= features.of_statement(answer, reply) | {"confirmed": confirmed}
        risky = self._weigh()
        said = [_conflict(one, odd) for one, odd in zip(found, odds, strict=True) if odd > _OTHERWISE_ABOVE]
        newest_first = sorted(said, key=lambda one: one.document_date or date.min, reverse=True)
        return newest_first, risky

    def _parts(
        self, asked: list[BaseMessage], answer: str, passages: Sequence[Passage]
    ) -> Generator[Step, Any, tuple[list[tuple[str, Quoter]], list[str]]]:
        """The single facts that were asked for and are found, beside the answer to the whole; and the others."""
        if not self._settings.tells_odds or not answer.strip() or not asks_for_several(self._question):
            return [], []
        grammar = {"type": "grammar", "grammar": prompts.split_grammar()}
        listed = yield from self._ask_one(
            prompts.split(self._question), max_tokens=_SPLIT_TOKENS, response_format=grammar
        )
        questions = read_parts(listed.text)
        messages = yield Ask(
            [(prompts.part(asked, answer, question), {"max_tokens": _PART_TOKENS}) for question in questions]
        )
        found: list[tuple[str, Quoter]] = []
        missing: list[str] = []
        for question, message in zip(questions, messages, strict=True):
            self._meter.add(message)
            quoter = Quoter(passages, question)
            said = message.text.strip()
            known = features.of_question(question, passages, quoter)
            known |= features.of_answer(question, said, passages, quoter)
            by = self._settings.calibration.words
            if not said or declines(said) or self._settings.too_risky(by.chance(known), by):
                missing.append(question)
            else:
                found.append((said, quoter))
        return found, missing

    def _close(
        self,
        composer: Composer,
        passages: Sequence[Passage],
        quoters: Sequence[Quoter],
        conflicts: Sequence[Conflict],
        missing: Sequence[str],
    ) -> Plan:
        """Give each sentence its quotes, and decide on it."""
        mode = self._settings.on_unsupported
        held: list[AnswerText | Citation] = []
        while composer.open:
            statement = composer.open[0]
            quotes = max((one.quotes(statement) for one in quoters), key=len)
            evidence = [Evidence(passages[quote.passage], quote.start, quote.end) for quote in quotes]
            found, supported = yield from self._support(statement, evidence)
            events = composer.close(evidence, found, supported=supported)
            if mode == "abstain":
                held += events
            else:
                yield from self._emit(events)
        if not composer.text or (mode == "abstain" and composer.unsupported):
            return (yield from self._abstain(AbstainReason.UNSUPPORTED, passages, composer.unsupported))
        for question in missing:
            held.append(composer.add(f" {self._missing_text(question)}"))
        yield from self._emit(held)
        dates = [citation.document_date for citation in composer.citations if citation.document_date]
        return GroundedAnswer(
            text=composer.text,
            citations=tuple(composer.citations),
            unsupported=tuple(composer.unsupported),
            conflicts=tuple(conflicts),
            missing=tuple(missing),
            evidence_date=max(dates, default=None),
            **self._circumstances(),
        )

    def _support(self, statement: str, evidence: Sequence[Evidence]) -> Generator[Step, Any, tuple[Support, bool]]:
        """What the cited passages hold of a sentence, and whether that is enough."""
        cited = "\n".join(dict.fromkeys(_evidence(one.passage) for one in evidence))
        found = support(statement, cited, self._question)
        supported = bool(evidence) and not found.missing and found.coverage >= self._settings.min_coverage
        if supported and self._settings.judged:
            supported = yield Judge((self._question, statement, cited))
        return found, supported

    def _ask_one(self, prompt: list[BaseMessage], max_tokens: int, **options: Any) -> Generator[Step, Any, AIMessage]:
        (message,) = yield Ask([(prompt, {"max_tokens": max_tokens, **options})])
        self._meter.add(message)
        return message  # type: ignore[no-any-return]

    def _emit(self, events: Sequence[AnswerText | Citation]) -> Generator[Step, Any, None]:
        for event in events:
            self._meter.text()
            yield Emit(event)

    def _abstain(self, reason: AbstainReason, best: Sequence[Passage], unsupported: Sequence[Unsupported] = ()) -> Plan:
        text = self._settings.abstain_text
        if text is None:
            text = reply_language(self._question).unanswered
        yield from self._emit([AnswerText(text=text)])
        nearest = max(best, key=self._nearness).nearest() if best else None
        dropped = tuple(one.model_copy(update={"answer_start": None, "answer_end": None}) for one in unsupported)
        return GroundedAnswer(
            text=text,
            abstained=reason,
            nearest=nearest,
            unsupported=dropped,
            hint=self._gathered.hint,
            **self._circumstances(),
        )

    def _missing_text(self, question: str) -> str:
        """Says that a part of the question was not found."""
        text = self._settings.missing_text
        if text is None:
            return f"{reply_language(question).unanswered.rstrip('.。।۔')}: {question}"
        return text.replace("{question}", question)

    def _nearness(self, passage: Passage) -> float:
        return Quoter([passage], self._question).nearest()

    def _circumstances(self) -> dict[str, Any]:
        return {
            "question": self._question,
            "as_of": self._as_of,
            "risk": self._risk,
            "suspicious": tuple(found for passage in self._gathered.read for found in passage.suspicious),
            "left_out": tuple(self._gathered.left_out),
            "figures": self._meter.total(),
        }


def _conflict(one: Candidate, odds: float | None) -> Conflict:
    start, end = one.passage.source_span(one.start, one.end)
    return Conflict(
        statement=one.statement,
        document_id=one.passage.document_id,
        source_start=start,
        source_end=end,
        quote=one.passage.source_text(one.start, one.end),
        document_date=one.passage.date,
        odds=odds,
    )


def _evidence(passage: Passage) -> str:
    """What a passage says, its title and date included; text that was withheld is none."""
    return f"{passage.heading}{passage.text}"
