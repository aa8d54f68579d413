"""Quotes that cannot be invented: a grammar that allows only text of the passages, and its reader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from langchain_qwen.grounding.passages import Passage

NO_QUOTE = "none"
_ITEM = regex.compile(rf'(?P<line>\n)|\d+\. |{NO_QUOTE}| |"(?P<quote>[^"]*)" \[(?P<passage>\d+)\]')


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote as the model gave it: `passages[passage].shown.text[start:end]`."""

    statement: int
    passage: int
    start: int
    end: int


def quote_grammar(passages: Sequence[Passage], statements: int) -> str:
    """For each statement a line: one or two quotes with the numbers of their passages, or "none".

    Where there are several statements, a line begins with the statement's number.

    A quote is a run of whole sentences of its passage (long ones may be cut between clauses). It holds no straight
    quotation mark, so its end is never in doubt.
    """
    quotable = [(number, _runs(passage)) for number, passage in enumerate(passages, 1)]
    quotable = [(number, runs) for number, runs in quotable if runs]
    lines = [f'"{number}. " support' for number in range(1, statements + 1)] if statements > 1 else ["support"]
    rules = [f"start: {' BREAK '.join(lines)}", 'BREAK: "\\n"']
    if not quotable:
        return "\n".join([*rules, f'support: "{NO_QUOTE}"'])
    rules.append(f'support: "{NO_QUOTE}" | quote (" " quote)?')
    choices = []
    for number, runs in quotable:
        names = []
        for place, run in enumerate(runs):
            names.append(f"Q{number}_{place}")
            rules.append(f"R{number}_{place}: %regex {json.dumps({'substring_chunks': run}, ensure_ascii=False)}")
            rules.append(rf"Q{number}_{place}: R{number}_{place} & /\S(?s:.*)/ & /(?s:.*)\S/")
        choices.append(f'"\\"" ({" | ".join(names)}) "\\" [{number}]"')
    return "\n".join([*rules, f"quote: {' | '.join(choices)}"])


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
                done.append(self._locate(int(match.group("passage")) - 1, match.group("quote")))
        return done

    def finish(self) -> list[int]:
        """The last statement, whose end no line break marks."""
        return [self._statement]

    def _locate(self, passage: int, quote: str) -> Quote:
        for first, last in _run_spans(self._passages[passage]):
            start = self._passages[passage].shown.text.find(quote, first, last)
            if start >= 0:
                return Quote(self._statement, passage, start, start + len(quote))
        raise AssertionError(f"the grammar let a quote through that passage {passage + 1} does not hold: {quote!r}")


def _run_spans(passage: Passage) -> list[tuple[int, int]]:
    """Spans of neighbouring units, between text that must not be quoted."""
    spans: list[tuple[int, int]] = []
    for start, end in passage.units:
        if spans and not passage.shown.text[spans[-1][1] : start].strip():
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _runs(passage: Passage) -> list[list[str]]:
    """For each run its units and what is between them, all together its exact text."""
    runs = []
    for first, last in _run_spans(passage):
        pieces, end = [], first
        for unit_start, unit_end in passage.units:
            if first <= unit_start and unit_end <= last:
                if end < unit_start:
                    pieces.append(passage.shown.text[end:unit_start])
                pieces.append(passage.shown.text[unit_start:unit_end])
                end = unit_end
        runs.append(pieces)
    return runs
