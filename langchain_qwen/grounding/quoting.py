"""Quotes that cannot be invented: a grammar that allows only text of the passages, and its reader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from langchain_qwen.grounding.passages import Passage
from langchain_qwen.grounding.verifying import support

NO_QUOTE = "none"
_NEAR = 0.15  # shares of a statement's words that differ by less are taken for equal
_ITEM = regex.compile(rf'(?P<line>\n)|\d+\. |{NO_QUOTE}| |"(?P<quote>[^"]*)" \[(?P<passage>\d+)\]')


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote as the model gave it: `passages[passage].shown.text[start:end]`."""

    statement: int
    passage: int
    start: int
    end: int


def quote_grammar(passages: Sequence[Passage], statements: Sequence[str], question: str = "") -> str:
    """For each statement a line: one or two quotes with the numbers of their passages, or "none".

    Where there are several statements, a line begins with the statement's number. Of the sentences of the passages,
    those are offered that share most with the statement: a small model copies a neighbour as readily.

    A quote is a sentence of its passage, or two that follow each other (long ones are cut between clauses). It holds no
    straight quotation mark, so its end is never in doubt. One rule for each sentence says which may follow it:
    llguidance's `substring_chunks` says as much for runs of any length, at three times the cost of a token, and gives
    up on longer passages as soon as a run may not begin or end with white space ("too many expressions").
    """
    lines = [f"support_{place}" for place in range(len(statements))]
    if len(statements) > 1:
        lines = [f'"{number}. " {line}' for number, line in enumerate(lines, 1)]
    rules = [f"start: {' BREAK '.join(lines)}", 'BREAK: "\\n"']
    units = [unit for number, passage in enumerate(passages, 1) for unit in _units(number, passage)]
    rules += [f"from_{place}: {_literal(one.text)}{one.rule_of_next()}" for place, one in enumerate(units)]
    for line, statement in enumerate(statements):
        choices = []
        offered = _offered(statement, question, units)
        for number in dict.fromkeys(units[place].passage for place in offered):
            starts = " | ".join(f"from_{place}" for place in offered if units[place].passage == number)
            choices.append(f'"\\"" ({starts}) "\\" [{number}]"')
        rules.append(f"quote_{line}: {' | '.join(choices)}" if choices else "")
        rules.append(f'support_{line}: "{NO_QUOTE}"' + (f' | quote_{line} (" " quote_{line})?' if choices else ""))
    return "\n".join(filter(None, rules))


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence that may be quoted.

    Attributes:
        passage: The number of its passage, from 1.
        text: Its text.
        next: The white space and the sentence that follow it, where it may be quoted together with that.
    """

    passage: int
    text: str
    next: str

    def rule_of_next(self) -> str:
        """How a grammar says that the next one may follow."""
        return f" ({_literal(self.next)})?" if self.next else ""


def _offered(statement: str, question: str, units: Sequence[_Unit]) -> list[int]:
    """Which units a statement may be given, by their places: of those that lack fewest of its numbers, the nearest."""
    if not units:
        return []
    lacking = [
        sum(any(map(str.isdigit, fact)) for fact in support(statement, unit.text, question).missing) for unit in units
    ]
    fewest = min(lacking)
    shared = {place: support(statement, units[place].text).coverage for place, n in enumerate(lacking) if n == fewest}
    best = max(shared.values())
    return [place for place, share in shared.items() if share >= best - _NEAR]


class QuoteReader:
    """Reads what the grammar allows while it is generated."""

    def __init__(self, passages: Sequence[Passage]):
        self._passages = passages
        self._text = ""
        self._read = 0
        self._statement = 0

    def feed(self, text: str) -> list[Quote | int]:
        """What a piece completes: quotes, and the number of a statement (from 0) whose quotes are all there."""
        self._text += text
        done: list[Quote | int] = []
        while match := _ITEM.match(self._text, self._read):
            self._read = match.end()
            if match.group("line"):
                done.append(self._statement)
                self._statement += 1
            elif match.group("passage"):
                quote = self._locate(int(match.group("passage")) - 1, match.group("quote"))
                done += [quote] if quote else []
        return done

    def finish(self) -> list[int]:
        """The last statement, whose end no line break marks."""
        return [self._statement]

    def _locate(self, passage: int, quote: str) -> Quote | None:
        """Where it stands; None for one that a filter around the model has edited, which is no quote any more."""
        for first, last in _run_spans(self._passages[passage]):
            start = self._passages[passage].shown.text.find(quote, first, last)
            if start >= 0:
                return Quote(self._statement, passage, start, start + len(quote))
        return None


def _run_spans(passage: Passage) -> list[tuple[int, int]]:
    """Spans of neighbouring units, between text that must not be quoted."""
    spans: list[tuple[int, int]] = []
    for start, end in passage.units:
        if spans and not passage.shown.text[spans[-1][1] : start].strip():
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _units(number: int, passage: Passage) -> list[_Unit]:
    """The sentences of a passage that may be quoted."""
    text, found = passage.shown.text, []
    for first, last in _run_spans(passage):
        units = [(start, end) for start, end in passage.units if first <= start and end <= last]
        ends = [end for _, end in units]
        for (start, end), next_end in zip(units, [*ends[1:], ends[-1]], strict=True):
            found.append(_Unit(number, text[start:end], text[end:next_end]))
    return found


def _literal(text: str) -> str:
    """A text in Lark."""
    return json.dumps(text, ensure_ascii=False)
