"""What a trim did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TrimReport:
    """What of a history is sent, and why. Places count the messages of the history from 0.

    Attributes:
        kept: Places of messages that are sent, cleared and shortened ones included.
        cleared: Places of tool results whose content is left out.
        summarized: Places of messages that stand in a summary instead.
        dropped: Places of messages that are left out.
        shortened: Places of messages whose middle is left out, since one alone was larger than the budget.
        tokens_before: Tokens of the prompt with the whole history, exact.
        tokens_after: Tokens of the prompt that is sent, exact; never above `budget`.
        budget: The window less what is reserved for the answer. Tools are part of the prompt.
        window: Tokens that prompt and answer may have together.
        head_tokens: System message, tools and the opening of the answer.
        summary_tokens: Blocks of summary.
        pinned_tokens: Pinned messages, system messages within the conversation among them.
        result_tokens: AI messages with their tool results, of those that are not pinned.
        turn_tokens: All other messages.
        prefix_kept: Tokens at the beginning of this prompt that the last prompt before it began with too, in whole
            messages: what a prefix cache need not compute again.
        trimmed: Whether this call moved the cut; False where the view only grew.
        summary_failures: Why summaries could not be made; the messages are among the dropped ones.
    """

    kept: tuple[int, ...]
    cleared: tuple[int, ...]
    summarized: tuple[int, ...]
    dropped: tuple[int, ...]
    shortened: tuple[int, ...]
    tokens_before: int
    tokens_after: int
    budget: int
    window: int
    head_tokens: int
    summary_tokens: int
    pinned_tokens: int
    result_tokens: int
    turn_tokens: int
    prefix_kept: int
    trimmed: bool
    summary_failures: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether what is sent differs from the history."""
        return bool(self.cleared or self.summarized or self.dropped or self.shortened)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, as callbacks get it."""
        return asdict(self)

    def __str__(self) -> str:
        lost = [
            f"{len(places)} {name}"
            for name in ("cleared", "summarized", "dropped", "shortened")
            if (places := getattr(self, name))
        ]
        return (
            f"{self.tokens_after:,} of {self.budget:,} tokens, {len(self.kept)} messages kept"
            + "".join(f", {item}" for item in lost)
            + "".join(f"; no summary: {reason}" for reason in self.summary_failures)
        )
