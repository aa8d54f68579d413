"""Which sentences of the passages a statement is taken from, found by its words: a quote is always verbatim."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from langchain_qwen.grounding.passages import Passage
from langchain_qwen.grounding.verifying import content_words, known_among, numbers

_MOST_TOGETHER = 3  # quotes that complete each other for one statement
_NEAR = 0.15  # shares of a statement's words that differ by less are taken for equal
_EXCERPT = 160  # tokens, roughly, of an excerpt
_EARLY_EXCERPT = 70  # of one that is read before there is any text of an answer
_OF_QUESTION = 0.25  # what a word counts that the question brought, beside one that the answer did


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote: `passages[passage].shown.text[start:end]`."""

    passage: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence of a passage, and which words and numbers of the statement and of the question it holds."""

    quote: Quote
    said: frozenset[str]
    asked: frozenset[str]


class Quoter:
    """Finds quotes in passages.

    Args:
        passages: As the model was shown them.
        question: What was asked.
    """

    def __init__(self, passages: Sequence[Passage], question: str):
        self._passages = passages
        self._question = _terms(question)
        self._units: list[tuple[Quote, frozenset[str]]] = []
        for number, passage in enumerate(passages):
            # Title and date belong to each sentence: "He was born in Ulm" under the title "Albert Einstein".
            heading = _terms(passage.heading)
            for start, end in passage.units:
                terms = _terms(passage.shown.text[start:end]) | heading
                self._units.append((Quote(number, start, end), terms))

    def excerpt(self, statement: str = "") -> str:
        """What the passages say nearest to a statement and to the question: sentences with their neighbors.

        Without a statement it is what is nearest to the question alone.
        """
        asked = sorted(range(len(self._units)), key=lambda place: -self._share(self._units[place][1]))
        quoted = self.quotes(statement) if statement else []
        places = [place for place, (quote, _) in enumerate(self._units) if quote in quoted[:_MOST_TOGETHER]]
        # The neighbors of one before anything of the next, as long as there is room.
        shown: set[int] = set()
        room = _EXCERPT if statement else _EARLY_EXCERPT
        for place in [*places, *asked[: 1 if places else _MOST_TOGETHER]]:
            for near in (place, place - 1, place + 1):
                if near not in shown and 0 <= near < len(self._units) and self._together(place, near):
                    size = _tokens(self._text(near))
                    if size <= room or not shown:
                        shown.add(near)
                        room -= size
        text, last = "", -2
        for place in sorted(shown):
            quote = self._units[place][0]
            heading = self._passages[quote.passage].heading
            new = last < 0 or self._units[last][0].passage != quote.passage
            between = " " if place == last + 1 and not new else " ... " if text else ""
            text += f"{between}{heading if new else ''}{self._text(place)}"
            last = place
        return text

    def _together(self, one: int, other: int) -> bool:
        return self._units[one][0].passage == self._units[other][0].passage

    def _text(self, place: int) -> str:
        quote = self._units[place][0]
        return self._passages[quote.passage].shown.text[quote.start : quote.end]

    def nearest(self) -> float:
        """The largest share of the question's words that one sentence holds."""
        return max((self._share(terms) for _, terms in self._units), default=0.0)

    def nearest_of(self, passage: int) -> tuple[Quote, float] | None:
        """The sentence of a passage that holds most of the question's words, and their share; None for no sentence."""
        shares = [(quote, self._share(terms)) for quote, terms in self._units if quote.passage == passage]
        return max(shares, key=lambda one: one[1], default=None)

    def share_alone(self, quotes: Sequence[Quote]) -> float:
        """The share of the question's words that some sentences hold together."""
        return self._share({term for quote, terms in self._units if quote in quotes for term in terms})

    def share_asked(self, quotes: Sequence[Quote]) -> float:
        """The share of the question's words that some sentences, with those beside them, hold together."""
        near: set[str] = set()
        for place, (quote, _) in enumerate(self._units):
            if quote in quotes:
                for other, terms in self._units[max(0, place - 1) : place + 2]:
                    if other.passage == quote.passage:
                        near |= terms
        return self._share(near)

    def _share(self, terms: Collection[str]) -> float:
        return len(known_among(self._question, terms)) / len(self._question) if self._question else 1.0

    def quotes(self, statement: str) -> list[Quote]:
        """The quotes for a statement, the best first; none where no sentence shares a word with it.

        The sentence that holds most of the statement comes first; then those that add to it what it lacks; then, of
        each other passage, one that holds as much of what the answer says as the first one.
        """
        said = _terms(statement) - self._question
        # "Yes" says nothing of its own: then what is nearest to the question is quoted.
        asked = _terms(statement) & self._question or (frozenset() if said else self._question)
        units = [
            _Unit(quote, frozenset(known_among(said, terms)), frozenset(known_among(self._question, terms)))
            for quote, terms in self._units
        ]
        units = [one for one in units if one.said or (one.asked & asked and not said)]
        if not units:
            return []

        def gain(unit: _Unit, have: frozenset[str]) -> float:
            return len(unit.said - have) + _OF_QUESTION * len(unit.asked)

        best = max(units, key=lambda one: gain(one, frozenset()))
        chosen, have = [best], best.said
        while len(chosen) < _MOST_TOGETHER and have < said:
            further = max(units, key=lambda one: (len(one.said - have), len(one.asked)))
            # A number or two words more are worth a quote of their own; one common word is not.
            new = further.said - have
            if not any(map(_is_number, new)) and len(new) < 2:
                break
            chosen.append(further)
            have |= further.said
        cited = {one.quote.passage for one in chosen}
        key = {term for term in best.said if _is_number(term)} or best.said
        for passage in dict.fromkeys(one.quote.passage for one in units):
            if passage in cited:
                continue
            near = max((one for one in units if one.quote.passage == passage), key=lambda one: gain(one, frozenset()))
            as_much = key <= near.said and len(near.said) >= (1 - _NEAR) * len(best.said)
            if as_much and len(near.asked) >= len(best.asked) / 2:
                chosen.append(near)
        return [one.quote for one in chosen]


def _tokens(text: str) -> int:
    """About as many tokens as a text has: one for four letters, or for one character of scripts without spaces."""
    return sum(1 if ord(character) > 0x2E7F else 0 for character in text) + len(text.encode()) // 4


def _terms(text: str) -> frozenset[str]:
    return frozenset(content_words(text)) | numbers(text)


def _is_number(term: str) -> bool:
    return term[:1].isdigit()
