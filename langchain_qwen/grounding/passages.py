"""From retrieved documents to the passages that the prompt shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import islice
from typing import Any

from langchain_core.documents import Document

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.grounding.instructions import Instruction, find_instructions
from langchain_qwen.grounding.retrieving import END, START, BM25Retriever, as_documents, split_documents
from langchain_qwen.grounding.texts import ShownText, quotable_units, show, unicode
from langchain_qwen.grounding.types import LeftOut, Nearest, Suspicious

_WITHHELD = "[...]"
_MOST_TITLE = 200  # characters of a title that a prompt shows
_MOST_TEXT = 2_000_000  # characters of a document that are read
_CHUNKS = 3  # chunks that stand for a document that is too long
_MOST_COMPARED = 100  # passages that further ones are compared with


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
        return self._without_withheld(self.shown.text)

    @property
    def prompted(self) -> str:
        """As `text`, with the source's own spaces: where nothing is taken out, prompts hold documents as they are."""
        before, behind = self.shown.around
        return before + self._without_withheld(self.shown.spaced) + behind

    def _without_withheld(self, characters: Sequence[str]) -> str:
        text, end = "", 0
        for found in self.instructions:
            if found.withheld:
                text += "".join(characters[end : found.start]) + _WITHHELD
                end = found.end
        return text + "".join(characters[end:])

    @property
    def heading(self) -> str:
        """Date and title, as the prompt shows them before the text."""
        parts = [self.date.isoformat() if self.date else "", self.title]
        heading = ", ".join(part for part in parts if part)
        return f"({heading}) " if heading else ""

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """The span in the document, of which the retrieved text may be a chunk, of a span of the shown text."""
        first, last = self.shown.source_span(start, end)
        return self.offset + first, self.offset + last

    @property
    def offset(self) -> int:
        """Where the retrieved text begins in its document; 0 where the metadata has no such number."""
        start = self.document.metadata.get(START)
        if isinstance(start, str) and start.isascii() and start.isdecimal() and len(start) < 19:
            return int(start)
        return start if isinstance(start, int) and not isinstance(start, bool) and start >= 0 else 0

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
        date_key: Where the metadata has the document's date (a date, or text in ISO format); others are undated.
        withhold: Keep text that gives the model orders out of the prompt; else it is reported only.
    """
    passages: list[Passage] = []
    seen: dict[str, Passage] = {}
    for number, document in enumerate(map(_sound, documents), 1):
        first = seen.get(document.page_content)
        shown = first.shown if first else show(document.page_content)
        if not shown.text:
            continue
        day = read_date(document.metadata.get(date_key))
        title = _title(document.metadata.get("title"))
        document_id = document.id or str(number)
        if first:
            passages.append(replace(first, document=document, document_id=document_id, date=day, title=title))
            continue
        found = tuple(find_instructions(shown.text, withhold=withhold))
        units = tuple(_quotable(shown.text, found))
        passages.append(Passage(document, document_id, shown, day, title, found, units))
        seen[document.page_content] = passages[-1]
    return passages


def _quotable(text: str, instructions: Sequence[Instruction]) -> Iterator[tuple[int, int]]:
    """Units that no instruction overlaps; both are in their order."""
    at = 0
    for start, end in quotable_units(text):
        while at < len(instructions) and instructions[at].end <= start:
            at += 1
        if at == len(instructions) or instructions[at].start >= end:
            yield start, end


def _sound(document: Document) -> Document:
    """A document whose id is text and whose metadata has text as keys, whatever a store made of them."""
    metadata = document.metadata if isinstance(document.metadata, dict) else {}
    named = all(isinstance(key, str) for key in metadata) and isinstance(document.id, str | None)
    if named and metadata is document.metadata and isinstance(document.page_content, str):
        return document
    return Document.model_construct(
        id=None if document.id is None else str(document.id),
        page_content=document.page_content if isinstance(document.page_content, str) else "",
        metadata={str(key): value for key, value in metadata.items()},
        type="Document",
    )


def _title(value: Any) -> str:
    """A title as the prompt shows it; none where it is no text, or gives the model orders."""
    title = show(value[: 4 * _MOST_TITLE]).text.replace("\n", " ") if isinstance(value, str) else ""
    if len(title) > _MOST_TITLE:
        title = f"{title[:_MOST_TITLE]}..."
    return "" if any(find_instructions(title)) else title


def read_date(value: Any) -> date | None:
    """A date of metadata: of text in ISO format, the first day for a year or a month; None for all else."""
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return None
    match = re.match(r"\s*(\d{4})(?:-(\d{2})(?:-(\d{2})(?!\d).*)?)?\s*\Z", str(value)[:100], re.DOTALL)
    if not match:
        return None
    year, month, day = (int(part or 1) for part in match.groups())
    try:
        return date(year, month, day)
    except ValueError:  # there is no such day
        return None


def documents_of(found: Any) -> Sequence[Document]:
    """What a retriever gave.

    Raises:
        InvalidParameterError: It is no list of documents.
    """
    given = f"a {type(found).__name__}"
    if isinstance(found, Sequence) and not isinstance(found, str):
        odd = next((one for one in found if not isinstance(one, Document)), None)
        if odd is None:
            return found
        given += f" with a {type(odd).__name__}"
    raise InvalidParameterError(
        f"the retriever gave {given}, not a list of documents; use the retriever alone, without what formats its "
        "documents, or end it in a step that gives the documents"
    )


def cut_down(
    documents: Sequence[Document], query: str, *, most_tokens: int, count: Callable[[str], int]
) -> tuple[list[Document], list[LeftOut]]:
    """Put the chunks that are nearest to the query in the place of documents that are too long for a prompt.

    Args:
        documents: As retrieved. Of each, the first two million characters are read.
        query: What is looked for.
        most_tokens: The most tokens of a document that stays whole.
        count: Counts the tokens of a text.

    Returns:
        Documents, and what of long ones was not read.
    """
    kept: list[Document] = []
    left_out: list[LeftOut] = []
    for document in as_documents([*map(_sound, documents)]):  # the chunks of one do not move the places of others
        text = document.page_content
        if len(text) <= most_tokens // 2 or count(unicode(text[:_MOST_TEXT])) <= most_tokens:
            kept.append(document)
            continue
        whole = Passage(document, str(document.id), ShownText("", (), ()), None, "")
        if len(text) > _MOST_TEXT:
            span = {"source_start": whole.offset + _MOST_TEXT, "source_end": whole.offset + len(text)}
            left_out.append(LeftOut(document_id=whole.document_id, reason="too long", **span))
        read = document.model_copy(update={"page_content": text[:_MOST_TEXT]})
        chunks = split_documents([read], chunk_tokens=max(1, most_tokens // 4), count=count)
        for chunk in BM25Retriever(documents=chunks, k=_CHUNKS).invoke(query) or chunks[:1]:
            chunk.metadata[START] += whole.offset
            chunk.metadata[END] += whole.offset
            kept.append(chunk)
    return kept, left_out


def without_duplicates(passages: Sequence[Passage]) -> tuple[list[Passage], list[LeftOut]]:
    """Leave out passages whose text another one holds, the better one staying."""
    kept: list[Passage] = []
    texts: dict[str, None] = {}
    left_out = []
    for passage in passages:
        text = " ".join(passage.text.casefold().split())
        if text in texts or any(text in other for other in islice(texts, _MOST_COMPARED)):
            left_out.append(passage.left_out("duplicate"))
        else:
            kept.append(passage)
            texts[text] = None
    return kept, left_out


def pack(passages: Sequence[Passage], fits: Callable[[Sequence[Passage]], bool]) -> tuple[list[Passage], list[LeftOut]]:
    """The best passages that fit, whole and in their order.

    A passage that does not fit is skipped and smaller ones after it are tried.

    Args:
        passages: Best first.
        fits: Whether the prompt with these passages leaves room for the answer.
    """
    kept: list[Passage] = []
    left_out = []
    for passage in passages:
        if fits([*kept, passage]):
            kept.append(passage)
        else:
            left_out.append(passage.left_out("no room"))
    return kept, left_out
