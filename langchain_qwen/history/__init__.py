"""Which messages of a conversation still fit: exact budgets, trimming, summaries, statistics."""

from langchain_qwen.history.marks import pin
from langchain_qwen.history.stats import ConversationStats, plot_window
from langchain_qwen.history.threads import OneWriterPerThread
from langchain_qwen.history.trimmer import HistoryTrimmer

__all__ = [
    "ConversationStats",
    "HistoryTrimmer",
    "OneWriterPerThread",
    "pin",
    "plot_window",
]
