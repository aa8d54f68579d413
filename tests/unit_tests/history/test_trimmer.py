"""What a trim keeps, for any history; and that it does so step by step as at once."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue

from langchain_qwen import ChatQwen
from langchain_qwen.errors import ContextOverflowError, InvalidMessagesError, InvalidParameterError
from langchain_qwen.history import HistoryTrimmer, pin
from langchain_qwen.history.counting import key_of, role_of
from langchain_qwen.history.marks import is_pinned
from langchain_qwen.prompting import check_conversation
from tests.unit_tests.history.histories import TOOL, histories

STEPS = st.sampled_from([("clear", "drop"), ("drop",)])


def trimmer(model: ChatQwen, budget: int, **options) -> HistoryTrimmer:
    return HistoryTrimmer(model, window=budget + 100, reserve=100, **options)


def same(left, right) -> bool:
    return list(map(key_of, left)) == list(map(key_of, right))


def talk(turns: int, words: int = 20) -> list:
    return [m for i in range(turns) for m in (HumanMessage(f"{i} " + "q " * words), AIMessage(f"{i} " + "a " * words))]


@settings(max_examples=40, deadline=None)
@given(histories(), st.integers(250, 900), STEPS, st.integers(0, 2), st.sampled_from([(), (TOOL,)]))
def test_what_holds_for_any_history(model: ChatQwen, messages, budget, steps, pin_first, tools):
    assume(any(message.text.strip() for message in messages))  # else there is nothing to answer, trimmed or not
    trim = trimmer(model, budget + (300 if tools else 0), steps=steps, pin_first=pin_first, tools=tools)
    try:
        shown, report = trim.with_report(messages)
    except ContextOverflowError:
        assume(False)
    # It fits, exactly, and the counts are those of the whole prompt.
    assert report.tokens_after == model.get_num_tokens_from_messages(shown, tools) <= report.budget
    assert report.tokens_before == model.get_num_tokens_from_messages(messages, tools)
    parts = (report.head_tokens, report.summary_tokens, report.pinned_tokens, report.result_tokens, report.turn_tokens)
    assert sum(parts) == report.tokens_after
    # Calls and results are together, in a conversation that can be sent.
    spoken = [place for place, message in enumerate(messages) if role_of(message) != "system"]
    if any(message.text.strip() or getattr(message, "tool_calls", None) for message in shown):
        check_conversation(shown)
    else:  # there was room for the open question only, and it is empty
        assert report.dropped
        assert not messages[spoken[-1]].text.strip()
    # All that was there is accounted for, once, and what is kept is in order.
    assert sorted((*report.kept, *report.dropped)) == list(range(len(messages)))
    unchanged = [place for place in report.kept if place not in report.cleared]
    lead = [m for m in messages if role_of(m) == "system"]
    assert [m for m in shown if m in lead] == [m for m in lead if m in shown]
    assert all(any(messages[place] is m for m in shown) for place in unchanged)
    # Pinned ones stay, unchanged.
    for place, message in enumerate(messages):
        if is_pinned(message) or role_of(message) == "system" or place < pin_first:
            assert place in unchanged
    # The open question stays; a question goes with its answer.
    assert not spoken or spoken[-1] in report.kept
    for place in range(1, len(messages)):
        answers = isinstance(messages[place], AIMessage) and not messages[place].tool_calls
        if answers and role_of(messages[place - 1]) == "user":
            assert (place in report.kept) == (place - 1 in report.kept)
    # Once is enough.
    again, second = trim.with_report(shown)
    assert same(again, shown)
    assert not second.dropped


@settings(max_examples=12, deadline=None)
@given(histories(), st.integers(250, 700), STEPS)
def test_message_by_message_is_as_at_once(model: ChatQwen, messages, budget, steps):
    growing = trimmer(model, budget, steps=steps)
    for end in range(1, len(messages) + 1):
        try:
            shown, report = growing.with_report(messages[:end])
        except InvalidMessagesError:
            assume(isinstance(messages[end - 1], (AIMessage, ToolMessage)))  # in the middle of calls
            continue
        except ContextOverflowError:
            with pytest.raises(ContextOverflowError):
                trimmer(model, budget, steps=steps).with_report(messages[:end])
            continue
        alone, report_alone = trimmer(model, budget, steps=steps).with_report(messages[:end])
        assert same(shown, alone)
        assert report.dropped == report_alone.dropped
        assert report.prefix_kept == report_alone.prefix_kept


def test_the_beginning_moves_rarely(model: ChatQwen):
    history = [SystemMessage("Be brief."), *talk(60)]
    trim, moved, last = trimmer(model, 1000), 0, []
    for end in range(2, len(history) + 1, 2):
        shown, report = trim.with_report(history[:end])
        common = next((i for i, (a, b) in enumerate(zip(shown, last, strict=False)) if a is not b), len(last))
        if report.trimmed:
            moved += 1
            assert report.tokens_after <= trim.limits.low
            assert shown[0] is history[0]
        else:
            assert common == len(last)
        ids, before = model.prompter.encode(shown), model.prompter.encode(last or shown)
        shared = next((i for i, (a, b) in enumerate(zip(ids, before, strict=False)) if a != b), len(before))
        assert report.prefix_kept <= max(shared, len(before)) + 100
        if report.trimmed:
            assert report.prefix_kept <= shared <= report.prefix_kept + 10
        last = shown
    assert 3 <= moved <= 12
    assert report.tokens_before > 4 * report.tokens_after


def test_old_results_are_cleared_before_anything_is_dropped(model: ChatQwen):
    history = [SystemMessage("s"), HumanMessage("find all")]
    for i in range(7):
        history.append(AIMessage("", tool_calls=[{"name": "find", "args": {}, "id": str(i)}]))
        history.append(ToolMessage(f"{i} " + "x" * 198, tool_call_id=str(i)))
    shown, report = trimmer(model, 1500, keep_results=1, low_mark=0.8).with_report(history)
    assert report.cleared
    assert not report.dropped
    assert shown[1] is history[1]
    results = [m.text for m in shown if isinstance(m, ToolMessage)]
    assert results[0] == "[result of 200 characters cleared]"
    assert results[-1].startswith("6 xxx")
    assert history[3].text.startswith("0 xxx"), "the history itself stays as it is"
    # In the middle of its answer the question stays, and the last step; older steps go.
    shown, report = trimmer(model, 500, steps=("drop",)).with_report(history)
    assert [type(m) for m in shown[:2]] == [SystemMessage, HumanMessage]
    assert shown[-1] is history[-1]
    assert report.dropped


def test_one_message_that_is_too_large(model: ChatQwen):
    history = [SystemMessage("s"), *talk(3), HumanMessage("begin " + "middle " * 400 + "end")]
    with pytest.raises(ContextOverflowError, match=r"messages\[7\]") as caught:
        trimmer(model, 800).invoke(history)
    assert caught.value.reserved_tokens == 100
    assert caught.value.context_window == 900
    assert caught.value.prompt_tokens > 800
    trim = trimmer(model, 800, oversize="shorten")
    shown, report = trim.with_report(history)
    assert report.shortened == (7,)
    assert 780 < report.tokens_after == model.get_num_tokens_from_messages(shown) <= 800
    assert shown[-1].text.startswith("begin")
    assert shown[-1].text.endswith("end")
    assert "characters left out ...]" in shown[-1].text
    # It stays shortened until it goes; then the conversation goes on.
    shown, report = trim.with_report([*history, AIMessage("I see."), HumanMessage("And now?")])
    assert report.tokens_after <= 800
    # Pinned messages are never shortened.
    with pytest.raises(ContextOverflowError):
        trim.invoke([*history[:-1], pin(history[-1])])


def test_what_it_takes(model: ChatQwen, recwarn):
    trim, messages = trimmer(model, 800), [HumanMessage("a")]
    assert trim.invoke(messages) == messages
    assert trim.invoke(ChatPromptValue(messages=messages)) == messages
    assert trim.invoke({"messages": messages}) == messages
    assert trim.invoke(InMemoryChatMessageHistory(messages=messages)) == messages
    assert trim.invoke([("human", "a")]) == messages
    assert trim.invoke("a") == messages
    with pytest.raises(InvalidMessagesError, match="no messages"):
        trim.invoke([])
    with pytest.raises(InvalidMessagesError, match=r"messages\[1\]"):
        trim.invoke([*messages, ToolMessage("a", tool_call_id="1")])


async def test_reports_reach_callbacks(model: ChatQwen):
    events = []

    class Handler(BaseCallbackHandler):
        def on_custom_event(self, name, data, **kwargs):
            events.append((name, data))

    class AsyncHandler(AsyncCallbackHandler):
        async def on_custom_event(self, name, data, **kwargs):
            events.append((name, data))

    history, trim = talk(40), trimmer(model, 800)
    shown, report = trim.with_report(history)
    assert trim.invoke(history, {"callbacks": [Handler()]}) == shown
    assert await trimmer(model, 800).ainvoke(history, {"callbacks": [AsyncHandler()]}) == shown
    assert [name for name, _ in events] == ["history_trimmed"] * 2
    assert events[0][1]["dropped"] == report.dropped == events[1][1]["dropped"]
    assert "dropped" in str(report)


def test_it_is_part_of_a_chain(model: ChatQwen):
    chain = trimmer(model, 800) | model.bind(max_tokens=3)
    answer = chain.invoke([*talk(40), HumanMessage("now?")])
    assert answer.usage_metadata["input_tokens"] <= 800


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"low_mark": 0.95}, "low_mark"),
        ({"high_mark": 1.2}, "high_mark"),
        ({"steps": ("forget",)}, "forget"),
        ({"reserve": 5000}, "no room"),
        ({"oversize": "cut"}, "oversize"),
    ],
)
def test_settings_are_checked(model: ChatQwen, options, match):
    with pytest.raises(InvalidParameterError, match=match):
        HistoryTrimmer(model, **options)


def test_the_budget_is_the_window_less_the_answer(model: ChatQwen):
    assert HistoryTrimmer(model).limits.budget == 2048 - 256
    assert HistoryTrimmer(model.model_copy(update={"max_tokens": 100})).limits.budget == 1948
    assert HistoryTrimmer(model, reserve=48, window=10**6).limits.budget == 2000


def test_a_history_that_says_the_same_as_another_one_keeps_its_own_messages(model: ChatQwen):
    def history(name):
        messages = [SystemMessage("s", id=f"{name}s"), HumanMessage("q", id=f"{name}h")]
        for i in range(8):
            call = {"name": "find", "args": {"q": "a" * 20}, "id": str(i)}
            messages.append(AIMessage("", tool_calls=[call], id=f"{name}{i}a"))
            messages.append(ToolMessage("b " * 150, tool_call_id=str(i), artifact=[name], id=f"{name}{i}t"))
        return messages

    trim = trimmer(model, 2000, keep_results=1)
    trim.invoke(history("first"))
    mine = history("mine")
    shown, report = trim.with_report(mine)
    assert report.cleared
    for message, place in zip(shown, report.kept, strict=True):
        assert message.id == mine[place].id
        assert (message is mine[place]) == (place not in report.cleared)
        if isinstance(message, ToolMessage):
            assert message.artifact == (None if place in report.cleared else ["mine"])
