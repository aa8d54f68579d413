"""Questions about times that the model cannot know."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda

from langchain_qwen import ChatQwen
from langchain_qwen.errors import InvalidMessagesError, UnknownParameterError
from langchain_qwen.grounding import AbstainReason, CutoffGuard, GroundedAnswerer, Timing
from tests.unit_tests.grounding.scripted import ScriptedModel

DAY = date(2026, 1, 2)


def sorter(news: str) -> ScriptedModel:
    """Says that questions with the word `news` are recent and do not last."""
    return ScriptedModel(states=lambda prompt: (news in prompt) == ("recent news?" in prompt))


@pytest.mark.parametrize(
    ("question", "timing"),
    [
        ("Who won the cup in 2025?", Timing.AFTER_CUTOFF),
        ("Who won the cup in 2010?", Timing.KNOWABLE),
        ("Who won the cup last year?", Timing.AFTER_CUTOFF),
        ("Who is currently the president?", Timing.MAY_HAVE_CHANGED),
        ("现在的总统是谁？", Timing.MAY_HAVE_CHANGED),
        ("What is two plus two?", Timing.KNOWABLE),
        ("Who stepped down in the strike?", Timing.MAY_HAVE_CHANGED),
    ],
)
async def test_timing(question, timing):
    guard = CutoffGuard(sorter("strike"), as_of=DAY)
    verdict = guard.invoke(question)
    assert verdict.timing is timing
    assert verdict.knowable == (timing is Timing.KNOWABLE)
    assert await guard.ainvoke([HumanMessage(question)]) == verdict


def test_without_a_model_only_words_tell():
    guard = CutoffGuard(as_of=DAY)
    assert guard.invoke("Who stepped down in the strike?").knowable
    assert not guard.invoke("Who stepped down in 2025?").knowable


def test_before_the_cutoff_all_is_knowable():
    guard = CutoffGuard(sorter("strike"), as_of=date(2020, 1, 1))
    assert guard.invoke("Who is currently on strike?").knowable
    moved = CutoffGuard(as_of=DAY, knowledge_cutoff=date(2025, 12, 1))
    assert moved.invoke("Who won in 2025?").knowable


async def test_a_guarded_model_abstains_or_asks_elsewhere():
    guard = CutoffGuard(as_of=DAY)
    model = RunnableLambda(lambda _: AIMessage("from memory"))
    guarded = guard.guarded(model)
    assert guarded.invoke("What is two plus two?").text == "from memory"
    answer = guarded.invoke("Who won in 2025?")
    assert answer.text == "2025: I do not know. My knowledge ends about 2023-12."
    german = guarded.invoke("Wer hat die Wahl im Jahr 2025 gewonnen?")
    assert german.text == "2025: Das weiß ich nicht. Mein Wissen endet etwa 2023-12."
    assert guarded.invoke("今天的天气怎么样？").text == "我不知道。我的知识大约截止到 2023-12。"
    assert answer.additional_kwargs["cutoff_verdict"]["timing"] == "after_cutoff"
    assert (await guarded.ainvoke("Who won in 2025?")).text == answer.text
    documents = [Document(id="a", page_content="The Reds won in 2025.")]
    grounded = GroundedAnswerer(
        RunnableLambda(lambda _: documents),
        ScriptedModel(states="Reds", answer="The Reds won.", quotes='"The Reds won in 2025." [1]'),
        as_of=DAY,
    )
    routed = guard.guarded(model, otherwise=grounded)
    assert routed.invoke([HumanMessage("Who won in 2025?")]).text == "The Reds won. [1]"
    assert (await routed.ainvoke("Who won in 2026?")).abstained is AbstainReason.NO_DATED_EVIDENCE


class Runs(BaseCallbackHandler):
    """The names of runs, each with that of the run around it."""

    run_inline = True

    def __init__(self):
        self.names: dict[Any, str] = {}
        self.seen: list[tuple[str | None, str]] = []

    def _note(self, name, run_id, parent_run_id):
        assert run_id not in self.names
        self.names[run_id] = name
        self.seen.append((self.names.get(parent_run_id), name))

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, **kwargs):
        self._note(kwargs["name"], run_id, parent_run_id)

    def on_chat_model_start(self, serialized, messages, *, run_id, parent_run_id=None, **kwargs):
        self._note("model", run_id, parent_run_id)


async def test_a_guard_has_a_run_of_its_own():
    guard, asked = CutoffGuard(sorter("strike"), as_of=DAY), "Who stepped down?"
    for awaited in (False, True):
        runs, run_id = Runs(), uuid4()
        config = {"callbacks": [runs], "run_name": "cutoff", "run_id": run_id}
        assert (await guard.ainvoke(asked, config) if awaited else guard.invoke(asked, config)).knowable
        assert runs.seen == [(None, "cutoff"), *[("cutoff", "model")] * 4]
        assert runs.names[run_id] == "cutoff"


async def test_arguments_of_a_call_go_to_the_model(tiny_checkpoint):
    with ChatQwen(model=str(tiny_checkpoint), precision="int8", temperature=0, max_tokens=12) as model:
        asked = "How many sides does it have?"
        guarded = CutoffGuard(model, as_of=DAY).guarded(model, unsure_above=None)
        for call in (guarded, guarded.bind(max_tokens=3), CutoffGuard(model).guarded(model, unsure_above=1.0)):
            said = call.invoke(asked, seed=1, max_tokens=3)
            assert said.text == model.invoke(asked, max_tokens=3).text != model.invoke(asked).text
            assert (await call.ainvoke(asked, max_tokens=3)).text == said.text
            assert "".join(chunk.text for chunk in call.stream(asked, max_tokens=3)) == said.text
            assert "".join([chunk.text async for chunk in call.astream(asked, max_tokens=3)]) == said.text
        grammar = {"type": "grammar", "grammar": 'start: "px"'}
        unsure = CutoffGuard(model, as_of=DAY).guarded(model, unsure_above=0)
        assert unsure.invoke(asked, response_format=grammar).text == "px"  # a form is kept
        with pytest.raises(UnknownParameterError, match="temprature"):
            guarded.invoke(asked, temprature=1)


def test_its_input_has_a_schema():
    guarded = CutoffGuard(as_of=DAY).guarded(RunnableLambda(lambda _: AIMessage("x")))
    assert guarded.get_input_jsonschema()
    assert guarded.get_output_jsonschema()


def test_no_question():
    with pytest.raises(InvalidMessagesError, match="question"):
        CutoffGuard().invoke([AIMessage("Hello")])


def test_fake_models_without_logprobs_are_refused():
    model = GenericFakeChatModel(messages=iter(["Yes"] * 4))
    with pytest.raises(ValueError, match="log probabilities"):
        CutoffGuard(model, as_of=DAY).invoke("Why?")
