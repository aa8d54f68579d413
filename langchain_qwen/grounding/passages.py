"""From retrieved documents to the passages that the prompt shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from langchain_core.documents import Document

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.grounding.instructions import Instruction, find_instructions
from langchain_qwen.grounding.retrieving import START
from langchain_qwen.grounding.texts import ShownText, quotable_units, show
from langchain_qwen.grounding.types import LeftOut, Nearest, Suspicious

_WITHHELD = "[...]"


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved document as it is shown and quoted.

    Attributes:
        document: As retrieved.
        document_id: Its id.
        shown: Its text for the model.
        date: Its date, where the metadata has one.
        title: Its title, where the metadata has one.
        instructions: What in the shown text speaks to the model.
        units: Spans of the shown text that a quote may be made of.
    """

    document: Document
    document_id: str
    shown: ShownText
    date: date | None
    title: str
    instructions: tuple[Instruction, ...] = ()
    units: tuple[tuple[int, int], ...] = field(default=())

    @property
    def text(self) -> str:
        """The shown text, without instructions that were withheld."""
        text, end = "", 0
        for found in self.instructions:
            if found.withheld:
                text += self.shown.text[end : found.start] + _WITHHELD
                end = found.end
        return text + self.shown.text[end:]

    @property
    def heading(self) -> str:
        """Date and title, as the prompt shows them before the text."""
        parts = [self.date.isoformat() if self.date else "", self.title]
        heading = ", ".join(part for part in parts if part)
        return f"({heading}) " if heading else ""

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """The span in the document, of which the retrieved text may be a chunk, of a span of the shown text."""
        offset = self.document.metadata.get(START, 0)
        first, last = self.shown.source_span(start, end)
        return offset + first, offset + last

    def source_text(self, start: int, end: int) -> str:
        """The text of the source under a span of the shown text."""
        first, last = self.shown.source_span(start, end)
        return self.document.page_content[first:last]

    @property
    def suspicious(self) -> list[Suspicious]:
        """What a reader should know of the text."""
        found = []
        for one in self.instructions:
            start, end = self.source_span(one.start, one.end)
            text = self.source_text(one.start, one.end)
            found.append(
                Suspicious(document_id=self.document_id, source_start=start, source_end=end, text=text, kind=one.kind)
            )
        if self.shown.hidden and self.shown.text:
            start, end = self.source_span(0, len(self.shown.text))
            text = f"{self.shown.hidden} invisible characters"
            found.append(
                Suspicious(
                    document_id=self.document_id, source_start=start, source_end=end, text=text, kind="invisible"
                )
            )
        return found

    def nearest(self) -> Nearest:
        """As the passage that came nearest to an answer."""
        start, end = self.source_span(0, len(self.shown.text))
        text = self.source_text(0, len(self.shown.text))
        return Nearest(document_id=self.document_id, source_start=start, source_end=end, text=text)

    def left_out(self, reason: str) -> LeftOut:
        """As a passage that was not shown."""
        start, end = self.source_span(0, len(self.shown.text)) if self.shown.text else (0, 0)
        return LeftOut(document_id=self.document_id, source_start=start, source_end=end, reason=reason)


def read_passages(documents: Sequence[Document], *, date_key: str = "date", withhold: bool = True) -> list[Passage]:
    """Make passages of documents, without those that hold no visible text.

    Args:
        documents: Best first.
        date_key: Where the metadata has the document's date (a date, or text in ISO format).
        withhold: Keep text that gives the model orders out of the prompt; else it is reported only.
    """
    passages = []
    for number, document in enumerate(documents, 1):
        shown = show(document.page_content)
        if not shown.text:
            continue
        found = tuple(find_instructions(shown.text, withhold=withhold))
        units = tuple(
            unit
            for unit in quotable_units(shown.text)
            if not any(one.start < unit[1] and unit[0] < one.end for one in found)
        )
        title = show(str(document.metadata.get("title") or "")).text.replace("\n", " ")
        if any(find_instructions(title)):
            title = ""
        day = read_date(document.metadata.get(date_key))
        passages.append(Passage(document, document.id or str(number), shown, day, title, found, units))
    return passages


def read_date(value: Any) -> date | None:
    """A date of metadata; None for none, the first day for a year or a month.

    Raises:
        InvalidParameterError: For something else.
    """
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    match = re.fullmatch(r"(\d{4})(?:-(\d{2})(?:-(\d{2}).*)?)?", str(value).strip(), re.DOTALL)
    if match:
        year, month, day = (int(part or 1) for part in match.groups())
        try:
            return date(year, month, day)
        except ValueError:
            pass  # as for other text
    raise InvalidParameterError(
        f"a document's date is {value!r}; give a date, or text such as '2024-05-31', or name another `date_key`"
    )


def without_duplicates(passages: Sequence[Passage]) -> tuple[list[Passage], list[LeftOut]]:
    """Leave out passages whose text another one holds, the better one staying."""
    kept: list[Passage] = []
    left_out = []
    for passage in passages:
        text = " ".join(passage.text.casefold().split())
        if any(text in " ".join(other.text.casefold().split()) for other in kept):
            left_out.append(passage.left_out("duplicate"))
        else:
            kept.append(passage)
    return kept, left_out


def pack(passages: Sequence[Passage], fits: Callable[[Sequence[Passage]], bool]) -> tuple[list[Passage], list[LeftOut]]:
    """The best passages that fit, whole.

    A passage that does not fit is skipped and smaller ones after it are tried.

    Args:
        passages: Best first.
        fits: Whether the prompt with these passages leaves room for the answer.
    """
    kept: list[Passage] = []
    left_out = []
    for passage in passages:
        if fits(arranged([*kept, passage])):
            kept.append(passage)
        else:
            left_out.append(passage.left_out("no room"))
    return arranged(kept), left_out


def arranged(passages: Sequence[Passage]) -> list[Passage]:
    """The order in the prompt: the best at the end, the second best at the beginning, where a model reads best.

    What is between is in the order of the documents, so that the same passages make the same prompt.
    """
    between = sorted(passages[2:], key=lambda passage: (passage.document_id, passage.document.metadata.get(START, 0)))
    return [*passages[1:2], *between, *passages[:1]]
