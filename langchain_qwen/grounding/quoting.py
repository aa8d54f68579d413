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

    A quote is a sentence of its passage, or two that follow each other (long ones are cut between clauses). It holds no
    straight quotation mark, so its end is never in doubt. One rule for each sentence says which may follow it:
    llguidance's `substring_chunks` says as much for runs of any length, at three times the cost of a token, and gives
    up on longer passages as soon as a run may not begin or end with white space ("too many expressions").
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
        starts = []
        for place, run in enumerate(runs):
            for index, (unit, space) in enumerate(run):
                starts.append(f"from_{number}_{place}_{index}")
                on = f" ({_literal(space + run[index + 1][0])})?" if index + 1 < len(run) else ""
                rules.append(f"{starts[-1]}: {_literal(unit)}{on}")
        choices.append(f'"\\"" ({" | ".join(starts)}) "\\" [{number}]"')
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


def _runs(passage: Passage) -> list[list[tuple[str, str]]]:
    """For each run its units, each with the white space behind it."""
    text, runs = passage.shown.text, []
    for first, last in _run_spans(passage):
        units = [(start, end) for start, end in passage.units if first <= start and end <= last]
        following = [start for start, _ in units[1:]] + [last]
        runs.append([(text[start:end], text[end:next_]) for (start, end), next_ in zip(units, following, strict=True)])
    return runs


def _literal(text: str) -> str:
    """A text in Lark."""
    return json.dumps(text, ensure_ascii=False)
