"""Which sentences are quoted for a statement."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document

from langchain_qwen.grounding.conflicts import candidates
from langchain_qwen.grounding.passages import read_passages
from langchain_qwen.grounding.quoting import Quoter
from langchain_qwen.grounding.verifying import support

POWER = (
    "The power is vested in a President. He shall hold office for a term of four years. Nobody may be elected who is "
    "under thirty five years."
)
SENATE = "The Senate meets in June. In 1999 it had 100 members, and in 2001 it had 102."


def quoted(texts, statement, question=""):
    passages = read_passages([Document(text) for text in texts])
    found = Quoter(passages, question).quotes(statement)
    return [(one.passage, passages[one.passage].shown.text[one.start : one.end]) for one in found]


def test_the_nearest_sentence_is_quoted():
    assert quoted([POWER, SENATE], "The term of the President is four years.", "How long is the term?") == [
        (0, "He shall hold office for a term of four years."),
    ]
    assert quoted([POWER, SENATE], "It had 102 members in 2001.", "How many?") == [
        (1, "In 1999 it had 100 members, and in 2001 it had 102.")
    ]
    assert quoted([POWER, SENATE], "Zebras graze.") == []
    assert quoted([], "Zebras graze.") == []


@pytest.mark.parametrize("yes", ["Yes.", "Ja.", "Oui", "Да.", "是的。", "没有"])
def test_for_yes_or_no_the_sentence_about_the_question_is_quoted(yes):
    assert quoted([POWER, SENATE], yes, "Does the Senate meet in June?") == [(1, "The Senate meets in June.")]
    assert support(yes, SENATE).coverage == 1


def test_of_two_sentences_that_state_it_the_one_about_the_question_is_quoted():
    texts = ["Ann won the cup in 2009. Ben won the race in 2009."]
    assert quoted(texts, "2009.", "When did Ben win the race?") == [(0, "Ben won the race in 2009.")]
    assert quoted(texts, "2009.", "When did Ann win the cup?") == [(0, "Ann won the cup in 2009.")]


def test_all_passages_that_support_a_statement_are_quoted():
    texts = [
        "The bridge: it opened in 1932.",
        "Nobody came.",
        "The bridge opened in 1932, they say.",
        "It opened in 1933.",
    ]
    found = quoted(texts, "The bridge opened in 1932.", "When did the bridge open?")
    assert sorted(number for number, _ in found) == [0, 2]


def test_facts_from_two_passages_are_quoted_together():
    texts = ["Ann was born in Ulm in 1901.", "Ben was born in Kiel in 1877.", "Cid came from Rome."]
    found = quoted(texts, "Ann was born in 1901 and Ben in 1877.", "When were Ann and Ben born?")
    assert sorted(number for number, _ in found) == [0, 1]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.text(st.sampled_from("Ab 12.\n。一二"), max_size=30), min_size=1, max_size=4),
    st.text(st.sampled_from("Ab 12.一二"), max_size=20),
)
def test_quotes_are_verbatim_whatever_the_texts(texts, statement):
    documents = [Document(id=str(number), page_content=text) for number, text in enumerate(texts)]
    passages = read_passages(documents)
    quoter = Quoter(passages, "A 1?")
    for quote in quoter.quotes(statement):
        passage = passages[quote.passage]
        start, end = passage.source_span(quote.start, quote.end)
        assert texts[int(passage.document_id)][start:end] == passage.source_text(quote.start, quote.end)
        assert passage.source_text(quote.start, quote.end).strip()
    assert 0 <= quoter.nearest() <= 1
    assert isinstance(quoter.excerpt(statement), str)


def test_an_excerpt_holds_the_quoted_sentence_and_its_neighbors():
    passages = read_passages([Document(POWER), Document(SENATE)])
    excerpt = Quoter(passages, "How long is the term of office?").excerpt("Four years.")
    assert excerpt == POWER
    long = read_passages([Document(" ".join(f"Sentence {number} is here." for number in range(300)))])
    assert "Sentence 150 is here." in Quoter(long, "What is 150?").excerpt("Sentence 150.")
    assert len(Quoter(long, "What is 150?").excerpt("Sentence 150.")) < 1000


def conflicting(texts, question, answer):
    passages = read_passages([Document(id=str(number), page_content=text) for number, text in enumerate(texts)])
    found = candidates(question, answer, passages, Quoter(passages, question))
    return [(one.passage.document_id, one.text) for one in found]


def test_sentences_that_may_contradict_an_answer():
    texts = [
        "The bridge was opened in 1932.",
        "When the bridge was opened in 1933, the king came.",
        "The bridge is red.",
        "The mill is from 1950.",
        "Opened in 1932, the bridge is the oldest.",
    ]
    assert conflicting(texts, "When was the bridge opened?", "The bridge was opened in 1932.") == [
        ("1", "When the bridge was opened in 1933, the king came.")
    ]
    names = ["Ann Lee wrote the opera.", "The opera was written by Bo Yang.", "The opera by Ann Lee is long."]
    assert conflicting(names, "Who wrote the opera?", "Ann Lee wrote the opera.") == [
        ("1", "The opera was written by Bo Yang.")
    ]
    chinese = ["2018年的冠军是李明。", "2018年比赛的冠军是王强。", "2018年的冠军李明来自北京。"]
    assert conflicting(chinese, "谁是2018年的冠军？", "2018年的冠军是李明。") == [("1", "2018年比赛的冠军是王强。")]
    assert conflicting(names[:1], "Who wrote the opera?", "Ann Lee wrote the opera.") == []
    assert conflicting(texts, "When was the bridge opened?", "") == []
