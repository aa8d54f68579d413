"""Sentences of other passages that seem to give another answer: found by words, for the model to confirm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex

from langchain_qwen.grounding.kinds import Kind, fits, wanted
from langchain_qwen.grounding.passages import Passage
from langchain_qwen.grounding.quoting import Quoter
from langchain_qwen.grounding.texts import statements
from langchain_qwen.grounding.verifying import content_words, known_among, numbers

_MOST = 4
_LEAST_SHARED = 0.5  # of the question's words that the supporting sentence holds
_OF_NUMBERS = (Kind.DATE, Kind.NUMBER, Kind.PERCENT)
# Capitalised words; in Chinese, runs between the characters that join others.
_NAME = regex.compile(r"\p{Lu}[\p{L}\p{M}'’-]+|(?:(?![的是在了和与有为于由被从到把将等这那])\p{Han}){2,}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may contradict a statement: `passage.shown.text[start:end]`."""

    statement: str
    passage: Passage
    start: int
    end: int

    @property
    def text(self) -> str:
        """The sentence."""
        return self.passage.shown.text[self.start : self.end]


def candidates(question: str, answer: str, passages: Sequence[Passage], quoter: Quoter) -> list[Candidate]:
    """Of each passage that does not support the answer, the sentence that speaks of the question but says otherwise.

    It holds at least half of the question's words that the supporting sentence holds, nothing of what the answer adds
    to the question, and something of the kind that the question asks for.

    Args:
        question: What was asked.
        answer: What was answered.
        passages: All that were shown.
        quoter: Over these.
    """
    kind = wanted(question)
    spans = statements(answer)
    if not spans or len(passages) < 2:
        return []
    statement = answer[slice(*spans[0])]
    quotes = quoter.quotes(statement)
    asked = set(content_words(question))
    value = _values(kind, statement, asked)
    if not quotes or not value:
        return []
    needed = max(0.3, _LEAST_SHARED * quoter.share_alone(quotes[:1]))
    found = []
    for number, passage in enumerate(passages):
        if any(quote.passage == number for quote in quotes):
            continue
        best = quoter.nearest_of(number)
        if best is None or best[1] < needed:
            continue
        quote = best[0]
        said = passage.shown.text[quote.start : quote.end]
        other = _values(kind, said, asked)
        if other and not known_among(value, other) and fits(kind, said) is not False:
            found.append(Candidate(statement, passage, quote.start, quote.end))
    return found[:_MOST]


def _values(kind: Kind, text: str, asked: set[str]) -> set[str]:
    """What a text says of a kind beyond the question: its numbers, else its names."""
    if kind in _OF_NUMBERS:
        return numbers(text) - {number for word in asked for number in numbers(word)}
    names = {word for match in _NAME.finditer(text) for word in content_words(match.group())}
    return names - asked
