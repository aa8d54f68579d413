"""Grounded answers of a real model."""

from __future__ import annotations

from datetime import date

import pytest
from langchain_core.documents import Document

from langchain_qwen.grounding import AnswerText, Citation, CutoffGuard, GroundedAnswer, GroundedAnswerer

DOCUMENTS = [
    Document(
        id="bridge",
        page_content="The stone bridge of Tarnby was swept away in 1868.\nIts successor, a suspension bridge of 112 m, "
        'was opened on 19 March 1874.  Locals call it "the harp"\u200b.',
        metadata={"title": "The bridges of Tarnby", "date": "2011-04-02"},
    ),
    Document(id="mill", page_content="The paper mill of Tarnby closed in 1950 and burnt down two years later."),
    Document(id="zh", page_content="塔恩比镇的图书馆于1903年建成，藏书四万册。"),
]
SOURCES = {document.id: document.page_content for document in DOCUMENTS}


@pytest.fixture(scope="module")
def answerer(model):
    # The threshold is the 1.5B's; smaller models say Yes and No less clearly.
    return GroundedAnswerer(DOCUMENTS, model, as_of=date(2026, 1, 2), answerable_above=-50.0, on_unsupported="flag")


def test_quotes_are_verbatim(answerer):
    questions = ["When was the suspension bridge of Tarnby opened?", "When did the mill close?", "图书馆建于哪一年？"]
    cited = 0
    for answer in answerer.batch(questions):
        assert answer.abstained is None
        for citation in answer.citations:
            assert SOURCES[citation.document_id][citation.source_start : citation.source_end] == citation.quote
            assert answer.text[citation.answer_end :].startswith(f" [{citation.number}]")
            cited += 1
    assert cited


async def test_streams_are_the_answer(answerer):
    question = "When was the suspension bridge of Tarnby opened?"
    events = list(answerer.stream(question))
    answer = events[-1]
    assert isinstance(answer, GroundedAnswer)
    assert "".join(e.text for e in events if isinstance(e, AnswerText)) == answer.text
    assert tuple(e for e in events if isinstance(e, Citation)) == answer.citations
    assert answer.figures.cached_tokens > 0  # answer and quotes begin like the question about answerability
    again = await answerer.ainvoke(question)
    assert again.model_dump(exclude={"figures"}) == answer.model_dump(exclude={"figures"})


def test_what_no_passage_states_is_not_answered(model):
    answerer = GroundedAnswerer(DOCUMENTS, model, as_of=date(2026, 1, 2))
    assert answerer.invoke("What is the price of a ferry ticket in 2031?").abstained
    assert answerer.invoke("xyzzy?").abstained


def test_the_guard_asks_the_model(model):
    guard = CutoffGuard(model, as_of=date(2026, 1, 2))
    verdict = guard.invoke("Which company announced that it will close three of its factories?")
    timeless = guard.invoke("How many legs does a spider have?")
    assert verdict.news is not None
    assert timeless.news is not None
    assert verdict.news > timeless.news
