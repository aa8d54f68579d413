"""Grounded answers of a real model."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

from langchain_qwen.grounding import AnswerText, Citation, CutoffGuard, GroundedAnswer, GroundedAnswerer
from langchain_qwen.personas.languages import languages

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
    return GroundedAnswerer(DOCUMENTS, model, as_of=date(2026, 1, 2), abstain_above=None, on_unsupported="flag")


def test_quotes_are_verbatim(answerer):
    questions = ["When was the suspension bridge of Tarnby opened?", "When did the mill close?", "图书馆建于哪一年？"]
    cited = 0
    for answer in answerer.batch(questions):
        assert answer.abstained is None
        assert answer.risk is not None
        assert 0 < answer.risk < 1
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
    again = await answerer.ainvoke(question)
    assert again.model_dump(exclude={"figures"}) == answer.model_dump(exclude={"figures"})


def test_the_answer_is_the_plain_one_and_the_passages_are_read_once(model):
    passages = [document.page_content for document in DOCUMENTS[1:]]
    question = "When did the mill of Tarnby close?"
    context = "\n\n".join(passages)
    plain = model.invoke(
        "You are an assistant for question-answering tasks. Use the following pieces of retrieved context to answer "
        "the question. If you don't know the answer, just say that you don't know. Use three sentences maximum and "
        f"keep the answer concise.\nQuestion: {question} \nContext: {context} \nAnswer:"
    )
    retriever = RunnableLambda(lambda _: [Document(text) for text in passages])
    answerer = GroundedAnswerer(retriever, model, abstain_above=None, on_unsupported="flag")
    answerer.invoke("When was the library built?")  # the examples of the checks are read once, too
    answer = answerer.invoke(question)
    assert answer.plain_text == plain.text
    new = answer.figures.input_tokens - answer.figures.cached_tokens
    assert new < plain.usage_metadata["input_tokens"] + 300  # what was read anew: excerpts and questions


def test_what_no_passage_states_is_riskier(model):
    answerer = GroundedAnswerer(DOCUMENTS, model, as_of=date(2026, 1, 2))
    assert answerer.invoke("What is the price of a ferry ticket in 2031?").abstained
    assert answerer.invoke("xyzzy?").abstained
    stated = answerer.invoke("When was the suspension bridge of Tarnby opened?")
    absent = answerer.invoke("Who designed the suspension bridge of Tarnby?")
    assert stated.risk is not None
    assert absent.risk is not None
    assert stated.risk < absent.risk


def test_a_question_to_the_manual_is_answered(model):
    manual = (Path(__file__).parents[2] / "docs" / "index.md").read_text(encoding="utf-8")
    answer = GroundedAnswerer([manual], model).invoke("How do I install the package?")
    assert answer.abstained is None, answer.risk
    assert "pip install" in answer.text
    assert all(manual[one.source_start : one.source_end] == one.quote for one in answer.citations)


def test_the_guard_asks_the_model(model):
    guard = CutoffGuard(model, as_of=date(2026, 1, 2))
    verdict = guard.invoke("Which company announced that it will close three of its factories?")
    timeless = guard.invoke("How many legs does a spider have?")
    assert verdict.news is not None
    assert timeless.news is not None
    assert verdict.news > timeless.news


def test_an_unlikely_answer_from_memory_says_so(model):
    guarded = CutoffGuard(model, as_of=date(2020, 1, 1)).guarded(model.bind(max_tokens=60))
    sure = guarded.invoke("What is the capital of France?")
    unsure = guarded.invoke("Who was the mayor of Quedlinburg in 1731?")
    assert sure.response_metadata["risk"] < unsure.response_metadata["risk"]
    assert not sure.text.endswith(languages()["en"].unsure)
    assert unsure.text.endswith(languages()["en"].unsure)
