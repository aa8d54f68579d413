"""What fills the window, in numbers and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import ChatGeneration, LLMResult

from langchain_qwen.errors import MissingDependencyError
from langchain_qwen.history.report import TrimReport
from langchain_qwen.history.trimmer import EVENT

PARTS = {
    "system and tools": "head_tokens",
    "summaries": "summary_tokens",
    "pinned": "pinned_tokens",
    "tool calls and results": "result_tokens",
    "other turns": "turn_tokens",
}


class ConversationStats(BaseCallbackHandler):
    """Collects what a conversation's calls report: `chain.invoke(..., config={"callbacks": [stats]})`.

    Attributes:
        reports: Of each trim, in order.
        calls: How often a model was called, summaries included.
        input_tokens: Tokens of all prompts.
        cached_tokens: Those of them that a prefix cache held.
        output_tokens: Tokens of all answers.
    """

    def __init__(self) -> None:
        self.reports: list[TrimReport] = []
        self.calls = self.input_tokens = self.cached_tokens = self.output_tokens = 0

    @property
    def cuts(self) -> int:
        """How often the cut moved."""
        return sum(report.trimmed for report in self.reports)

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        """Keep the report of a trim."""
        if name == EVENT:
            self.reports.append(TrimReport(**data))

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        """Add up what a model used."""
        for generation in (item for items in response.generations for item in items):
            usage: Mapping[str, Any] | None = None
            if isinstance(generation, ChatGeneration):
                usage = getattr(generation.message, "usage_metadata", None)
            self.calls += 1
            if usage:
                self.input_tokens += usage["input_tokens"]
                self.output_tokens += usage["output_tokens"]
                self.cached_tokens += usage.get("input_token_details", {}).get("cache_read", 0)

    def __repr__(self) -> str:
        return f"ConversationStats({self})"

    def __str__(self) -> str:
        return (
            f"{self.calls} calls, {self.input_tokens:,} tokens read ({self.cached_tokens:,} from the cache), "
            f"{self.output_tokens:,} written, {self.cuts} cuts"
        )


def plot_window(shown: TrimReport | ConversationStats, ax: Any = None) -> Any:
    """Draw what fills the window: call by call for statistics, one call for a report.

    Args:
        shown: What to draw.
        ax: Matplotlib axes to draw on; None makes a figure.

    Returns:
        The axes.

    Raises:
        MissingDependencyError: Without matplotlib.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingDependencyError("plots need matplotlib: pip install matplotlib") from error
    reports = [shown] if isinstance(shown, TrimReport) else shown.reports
    ax = ax or pyplot.subplots(figsize=(8, 3))[1]
    calls = range(1, len(reports) + 1)
    bottom = [0] * len(reports)
    for label, name in PARTS.items():
        heights = [getattr(report, name) for report in reports]
        ax.bar(calls, heights, bottom=bottom, label=label, width=1.0 if len(reports) > 1 else 0.4)
        bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
    if reports:
        ax.axhline(reports[-1].budget, linestyle="--", color="black", label="budget")
    ax.set_xlabel("call")
    ax.set_ylabel("tokens")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax
