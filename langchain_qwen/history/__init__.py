"""Which messages of a conversation still fit: exact budgets, trimming, summaries, statistics."""

from langchain_qwen.history.counting import PromptCounter
from langchain_qwen.history.marks import pin
from langchain_qwen.history.report import TrimReport
from langchain_qwen.history.stats import ConversationStats, plot_window
from langchain_qwen.history.threads import OneWriterPerThread
from langchain_qwen.history.trimmer import HistoryTrimmer

__all__ = [
    "ConversationStats",
    "HistoryTrimmer",
    "OneWriterPerThread",
    "PromptCounter",
    "TrimReport",
    "pin",
    "plot_window",
]
