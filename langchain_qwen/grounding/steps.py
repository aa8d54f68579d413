"""What may have to be done for an answer, as data that knows nothing of sync or async.

`planning.py` says what is done when; `answering.py` does it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_qwen.grounding import prompts
from langchain_qwen.grounding.answer import GroundedAnswer
from langchain_qwen.grounding.passages import Passage
from langchain_qwen.grounding.risk import Calibration, Logistic
from langchain_qwen.grounding.types import Figures
from langchain_qwen.stepping import Emit

# Room in the window for what is asked behind the answer, in which the answer and sentences of passages are repeated.
_CHECK_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Across:
    """A question in another language than the documents.

    Attributes:
        documents: The documents' language, in English.
        hint: What the user is told; None where all documents are shown anyway.
    """

    documents: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class Settings:
    """What `GroundedAnswerer` was told, see there."""

    calibration: Calibration
    abstain_above: float | Literal["calibrated"] | None
    max_passages: int
    max_prompt_tokens: int
    max_answer_tokens: int
    on_unsupported: Literal["drop", "flag", "abstain"]
    min_coverage: float
    judged: bool
    knowledge_cutoff: date
    date_key: str
    withhold: bool
    abstain_text: str | None
    missing_text: str | None
    tells_odds: bool
    translate: bool
    across: Callable[[str], Across | None]
    count: Callable[[list[BaseMessage]], int]
    window: int | None

    def too_risky(self, risk: float, by: Logistic) -> bool:
        """Whether to abstain at a risk that was read off by one of the models."""
        if self.abstain_above is None:
            return False
        return risk > (by.limit if self.abstain_above == "calibrated" else self.abstain_above)

    def count_text(self, text: str) -> int:
        """Tokens of a text in a prompt."""
        return self.count([HumanMessage(text)])

    def fits(self, question: str, as_of: date, language: str) -> Callable[[Sequence[Passage]], bool]:
        """Whether the prompt with some passages leaves the room that answer and quotes need."""
        room = self.max_prompt_tokens
        if self.window is not None:
            room = min(room, self.window - 3 * self.max_answer_tokens - _CHECK_TOKENS)
        return lambda passages: self.count(prompts.answer(passages, question, as_of, language)) <= room


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Get documents; the result is a list of them."""

    query: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask several things at once, each a prompt with its options; the result is a list of messages."""

    asked: list[tuple[list[BaseMessage], dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Generate:
    """Begin a streamed answer; `NextText` gets its chunks."""

    prompt: list[BaseMessage]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NextText:
    """The next chunk of the answer begun last; None at its end."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Call the judge with question, sentence and evidence; the result is whether it supports the sentence."""

    arguments: tuple[str, str, str]


Step = Retrieve | Ask | Generate | NextText | Judge | Emit
Plan = Generator[Step, Any, GroundedAnswer]


@dataclass(slots=True)
class Meter:
    """Adds up the figures of an answer."""

    started: float = field(default_factory=time.monotonic)
    figures: Figures = field(default_factory=Figures)

    def add(self, message: BaseMessage) -> None:
        """Count what a message reports."""
        usage = getattr(message, "usage_metadata", None)
        if usage:
            done = self.figures
            self._set(
                input_tokens=done.input_tokens + usage["input_tokens"],
                cached_tokens=done.cached_tokens + usage.get("input_token_details", {}).get("cache_read", 0),
                output_tokens=done.output_tokens + usage["output_tokens"],
            )

    def retrieved(self) -> None:
        """Retrieval is done."""
        self._set(retrieval_s=self._passed())

    def text(self) -> None:
        """Text is passed on, perhaps for the first time."""
        if self.figures.first_text_s is None:
            self._set(first_text_s=self._passed())

    def total(self) -> Figures:
        """The figures at the end."""
        self._set(total_s=self._passed())
        return self.figures

    def _set(self, **values: Any) -> None:
        self.figures = self.figures.model_copy(update=values)

    def _passed(self) -> float:
        return time.monotonic() - self.started
