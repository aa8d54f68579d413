"""Grounded answers as Markdown and HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from html import escape
from typing import Protocol

from langchain_qwen.grounding.texts import code_blocks
from langchain_qwen.grounding.types import AbstainReason, Citation, Conflict, Nearest, Unsupported


class Shown(Protocol):
    """What is shown of an answer: see `GroundedAnswer`."""

    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def citations(self) -> Sequence[Citation]: ...  # noqa: D102
    @property
    def abstained(self) -> AbstainReason | None: ...  # noqa: D102
    @property
    def nearest(self) -> Nearest | None: ...  # noqa: D102
    @property
    def unsupported(self) -> Sequence[Unsupported]: ...  # noqa: D102
    @property
    def conflicts(self) -> Sequence[Conflict]: ...  # noqa: D102
    @property
    def hint(self) -> str | None: ...  # noqa: D102
    @property
    def as_of(self) -> date: ...  # noqa: D102
    @property
    def evidence_date(self) -> date | None: ...  # noqa: D102


def without_markers(answer: Shown) -> str:
    """The text without " [1]" and the like; a marker takes as many characters below code."""
    text, end = "", 0
    for place, number in _markers(answer):
        text += answer.text[end:place]
        end = place + len(f" [{number}]")
    return text + answer.text[end:]


def markdown(answer: Shown) -> str:
    """The answer, then its sources with their quotes."""
    parts, end = [], 0
    for place, number in _markers(answer):
        parts.append(f"{_escaped_prose(answer.text[end:place])} [{number}]")
        end = place + len(f" [{number}]")
    lines = [" ".join([*parts, _escaped_prose(answer.text[end:])]).strip()]
    if answer.abstained:
        lines.append(f"*No answer: {answer.abstained.value.replace('_', ' ')}.*")
        if answer.nearest:
            lines.append(
                f"Nearest passage ({_escaped(answer.nearest.document_id)}):\n\n> {_escaped(answer.nearest.text)}"
            )
    lines += [f"**[{one.number}]** {_escaped(_source(one))}:\n\n> {_escaped(one.quote)}" for one in answer.citations]
    lines += [f"*But* {_escaped(_other(one))}:\n\n> {_escaped(one.quote)}" for one in answer.conflicts]
    lines += [f"*Not supported: {_escaped(one.text)}*" for one in answer.unsupported]
    lines += [f"*{_escaped(answer.hint)}*"] if answer.hint else []
    lines.append(f"*{_as_of(answer)}*")
    return "\n\n".join(lines)


def html(answer: Shown) -> str:
    """The answer with numbered sources; a click on one shows its quote."""
    parts, end = [], 0
    for place, number in _markers(answer):
        parts.append(escape(answer.text[end:place]) + f"<sup>[{number}]</sup>")
        end = place + len(f" [{number}]")
    parts.append(escape(answer.text[end:]))
    blocks = [f'<p style="white-space: pre-wrap">{"".join(parts)}</p>']
    if answer.abstained:
        blocks.append(f"<p><em>No answer: {escape(answer.abstained.value.replace('_', ' '))}.</em></p>")
        if answer.nearest:
            blocks.append(_details(f"Nearest passage: {answer.nearest.document_id}", answer.nearest.text))
    blocks += [
        _details(f"[{citation.number}] {_source(citation)}", " ".join(citation.quote.split()))
        for citation in answer.citations
    ]
    blocks += [_details(f"But {_other(one)}", " ".join(one.quote.split())) for one in answer.conflicts]
    blocks += [f"<p><em>{escape(answer.hint)}</em></p>"] if answer.hint else []
    blocks += [f"<p><em>Not supported: {escape(one.text)}</em></p>" for one in answer.unsupported]
    blocks.append(f"<p><small>{escape(_as_of(answer))}</small></p>")
    return "\n".join(blocks)


def _markers(answer: Shown) -> list[tuple[int, int]]:
    """Where markers are and their numbers."""
    places = {(one.answer_end, one.number) for one in answer.citations}
    flagged = [one for one in answer.unsupported if one.answer_end is not None]
    places |= {(one.answer_end, _number(answer, one.answer_end)) for one in flagged if one.answer_end is not None}
    return sorted(places)


def _number(answer: Shown, place: int) -> int:
    marker = answer.text[place:].split("]", 1)[0]
    return int(marker[2:])


def _details(summary: str, text: str) -> str:
    return f"<details><summary>{escape(summary)}</summary><blockquote>{escape(text)}</blockquote></details>"


def _source(citation: Citation) -> str:
    title = str(citation.metadata.get("title") or citation.metadata.get("source") or citation.document_id)
    day = f", {citation.document_date.isoformat()}" if citation.document_date else ""
    return f"{title}{day}, {_place(citation)}"


def _place(citation: Citation) -> str:
    """The page as the metadata of PDF loaders has it, else the characters."""
    label = citation.metadata.get("page_label") or citation.metadata.get("page_number")
    page = citation.metadata.get("page")
    if label is not None and str(label).strip():
        return f"page {str(label).strip()}"
    if isinstance(page, int) and not isinstance(page, bool):
        # LangChain's PDF loaders count from 0 and tell the number of pages.
        return f"page {page + 1 if 'total_pages' in citation.metadata else page}"
    return f"characters {citation.source_start} to {citation.source_end}"


def _other(conflict: Conflict) -> str:
    day = f", {conflict.document_date.isoformat()}" if conflict.document_date else ""
    return f"{conflict.document_id}{day} says otherwise"


def _as_of(answer: Shown) -> str:
    evidence = f", latest source {answer.evidence_date.isoformat()}" if answer.evidence_date else ""
    return f"As of {answer.as_of.isoformat()}{evidence}."


def _escaped_prose(text: str) -> str:
    """As `_escaped`, with blocks of code as they are, behind fences that nothing in them closes."""
    parts, end = [], 0
    for begin, stop in code_blocks(text):
        lines = text[begin:stop].split("\n")
        code = lines[1:-1] if lines[-1].strip()[:3] in ("```", "~~~") else lines[1:]
        fence = "`" * max(3, 1 + max((len(run) for line in code for run in re.findall("`+", line)), default=0))
        parts += [_escaped(text[end:begin]), "\n\n" + "\n".join([fence, *code, fence]) + "\n\n"]
        end = stop
    return "".join([*parts, _escaped(text[end:])])


def _escaped(text: str) -> str:
    """One line without markup: a document must not bring links, images or HTML into what is shown."""
    return re.sub(r"([\\`*_\[\]<>#|!~])", r"\\\1", " ".join(text.split()))
