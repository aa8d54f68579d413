"""What a history costs is in proportion to its messages; what can never fit is refused early, with numbers."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_qwen import ChatQwen
from langchain_qwen.errors import ContextOverflowError
from langchain_qwen.history import HistoryTrimmer
from langchain_qwen.history.counting import PromptCounter


def turns(n: int) -> list[BaseMessage]:
    return [m for i in range(n // 2) for m in (HumanMessage(f"{i} q"), AIMessage(f"{i} a"))]


def call(n: int) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": str(i)} for i in range(n)])


def result(i: int, id_: str) -> ToolMessage:
    return ToolMessage(f"{i} " + "result " * 9, tool_call_id=id_)


HISTORIES: dict[str, Callable[[int], list[BaseMessage]]] = {
    "turns": turns,
    "one question of many messages": lambda n: [HumanMessage(f"{i} a") for i in range(n)],
    "one question of many long messages": lambda n: [HumanMessage(f"{i} " + "and so on " * 9) for i in range(n)],
    "answers without questions": lambda n: [HumanMessage("q"), *(AIMessage(f"{i} a") for i in range(n))],
    "system messages first": lambda n: [SystemMessage(f"{i} s") for i in range(n)],
    "system messages between": lambda n: [m for i in range(n // 2) for m in (HumanMessage(f"{i}"), SystemMessage("s"))],
    "steps of an agent": lambda n: [HumanMessage("q"), *(m for i in range(n // 2) for m in (call(1), result(i, "0")))],
    "one step with many results": lambda n: [HumanMessage("q"), call(n), *(result(i, str(i)) for i in range(n))],
}


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds; an overflow is a result."""
    started = time.process_time()
    try:
        work()
    except ContextOverflowError as error:
        assert error.prompt_tokens > error.context_window - error.reserved_tokens  # noqa: PT017  the others are fine
    return time.process_time() - started


@pytest.mark.parametrize("oversize", ["error", "shorten"])
@pytest.mark.parametrize("name", HISTORIES)
def test_trimming_is_linear_in_the_messages(model: ChatQwen, name: str, oversize):
    def trim(n: int) -> float:
        history = [*HISTORIES[name](n), HumanMessage("and now?")]
        return seconds(lambda: HistoryTrimmer(model, oversize=oversize, pin_first=1).with_report(history))

    small, large = trim(400), trim(4000)
    assert large < 30 * small + 0.3, "ten times the messages"


def test_counting_is_linear_in_the_messages(model: ChatQwen):
    def count(n: int) -> float:
        return seconds(lambda: PromptCounter(model.prompter).count(turns(n)))

    def encode(n: int) -> float:
        return seconds(lambda: model.prompter.encode(turns(n)))

    assert count(8000) < 30 * count(800) + 0.3
    assert encode(8000) < 30 * encode(800) + 0.3


def test_system_messages_that_can_never_fit_are_refused_before_the_rest_is_read(model: ChatQwen):
    history = [m for i in range(5000) for m in (HumanMessage(f"{i}"), SystemMessage(f"{i} stays"))]
    with pytest.raises(ContextOverflowError, match=r"at least \d+ tokens") as caught:
        HistoryTrimmer(model).with_report([*history, HumanMessage("z")])
    assert caught.value.prompt_tokens < 3000


def test_results_are_cleared_as_few_as_needed(model: ChatQwen):
    history = [HumanMessage("q"), call(6), *(ToolMessage("result " * 60, tool_call_id=str(i)) for i in range(6))]
    trim = HistoryTrimmer(
        model, window=2000, reserve=100, steps=("clear",), low_mark=0.8, high_mark=0.9, keep_results=0
    )
    assert model.get_num_tokens_from_messages(history) > trim.limits.high
    messages, report = trim.with_report(history)
    assert 0 < len(report.cleared) < 6
    assert report.cleared == tuple(range(2, 2 + len(report.cleared)))
    assert trim.limits.low - 400 < report.tokens_after <= trim.limits.low
    assert report.tokens_after == model.get_num_tokens_from_messages(messages)


def test_a_counter_does_not_keep_all_texts_for_ever(model: ChatQwen, monkeypatch):
    monkeypatch.setattr("langchain_qwen.history.counting._MOST_CHARACTERS", 10_000)
    counter = PromptCounter(model.prompter)
    for i in range(50):
        counter.segment([HumanMessage(f"{i}" + "x" * 1000)])
        assert len(counter._segments) < 30
