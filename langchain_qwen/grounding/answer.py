"""What a question to documents gives."""

from __future__ import annotations

from datetime import date

from langchain_qwen.grounding import display
from langchain_qwen.grounding.types import (
    AbstainReason,
    Citation,
    Conflict,
    Figures,
    Frozen,
    LeftOut,
    Nearest,
    Suspicious,
    Unsupported,
)


class GroundedAnswer(Frozen):
    """An answer that says only what documents say, or that there is none."""

    question: str
    text: str
    """The answer with markers such as [1], or the sentence that says there is none."""

    citations: tuple[Citation, ...] = ()
    abstained: AbstainReason | None = None
    """None for an answer, else why there is none."""

    nearest: Nearest | None = None
    """Where it abstained: the passage that came nearest."""

    as_of: date
    """The day the question was asked, as the model was told."""

    evidence_date: date | None = None
    """The latest date of the documents cited."""

    risk: float | None = None
    """The chance that the answer is wrong or not stated, which `abstain_above` is compared with; None where no answer
    was asked for."""

    conflicts: tuple[Conflict, ...] = ()
    """What passages say that the answer contradicts, the newest first where dates are known."""

    missing: tuple[str, ...] = ()
    """Of a question for several facts: the parts that the documents do not answer."""

    hint: str | None = None
    """Where it abstained: what would help, if something stood in the way."""

    unsupported: tuple[Unsupported, ...] = ()
    suspicious: tuple[Suspicious, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    figures: Figures = Figures()

    @property
    def plain_text(self) -> str:
        """The answer without its markers."""
        return display.without_markers(self)

    def markdown(self) -> str:
        """The answer with numbered sources below it."""
        return display.markdown(self)

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def _repr_html_(self) -> str:
        return display.html(self)
