"""Blocks of summary: where they go, how long they get, and what happens when there is none."""

from __future__ import annotations

import itertools
import shelve

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableLambda

from langchain_qwen import ChatQwen
from langchain_qwen.history import HistoryTrimmer
from langchain_qwen.history.marks import is_summary, summary_message
from langchain_qwen.history.summaries import INSTRUCTION

HISTORY = [
    SystemMessage("Be brief."),
    *(m for i in range(60) for m in (HumanMessage(f"{i} " + "q " * 20), AIMessage(f"{i} " + "a " * 20))),
    HumanMessage("and now?"),
]


class Scripted(GenericFakeChatModel):
    """Answers in turn, and keeps what it was asked."""

    asked: list = []  # noqa: RUF012  pydantic copies it

    def _generate(self, messages, *args, **kwargs):
        self.asked.append((messages, kwargs))
        return super()._generate(messages, *args, **kwargs)


def scripted(*answers) -> Scripted:
    return Scripted(messages=iter(answers))


def trimmer(model: ChatQwen, summarizer, **options) -> HistoryTrimmer:
    options = {"steps": ("summarize", "drop"), "summary_tokens": 60, "window": 2000, **options}
    return HistoryTrimmer(model, reserve=100, summarizer=summarizer, **options)


def framed(*texts: str) -> list[str]:
    """What blocks of summary with these texts say."""
    return [summary_message(text).text for text in texts]


def test_blocks_are_added_behind_the_system_message(model: ChatQwen):
    summarizer = scripted(*(f"Part {i}." for i in range(99)))
    shown, report = trimmer(model, summarizer).with_report(HISTORY)
    blocks = [m.text for m in shown if is_summary(m)]
    assert len(blocks) > 3
    assert [m.text for m in shown[: 1 + len(blocks)]] == ["Be brief.", *blocks]
    assert blocks == framed(*(f"Part {i}." for i in range(len(blocks)))), "older blocks stay as they are"
    assert report.summarized
    assert not report.dropped
    assert report.tokens_after == model.get_num_tokens_from_messages(shown)
    assert report.summary_tokens > 0
    assert HistoryTrimmer(model, window=2000, reserve=100).invoke(shown) == shown


def test_the_prompt_goes_on_from_what_was_sent(model: ChatQwen):
    summarizer = scripted(*(f"Part {i}." for i in range(99)))
    trim, sent = trimmer(model, summarizer), []
    for end in range(2, len(HISTORY) + 1, 2):
        before, asked = sent, len(summarizer.asked)
        sent = trim.invoke(HISTORY[:end])
        if len(summarizer.asked) > asked:
            messages, kwargs = summarizer.asked[-1]
            assert messages[:-1] == before[: len(messages) - 1]
            assert messages[-1].text == INSTRUCTION.format(words=30)
            assert kwargs["max_tokens"] == 60
    assert summarizer.asked


def test_one_text_for_one_history(model: ChatQwen, tmp_path):
    with shelve.open(str(tmp_path / "summaries")) as store:
        first = trimmer(model, scripted(*(f"Part {i}." for i in range(99))), summaries=store).invoke(HISTORY)
    with shelve.open(str(tmp_path / "summaries")) as store:
        again = trimmer(model, scripted(), summaries=store)  # would have nothing to say
        shown, report = again.with_report(HISTORY)
    assert [m.text for m in shown] == [m.text for m in first]
    assert not report.summary_failures


async def test_async_is_the_same(model: ChatQwen):
    first = trimmer(model, scripted(*(f"Part {i}." for i in range(99)))).invoke(HISTORY)
    shown = await trimmer(model, scripted(*(f"Part {i}." for i in range(99)))).ainvoke(HISTORY)
    assert [m.text for m in shown] == [m.text for m in first]


@pytest.mark.parametrize("answers", [[], [""] * 99, ["no end " * 60] * 99])
def test_no_summary_means_dropping_and_a_word_about_it(model: ChatQwen, answers):
    trim = trimmer(model, scripted(*answers))
    shown, report = trim.with_report(HISTORY)
    assert not any(map(is_summary, shown))
    assert report.dropped
    assert not report.summarized
    assert report.summary_failures
    assert report.tokens_after <= report.budget
    assert trim.with_report(HISTORY)[0] == shown


def test_a_summarizer_that_gives_no_message_is_a_failure(model: ChatQwen):
    def text(messages, **_):
        return "a text"

    _, report = trimmer(model, RunnableLambda(text)).with_report(HISTORY)
    assert report.dropped
    assert "AttributeError" in report.summary_failures[0]


def test_a_long_summary_ends_with_a_sentence(model: ChatQwen):
    shown, _ = trimmer(model, scripted(*["One fact. Another. " + "and on " * 60] * 99)).with_report(HISTORY)
    assert {m.text for m in shown if is_summary(m)} == {*framed("One fact. Another.")}
    shown, _ = trimmer(model, scripted(*["一。二。" + "三" * 90] * 99)).with_report(HISTORY)
    assert {m.text for m in shown if is_summary(m)} == {*framed("一。二。")}


def test_many_blocks_are_folded_into_one(model: ChatQwen):
    summarizer = scripted(*(f"Part {i} " + "x" * 30 + "." for i in range(99)))
    trim = trimmer(model, summarizer)
    counts = []
    for end in range(2, len(HISTORY) + 1, 2):
        shown, report = trim.with_report(HISTORY[:end])
        blocks = [m for m in shown if is_summary(m)]
        counts.append(len(blocks))
        assert report.summary_tokens <= trim.limits.summaries_tokens
    assert max(counts) > 1
    assert any(later < earlier for earlier, later in itertools.pairwise(counts))


def test_an_instruction_may_hold_braces(model: ChatQwen):
    summarizer = scripted(*(f"Part {i}." for i in range(99)))
    trimmer(model, summarizer, summary_instruction='{"facts": []}, in {words} words').invoke(HISTORY)
    assert summarizer.asked[0][0][-1].text == '{"facts": []}, in 30 words'
