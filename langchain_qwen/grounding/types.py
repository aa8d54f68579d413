"""The parts of a grounded answer."""

from __future__ import annotations

from datetime import date
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Data that nobody changes."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64")  # metadata may hold bytes that are no text


class Citation(Frozen):
    """A quote that supports a statement of the answer.

    `answer.text[answer_start:answer_end]` is the statement, and `document.page_content[source_start:source_end]` is
    `quote`, both to the character.
    """

    number: int
    """The number of its marker in the answer."""

    answer_start: int
    answer_end: int
    document_id: str
    source_start: int
    source_end: int
    quote: str
    document_date: date | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    """The document's own metadata."""


class AbstainReason(str, Enum):
    """Why there is no answer."""

    NOTHING_RETRIEVED = "nothing_retrieved"
    """The retriever found no passage, or none that fits into the window."""

    NOT_STATED = "not_stated"
    """The passages do not state the answer, as far as the model and the words of its answer tell."""

    UNSUPPORTED = "unsupported"
    """What the model wrote is not supported by the sentences nearest to it."""

    NO_DATED_EVIDENCE = "no_dated_evidence"
    """The question asks about a time that no passage speaks of."""


class Nearest(Frozen):
    """The passage that came nearest to an answer."""

    document_id: str
    source_start: int
    source_end: int
    text: str


class Unsupported(Frozen):
    """A statement that its quotes do not support."""

    text: str
    missing: tuple[str, ...]
    """Numbers, dates, names and quoted strings that the cited passage does not hold; empty where its words differ."""

    answer_start: int | None = None
    """Where it is in the answer; None where it was dropped."""

    answer_end: int | None = None


class Conflict(Frozen):
    """A sentence of a passage that gives another answer than the one that was given."""

    statement: str
    """The sentence of the answer."""

    document_id: str
    source_start: int
    source_end: int
    quote: str
    document_date: date | None = None
    odds: float | None = None
    """The model's log odds that it is another answer; None for a model without odds, where only words tell."""


class Suspicious(Frozen):
    """Text in a document that speaks to the model instead of the reader."""

    document_id: str
    source_start: int
    source_end: int
    text: str
    kind: str
    """"override", "reply", "role", "markup", "task" or "invisible"."""


class LeftOut(Frozen):
    """A passage that was retrieved but not shown to the model."""

    document_id: str
    source_start: int
    source_end: int
    reason: str
    """"duplicate", "no room", "too many" beyond `max_passages`, or "too long" for what comes after the first two
    million characters."""


class Figures(Frozen):
    """Tokens and seconds of one answer, all calls of the model together."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    retrieval_s: float = 0.0
    first_text_s: float | None = None
    total_s: float = 0.0


class AnswerText(Frozen):
    """A piece of the answer while it is streamed; markers such as " [1]" are pieces too."""

    text: str
