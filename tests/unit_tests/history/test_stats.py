"""Numbers and the picture of the window."""

from __future__ import annotations

import sys

import matplotlib as mpl
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from langchain_qwen import ChatQwen
from langchain_qwen.errors import MissingDependencyError
from langchain_qwen.history import ConversationStats, HistoryTrimmer, plot_window

mpl.use("agg")


def test_numbers_and_picture_are_those_of_the_calls(model: ChatQwen, monkeypatch):
    trim, stats = HistoryTrimmer(model, window=900, reserve=100), ConversationStats()
    chain = trim | model.bind(max_tokens=2)
    history, sent = [SystemMessage("Be kind.")], 0
    for i in range(12):
        history.append(HumanMessage(f"{i} " + "q " * 40))
        answer = chain.invoke(history, {"callbacks": [stats]})
        sent += answer.usage_metadata["input_tokens"]
        history.append(AIMessage("a " * 20))
    assert stats.calls == len(stats.reports) == 12
    assert stats.input_tokens == sent == sum(report.tokens_after for report in stats.reports)
    assert stats.cuts >= 1
    assert 0 < stats.cached_tokens < stats.input_tokens
    assert "12 calls" in str(stats)
    axes = plot_window(stats)
    tops = [0.0] * 12
    for bars in axes.containers:
        tops = [max(top, bar.get_y() + bar.get_height()) for top, bar in zip(tops, bars, strict=True)]
    assert tops == [report.tokens_after for report in stats.reports]
    assert plot_window(stats.reports[0]).containers
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        plot_window(stats)
