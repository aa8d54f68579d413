"""Puts an answer together from sentences, markers and citations, with exact offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_qwen.grounding.passages import Passage
from langchain_qwen.grounding.texts import code_blocks, statements
from langchain_qwen.grounding.types import AnswerText, Citation, Unsupported
from langchain_qwen.grounding.verifying import Support


@dataclass(frozen=True, slots=True)
class Evidence:
    """A span of a passage's shown text."""

    passage: Passage
    start: int
    end: int


class Composer:
    """The text of an answer as it comes about.

    Args:
        live: Pass text on at once, every sentence with a marker; else only sentences that are closed as supported,
            and their markers are counted then.

    Attributes:
        text: All text passed on so far; offsets are into it.
        citations: The citations so far.
        unsupported: The sentences that were closed as unsupported.
    """

    def __init__(self, *, live: bool):
        self.text = ""
        self.citations: list[Citation] = []
        self.unsupported: list[Unsupported] = []
        self._live = live
        self._answer = ""
        self._spans: list[tuple[int, int]] = []
        self._closed = 0
        # Live only: how much of the answer is passed on, where its open sentence begins, where the closed ones are.
        self._passed = 0
        self._begun: int | None = None
        self._places: list[tuple[int, int]] = []

    @property
    def statements(self) -> list[str]:
        """The sentences of the answer so far."""
        return [self._answer[start:end] for start, end in self._spans]

    @property
    def open(self) -> list[str]:
        """The sentences that have not been closed."""
        return self.statements[self._closed :]

    def feed(self, piece: str, *, final: bool = False) -> list[AnswerText]:
        """Text of the model's answer; `final` for its end."""
        self._answer += piece
        self._spans = statements(self._answer)
        return self._pass_on(final=final) if self._live else []

    def close(self, evidence: Sequence[Evidence], found: Support, *, supported: bool) -> list[AnswerText | Citation]:
        """Decide on the next sentence."""
        start, end = self._spans[self._closed]
        statement = self._answer[start:end]
        events: list[AnswerText | Citation] = []
        place: tuple[int, int] | None = None
        if self._live:
            place = self._places[self._closed]
            number = self._closed + 1
        elif supported:
            before = self._spans[self._closed - 1][1] if self._closed else 0
            if self.text:
                events.append(self._put(self._answer[before:start]))
            place = len(self.text), len(self.text) + len(statement)
            number = len({citation.number for citation in self.citations}) + 1
            events += [self._put(statement), self._put(_marker(statement, number))]
        self._closed += 1
        if not supported:
            self.unsupported.append(
                Unsupported(
                    text=statement,
                    missing=found.missing,
                    answer_start=place[0] if place else None,
                    answer_end=place[1] if place else None,
                )
            )
        if place is not None:
            cited = [_citation(one, number, place) for one in evidence]
            self.citations += cited
            events += cited
        return events

    def add(self, text: str) -> AnswerText:
        """Text of ours behind the answer; no statement of the model."""
        return self._put(text)

    def _put(self, text: str) -> AnswerText:
        self.text += text
        return AnswerText(text=text)

    def _pass_on(self, *, final: bool) -> list[AnswerText]:
        pieces = []
        for number in range(len(self._places), len(self._spans)):
            start, end = self._spans[number]
            if self._begun is None:
                if self.text:
                    pieces.append(self._put(self._answer[self._passed : start]))
                self._begun, self._passed = len(self.text), start
            if self._passed < end:
                pieces.append(self._put(self._answer[self._passed : end]))
                self._passed = end
            if final or number + 1 < len(self._spans):
                self._places.append((self._begun, len(self.text)))
                pieces.append(self._put(_marker(self._answer[start:end], number + 1)))
                self._begun = None
        return pieces


def _marker(statement: str, number: int) -> str:
    """What stands behind a sentence, or below a block of code, which it would else not close."""
    return f"\n[{number}]" if code_blocks(statement) else f" [{number}]"


def _citation(evidence: Evidence, number: int, place: tuple[int, int]) -> Citation:
    passage = evidence.passage
    start, end = passage.source_span(evidence.start, evidence.end)
    return Citation(
        number=number,
        answer_start=place[0],
        answer_end=place[1],
        document_id=passage.document_id,
        source_start=start,
        source_end=end,
        quote=passage.source_text(evidence.start, evidence.end),
        document_date=passage.date,
        metadata=passage.document.metadata,
    )
