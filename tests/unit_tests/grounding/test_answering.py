"""From a question to a grounded answer, around a model whose answers are written down."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_qwen.errors import InvalidMessagesError, InvalidParameterError
from langchain_qwen.grounding import AbstainReason, AnswerText, Citation, GroundedAnswer, GroundedAnswerer, prompts
from langchain_qwen.grounding.composing import Composer, Evidence
from langchain_qwen.grounding.parts import asks_for_several
from langchain_qwen.grounding.passages import read_passages
from langchain_qwen.grounding.verifying import Support
from langchain_qwen.personas.detection import detect
from tests.unit_tests.grounding.scripted import ScriptedModel

BRIDGE = "The old bridge fell.  The new bridge\u200b was opened on 19 March 1932. It was paid for by Ana Ferreira."
MILL = "The mill closed in 1950."
DOCUMENTS = [
    Document(id="mill", page_content=MILL, metadata={"date": "1999-01-01"}),
    Document(id="bridge", page_content=BRIDGE, metadata={"date": "2001-05-01", "title": "Local <history>"}),
]
DAY = date(2026, 1, 2)


def answerer(model, documents=DOCUMENTS, **options):
    return GroundedAnswerer(RunnableLambda(lambda _: documents), model, **{"as_of": DAY, **options})


def bridge_model(answer="The bridge was opened in 1932.", **options):
    return ScriptedModel(**{"states": "bridge", "answer": answer, **options})


def test_an_answer_with_its_quote():
    model = bridge_model()
    answer = answerer(model).invoke("When was the bridge opened?")
    assert answer.text == "The bridge was opened in 1932. [1]"
    assert answer.plain_text == "The bridge was opened in 1932."
    (citation,) = answer.citations
    assert answer.text[citation.answer_start : citation.answer_end] == "The bridge was opened in 1932."
    assert BRIDGE[citation.source_start : citation.source_end] == citation.quote
    assert citation.quote == "The new bridge\u200b was opened on 19 March 1932."
    assert (citation.document_id, citation.document_date) == ("bridge", date(2001, 5, 1))
    assert answer.abstained is None
    assert (answer.as_of, answer.evidence_date) == (DAY, date(2001, 5, 1))
    assert answer.figures.output_tokens == 5
    assert [one.kind for one in answer.suspicious] == ["invisible"]
    assert answer.risk is not None
    assert 0 < answer.risk < 1


def test_the_answer_is_that_of_the_plain_prompt_over_all_passages():
    model = bridge_model()
    answerer(model, DOCUMENTS[:1]).invoke("When did the mill close?")
    answerer(model).invoke("When was the bridge opened?")
    dated = next(prompt for prompt in model.prompts if "Local <history>" in prompt[0].text)
    assert "Today is 2026-01-02.\nQuestion: When was the bridge opened? \nContext: (1999-01-01) " in dated[0].text
    assert f"{MILL}\n\n(2001-05-01, Local <history>) The old bridge" in dated[0].text
    # Without dates it is LangChain's prompt to the letter.
    plain = bridge_model()
    answerer(plain, [Document(MILL), Document("The old bridge fell.")]).invoke("When did the mill close?")
    assert [message.type for message in plain.prompts[0]] == ["human"]
    assert plain.prompts[0][0].text == (
        "You are an assistant for question-answering tasks. Use the following pieces of retrieved context to answer "
        "the question. If you don't know the answer, just say that you don't know. Use three sentences maximum and "
        f"keep the answer concise.\nQuestion: When did the mill close? \nContext: {MILL}\n\nThe old bridge fell. "
        "\nAnswer:"
    )


@pytest.mark.parametrize(
    ("document", "question", "language"),
    [
        ("Die kleine Glocke läutet jeden Samstag.", "Wann läutet die kleine Glocke?", " Answer in German."),
        ("小さい鐘は土曜日ごとに鳴る。", "小さい鐘はいつ鳴りますか。", " Answer in Japanese."),
        ("小钟每周六响。", "小钟什么时候响？", ""),
        ("The small bell rings each Saturday.", "Wann läutet die kleine Glocke?", ""),
        ("Die kleine Glocke läutet jeden Samstag.", "When does the small bell ring?", ""),
        ("1932.", "1932?", ""),
    ],
)
def test_the_language_is_named_where_question_and_passages_share_it(document, question, language):
    model = ScriptedModel()
    answerer(model, [Document(document)]).invoke(question)
    assert f"answer concise.{language}\nQuestion: {question} " in model.prompts[0][-1].text


def test_the_language_is_told_once_however_many_passages_are_tried(monkeypatch):
    told = []
    monkeypatch.setattr(prompts, "detect", lambda text: told.append(text) or detect(text))
    model = bridge_model()
    documents = [Document(f"Die kleine Glocke Nummer {number} läutet jeden Samstag.") for number in range(9)]
    answerer(model, documents).invoke("Wann läutet die kleine Glocke?")
    assert "Answer in German." in model.prompts[0][-1].text
    assert len(told) == 2  # of the question and of the passages


def test_what_is_asked_of_an_answer_begins_like_it():
    model = bridge_model()
    answerer(model).invoke("When was the bridge opened?")
    answerer(model).invoke("Who paid for the bridge?")
    first, second = model.prompts[:3], model.prompts[3:]
    # Behind the passages that were read, or behind examples that are the same for every question.
    confirmed = next(check for check in first if check[0] == first[0][0] and len(check) == 3)
    assert confirmed[1].text == model.answer
    others = [sorted((check[:-1] for check in asked if len(check) > 3), key=str) for asked in (first, second)]
    assert len(others[0]) == 1
    assert others[0] == others[1]


def test_streaming_gives_the_pieces_of_the_answer():
    statements = "The bridge was opened in 1932. Ana Ferreira paid."
    for mode in ("drop", "flag", "abstain"):
        runnable = answerer(bridge_model(statements), on_unsupported=mode)
        events = list(runnable.stream("When was the bridge opened?"))
        answer = events[-1]
        assert isinstance(answer, GroundedAnswer)
        assert "".join(e.text for e in events if isinstance(e, AnswerText)) == answer.text
        assert answer.text == "The bridge was opened in 1932. [1] Ana Ferreira paid. [2]"
        assert tuple(e for e in events if isinstance(e, Citation)) == answer.citations
        assert [c.number for c in answer.citations] == [1, 2]
        first = next(n for n, e in enumerate(events) if isinstance(e, Citation))
        assert "".join(e.text for e in events[:first] if isinstance(e, AnswerText)).startswith("The bridge was opened")
    # Live text comes in the model's pieces, before any citation.
    live = list(answerer(bridge_model(statements), on_unsupported="flag").stream("When was the bridge opened?"))
    assert len([e for e in live if isinstance(e, AnswerText)]) > 10


def test_live_text_waits_for_a_question_only_where_the_words_leave_doubt():
    def asked_first(question, **settings):
        model = bridge_model()
        list(answerer(model, on_unsupported="flag", **settings).stream(question))
        return model.prompts[0][-1].text

    assert "Context:" in asked_first("When was the bridge opened?")
    assert "Does the passage state" in asked_first("Which hotel did Albert Meier found in 1815?")
    assert "Does the passage state" in asked_first("When was the bridge opened?", abstain_above=0.5)


@pytest.mark.parametrize("mode", ["drop", "flag", "abstain"])
def test_a_sentence_without_support(mode):
    statements = "The bridge was opened in 1932. It cost 500 dollars."
    answer = answerer(bridge_model(statements), on_unsupported=mode, abstain_above=None).invoke(
        "When was the bridge opened?"
    )
    (unsupported,) = answer.unsupported
    assert (unsupported.text, unsupported.missing) == ("It cost 500 dollars.", ("500",))
    if mode == "drop":
        assert answer.text == "The bridge was opened in 1932. [1]"
    elif mode == "flag":
        assert answer.text == "The bridge was opened in 1932. [1] It cost 500 dollars. [2]"
        assert answer.text[unsupported.answer_start : unsupported.answer_end] == unsupported.text
        assert answer.plain_text == statements
    else:
        assert answer.abstained is AbstainReason.UNSUPPORTED
        assert answer.citations == ()
        assert answer.nearest
        assert answer.nearest.text == BRIDGE


@pytest.mark.parametrize("mode", ["drop", "flag"])
def test_it_abstains_where_the_risk_is_above_what_one_accepts(mode):
    model = bridge_model("The castle was built by Ivo Brand.", states="castle hill", confirms=0.05)
    model.log_probability = -2.0
    events = list(answerer(model, on_unsupported=mode, abstain_above=0.5).stream("Who built the castle?"))
    answer = events[-1]
    assert answer.abstained is AbstainReason.NOT_STATED
    assert [type(e) for e in events] == [AnswerText, GroundedAnswer]
    assert answer.risk is not None
    assert answer.risk > 0.5
    assert answer.nearest
    # Live, that is decided before there is any text.
    assert len(model.prompts) == (1 if mode == "flag" else 3)
    unbound = answerer(model, on_unsupported=mode, abstain_above=None, min_coverage=0).invoke("Who built the castle?")
    assert unbound.abstained is (None if mode == "flag" else AbstainReason.UNSUPPORTED)


def test_the_surer_the_model_the_smaller_the_risk():
    def risk(**options):
        return answerer(bridge_model(**options)).invoke("When was the bridge opened?").risk

    assert risk(confirms=0.99) <= risk(confirms=0.5) <= risk(confirms=0.01)
    assert risk(states=lambda _: 0.99) <= risk(states=lambda _: 0.01)
    assert risk(log_probability=-0.01) <= risk(log_probability=-3.0)
    # What it finds when it reads the nearest sentences alone.
    assert risk(finds="19 March 1932") < risk(finds="Ana Ferreira")


def test_an_answer_that_says_that_there_is_none_is_none():
    model = bridge_model("The builder is not mentioned in the passages. The bridge is old.")
    assert answerer(model).invoke("Who built the bridge?").abstained is AbstainReason.NOT_STATED
    assert answerer(bridge_model("I don't know.")).invoke("Who built it?").abstained is AbstainReason.NOT_STATED


def test_it_abstains_where_nothing_is_found():
    answer = answerer(ScriptedModel(), []).invoke("Why?")
    assert (answer.abstained, answer.nearest) == (AbstainReason.NOTHING_RETRIEVED, None)


def test_a_year_that_the_model_cannot_know_and_no_passage_names():
    model = bridge_model()
    assert answerer(model).invoke("Was the bridge open in 2025?").abstained is AbstainReason.NO_DATED_EVIDENCE
    assert model.prompts == []
    for day in ("2025-01-01", "2026-07-01"):  # what was written later can speak of it
        dated = [Document(BRIDGE, metadata={"date": day})]
        assert answerer(model, dated).invoke("Was the bridge open in 2025?").abstained is not (
            AbstainReason.NO_DATED_EVIDENCE
        )


def test_a_judge_has_the_last_word():
    asked = []

    def judge(*arguments):
        asked.append(arguments)
        return False

    answer = answerer(bridge_model(), judge=judge).invoke("When was the bridge opened?")
    assert answer.abstained is AbstainReason.UNSUPPORTED
    ((question, statement, evidence),) = asked
    assert (question, statement) == ("When was the bridge opened?", "The bridge was opened in 1932.")
    assert "19 March 1932" in evidence


async def test_async_and_batch_give_the_same():
    questions = ["When was the bridge opened?", "Was it open in 2025?"]
    runnable = answerer(bridge_model(), judge=lambda *_: True)

    def facts(answer):
        return answer.model_dump(exclude={"figures"})

    expected = [facts(runnable.invoke(question)) for question in questions]
    assert [facts(a) for a in runnable.batch(questions)] == expected
    assert [facts(a) for a in await runnable.abatch(questions)] == expected
    assert facts(await runnable.ainvoke(questions[0])) == expected[0]
    streamed = [event async for event in runnable.astream(questions[0])]
    assert facts(streamed[-1]) == expected[0]
    assert [type(e) for e in streamed] == [type(e) for e in runnable.stream(questions[0])]


def test_a_chat_is_made_one_question():
    model = ScriptedModel(states="bridge", answer="When was the bridge opened?")
    asked = []
    runnable = GroundedAnswerer(RunnableLambda(lambda q: asked.append(q) or DOCUMENTS), model)
    runnable.invoke(
        [HumanMessage("Tell me of the bridge."), AIMessage("It is new."), HumanMessage("When was it opened?")]
    )
    assert asked == ["When was the bridge opened?"]


def test_a_first_question_stays_as_it_is_behind_a_system_message():
    asked = []
    model = bridge_model(replies={"Rewrite my last question": "What is your favorite color?"})
    runnable = GroundedAnswerer(RunnableLambda(lambda q: asked.append(q) or DOCUMENTS), model)
    question = HumanMessage("When was the bridge opened?")
    assert runnable.invoke([SystemMessage("You are a librarian."), question]).question == question.text
    assert asked == [question.text]


def test_a_question_whose_rewriting_is_cut_off_stays_as_it_was():
    class CutOff(ScriptedModel):
        def _generate(self, messages, *arguments, **options):
            result = super()._generate(messages, *arguments, **options)
            if messages[-1].text.startswith("Rewrite my last question"):
                result.generations[0].message.response_metadata["finish_reason"] = "length"
            return result

    asked = []
    model = CutOff(states="bridge", answer="It was opened in 1932.", replies={"Rewrite": "When was the"})
    runnable = GroundedAnswerer(RunnableLambda(lambda q: asked.append(q) or DOCUMENTS), model)
    runnable.invoke([HumanMessage("Tell me of it."), AIMessage("It is new."), HumanMessage("When was it opened?")])
    assert asked == ["When was it opened?"]


CONTRADICTED = [
    Document(id="a", page_content="The bridge was opened in 1932.", metadata={"date": "1990-01-01"}),
    Document(id="b", page_content="Ferries stopped when the bridge was opened in 1935.", metadata={"date": "2005"}),
    Document(id="c", page_content="The bridge was opened in 1936.", metadata={"date": "2010"}),
    Document(id="d", page_content="The bridge was opened in 1932 by the king."),
    Document(id="e", page_content="The mill closed in 1950."),
]


def test_passages_that_say_otherwise_are_found_and_said():
    model = bridge_model(says={"Second source": 0.9})
    answer = answerer(model, CONTRADICTED).invoke("When was the bridge opened?")
    assert answer.text == "The bridge was opened in 1932. [1]"
    assert [citation.document_id for citation in answer.citations] == ["a", "d"]  # all that support it
    assert [(one.document_id, one.statement) for one in answer.conflicts] == [
        ("c", "The bridge was opened in 1932."),  # the newest first
        ("b", "The bridge was opened in 1932."),
    ]
    for one in answer.conflicts:
        source = next(document for document in CONTRADICTED if document.id == one.document_id)
        assert source.page_content[one.source_start : one.source_end] == one.quote
    assert "c, 2010-01-01 says otherwise" in answer.markdown().replace("\\", "")
    assert "b, 2005-01-01 says otherwise" in answer._repr_html_()
    # The model has the last word.
    denied = answerer(bridge_model(says={"Second source": 0.1}), CONTRADICTED)
    assert denied.invoke("When was the bridge opened?").conflicts == ()


def test_a_question_for_several_facts_is_answered_in_parts():
    model = bridge_model(
        parts=("When was the bridge opened?", "When did the mill close?", "Who owns the castle?"),
        replies={"mill close?": "The mill closed in 1950.", "castle?": "The context does not mention the castle."},
    )
    question = "When was the bridge opened, when did the mill close, and who owns the castle?"
    answer = answerer(model, abstain_above=None).invoke(question)
    assert answer.text == (
        "The bridge was opened in 1932. [1]\nThe mill closed in 1950. [2] "
        "The documents do not answer this: Who owns the castle?"
    )
    assert [citation.document_id for citation in answer.citations] == ["bridge", "mill"]
    assert answer.missing == ("Who owns the castle?",)
    assert answer.plain_text.startswith("The bridge was opened in 1932.\nThe mill closed in 1950.")
    # Where the whole is too risky, the parts that are not are the answer.
    declined = model.model_copy(update={"answer": "I don't know."})
    declined.replies["bridge opened?"] = "The bridge was opened in 1932."
    assert answerer(declined, abstain_above=None).invoke(question).text == answer.text
    # An answer to the whole in which no part is found was split wrongly.
    wrong = bridge_model(
        parts=("Who owns the castle?", "Whose is the castle?"),
        replies={"Answer only this": "The context does not say."},
    )
    wrongly = answerer(wrong, abstain_above=None).invoke(question)
    assert (wrongly.text, wrongly.missing) == ("The bridge was opened in 1932. [1]", ())


@pytest.mark.parametrize(
    ("question", "several"),
    [
        ("When was the mill built, and who runs it today?", True),
        ("How tall and how heavy is it?", True),
        ("Who built it? When?", True),
        ("Wann wurde die Kirche gebaut und wer war der Architekt?", True),
        ("Quand et où est-elle née ?", True),
        ("谁写了这首歌，什么时候发行的？", True),
        ("长江和黄河分别有多长？", True),
        ("MU5735航班坠毁的时间和地点", True),
        ("What were the date and place of the crash?", True),
        ("Where do date palms and olive trees grow?", False),
        ("Who won the war between Sparta and Athens?", False),
        ("In which year did Marta and her team, who were favourites, win?", False),
        ("What was used to aid rescue and recovery efforts?", False),
        ("中国第三艘航母叫什么名字？", False),
    ],
)
def test_which_questions_ask_for_several_facts(question, several):
    assert asks_for_several(question) is several


def test_any_chat_model_will_do_and_what_is_lost_is_named():
    model = bridge_model(local=False)
    runnable = answerer(model)
    assert [line.split(":")[0] for line in runnable.lost] == [
        "no log probabilities, or a window too small for checks",
        "no grammar",
        "no exact counts",
    ]
    assert answerer(bridge_model()).lost == ()
    answer = runnable.invoke("When was the bridge opened?")
    assert answer.text == "The bridge was opened in 1932. [1]"
    assert answer.risk is not None
    assert len(model.prompts) == 1
    small = bridge_model(context_window=400)
    assert len(answerer(small).lost) == 2
    assert answerer(small, max_answer_tokens=20).invoke("When was the bridge opened?").abstained is not None


def test_callbacks_see_retriever_and_model():
    seen = []

    class Handler(BaseCallbackHandler):
        def on_chain_start(self, serialized, inputs, *, parent_run_id=None, name=None, **kwargs):
            seen.append((name, parent_run_id is None))

        def on_chat_model_start(self, serialized, messages, *, parent_run_id=None, **kwargs):
            seen.append(("model", parent_run_id is None))

    answerer(bridge_model()).invoke("When was the bridge opened?", {"callbacks": [Handler()]})
    assert seen[0] == ("GroundedAnswerer", True)
    assert seen.count(("model", False)) == 3


def test_documents_are_indexed_and_split():
    text = "The new bridge was opened on 19 March 1932."
    model = bridge_model()
    answer = GroundedAnswerer([MILL, Document(id="b", page_content=text)], model).invoke("When was the bridge opened?")
    assert answer.citations[0].document_id == "b"
    assert answer.citations[0].quote == text


def test_what_does_not_fit_is_told():
    answer = answerer(bridge_model(), max_prompt_tokens=20).invoke("When was the bridge opened?")
    assert answer.abstained is AbstainReason.NOTHING_RETRIEVED
    assert [(one.document_id, one.reason) for one in answer.left_out] == [("mill", "no room"), ("bridge", "no room")]


def test_all_that_a_retriever_gives_is_shown_unless_there_is_a_limit():
    documents = [Document(id=str(number), page_content=f"The bridge has arch number {number}.") for number in range(25)]
    for limit, shown in ((None, 20), (3, 3)):
        model = bridge_model()
        answer = answerer(model, documents, max_passages=limit).invoke("How many arches has the bridge?")
        assert model.prompts[0][0].text.count("The bridge has arch") == shown
        left_out = [(one.document_id, one.reason) for one in answer.left_out]
        assert left_out == [(str(number), "too many") for number in range(shown, 25)]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("Wem gehört die alte Burg oberhalb der Stadt?", "Die Dokumente beantworten diese Frage nicht"),
        ("这座城堡属于谁？", "文档中没有这个问题的答案"),
        ("Who owns the castle? Answer in Spanish.", "Los documentos no responden a esta pregunta"),
        ("Garrow?", "The documents do not answer this"),
    ],
)
def test_that_there_is_no_answer_is_said_in_the_language_of_the_question(question, said):
    assert answerer(ScriptedModel(), []).invoke(question).text.rstrip(".。") == said
    assert answerer(ScriptedModel(), [], abstain_text="?").invoke(question).text == "?"
    opened = "When was the bridge opened?"
    model = bridge_model(parts=(opened, question), replies={question: "I don't know."})
    answer = answerer(model, abstain_above=None).invoke("When was the bridge opened, and whose is the castle?")
    assert answer.text.endswith(f"{said}: {question}")
    model = model.model_copy(update={"parts": (opened, question)})
    own = answerer(model, abstain_above=None, missing_text="No {question}")
    assert own.invoke("When was the bridge opened, and whose is the castle?").text.endswith(f" No {question}")


def test_bad_input():
    model = ScriptedModel()
    for options, name in (
        ({"on_unsupported": "hide"}, "on_unsupported"),
        ({"min_coverage": 2}, "min_coverage"),
        ({"abstain_above": 1.5}, "abstain_above"),
        ({"abstain_above": "never"}, "abstain_above"),
        ({"missing_text": "Not found."}, "missing_text"),
        ({"calibration": "no such file"}, "calibrate"),
        ({"max_passages": 0}, "max_passages"),
        ({"max_answer_tokens": 0}, "max_answer_tokens"),
    ):
        with pytest.raises(InvalidParameterError, match=name):
            answerer(model, **options)
    for retriever, message in (
        ("text", "not one str"),
        (InMemoryVectorStore(DeterministicFakeEmbedding(size=4)), "as_retriever"),
        (7, "not one int"),
    ):
        with pytest.raises(InvalidParameterError, match=message):
            GroundedAnswerer(retriever, model)
    with pytest.raises(InvalidParameterError, match="these are"):
        GroundedAnswerer(model, RunnableLambda(lambda _: []))
    with pytest.raises(InvalidParameterError, match="has its own"):
        answerer(model, embeddings=DeterministicFakeEmbedding(size=4))
    for question in ("", [], [AIMessage("Hello")]):
        with pytest.raises(InvalidMessagesError, match="question"):
            answerer(model).invoke(question)


@settings(deadline=None, max_examples=100)
@given(st.text(st.sampled_from("Ab .\n。"), max_size=40), st.lists(st.integers(1, 5), min_size=40, max_size=40))
def test_live_text_does_not_depend_on_the_pieces(answer, sizes):
    whole = Composer(live=True)
    whole.feed(answer, final=True)
    pieces = Composer(live=True)
    emitted, start = [], 0
    for size in sizes:
        emitted += pieces.feed(answer[start : start + size])
        start += size
    emitted += pieces.feed("", final=True)
    assert pieces.text == "".join(one.text for one in emitted) == whole.text
    passage = read_passages([Document(page_content="x")])[0]
    for number, statement in enumerate(pieces.statements, 1):
        (citation,) = pieces.close([Evidence(passage, 0, 1)], Support((), 1.0), supported=True)
        assert pieces.text[citation.answer_start : citation.answer_end] == statement
        assert pieces.text[citation.answer_end :].startswith(f" [{number}]")


@pytest.mark.parametrize("mode", ["drop", "flag"])
def test_markers_stand_below_code_and_not_in_it(mode):
    code = "```bash\npip install langchain-qwen\nlangchain-qwen pull a. Now\n```"
    text = f"Install it:\n{code}\nIt needs pip."
    documents = [Document(id="d", page_content=f"How to install it:\n\n{code}\n\nIt needs pip.")]
    model = ScriptedModel(states="install", answer=text)
    answer = answerer(model, documents, on_unsupported=mode).invoke("How do I install it?")
    assert f"{code}\n[2]\nIt needs pip. [3]" in answer.text
    assert answer.plain_text == text
    for citation in answer.citations:
        assert answer.text[citation.answer_start : citation.answer_end] in (code, "Install it:", "It needs pip.")
    assert "\n\n```\npip install langchain-qwen\nlangchain-qwen pull a. Now\n```\n\n [2]" in answer.markdown()


def test_display():
    answer = answerer(bridge_model()).invoke("When was the bridge opened?")
    html = answer._repr_html_()
    assert "<sup>[1]</sup>" in html
    assert "Local &lt;history&gt;" in html
    assert "<details>" in html
    assert "<history>" not in html
    markdown = answer._repr_markdown_()
    assert r"**[1]** Local \<history\>, 2001-05-01" in markdown
    assert "As of 2026-01-02" in markdown
    statements = "The bridge was opened in 1932. Ana Ferreira paid."
    flagged = answerer(bridge_model(statements), on_unsupported="flag").invoke("When was the bridge opened?")
    assert flagged.markdown().startswith("The bridge was opened in 1932. [1] Ana Ferreira paid. [2]\n\n")
    assert flagged.plain_text == statements
    none = answerer(bridge_model("I don't know.")).invoke("Who built the castle?")
    assert "not stated" in none.markdown()
    assert "Nearest passage" in none._repr_html_()


class Letters(Embeddings):
    """Texts are near where they share letters."""

    def embed_documents(self, texts):
        return [[float(text.lower().count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


OTHERS = [f"{name} was born in Porto." for name in ("Ana", "Rui", "Eva", "Leo", "Ida", "Max")]


def test_so_few_documents_that_all_can_be_shown_are_shown_whatever_their_words():
    model = bridge_model()
    documents = [*OTHERS[:4], BRIDGE, MILL]
    answer = GroundedAnswerer(documents, model, abstain_above=None).invoke("Wann wurde die Bruecke geoeffnet?")
    assert answer.citations[0].document_id == "5"
    # Those with words of the question come first.
    first = GroundedAnswerer(documents, model).retriever.invoke("When did the mill close?")
    assert [document.id for document in first] == ["6", "5", "1", "2", "3", "4"]
    seven = GroundedAnswerer([*documents, OTHERS[4]], model, abstain_above=None)
    assert seven.invoke("Wann wurde die Bruecke geoeffnet?").abstained is AbstainReason.NOTHING_RETRIEVED


def test_with_an_embedding_model_retrieval_is_hybrid():
    # No word in common with the passage.
    question = "Wann wurde die Bruecke geoeffnet?"
    without = GroundedAnswerer([BRIDGE, *OTHERS], bridge_model(), abstain_above=None).invoke(question)
    assert without.abstained is AbstainReason.NOTHING_RETRIEVED
    hybrid = GroundedAnswerer([BRIDGE, MILL], bridge_model(), embeddings=Letters(), abstain_above=None)
    answer = hybrid.invoke(question)
    assert answer.citations[0].document_id == "1"
    assert answer.citations[0].quote == "The new bridge\u200b was opened on 19 March 1932."
    # Chunks of one document are told apart.
    long = Document(id="long", page_content="\n\n".join(f"{MILL} {'word ' * 150}{number}." for number in range(4)))
    found = GroundedAnswerer([long], bridge_model(), embeddings=Letters()).retriever.invoke("zebra")
    assert len({document.metadata["start_index"] for document in found}) == len(found) == 4


def test_a_question_in_another_language_than_the_documents():
    documents = [
        f"{BRIDGE} {MILL} The people of the town were glad about it, and many came to see what they had paid for."
    ]
    question = "Wann wurde denn die neue Brücke über den Fluss für die Leute der Stadt eröffnet?"
    assert GroundedAnswerer(documents, bridge_model()).invoke(question).hint is None
    documents += OTHERS
    told = GroundedAnswerer(documents, bridge_model()).invoke(question)
    assert told.abstained is AbstainReason.NOTHING_RETRIEVED
    assert told.hint
    assert "documents are in English and the question is in German" in told.hint
    assert "translate_queries" in told.markdown().replace("\\", "")
    model = bridge_model(replies={"Translate this question into English": "When was the new bridge opened?"})
    answer = GroundedAnswerer(documents, model, translate_queries=True, abstain_above=None).invoke(question)
    assert answer.question == "When was the new bridge opened?"
    assert answer.text == "The bridge was opened in 1932. [1]"
    assert answer.hint is None
    assert (
        GroundedAnswerer(documents, bridge_model(), abstain_above=None).invoke("When was the bridge opened?").hint
        is None
    )
