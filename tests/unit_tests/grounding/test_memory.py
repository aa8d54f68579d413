"""Answers from memory say where they are not sure."""

from __future__ import annotations

import math
from datetime import date

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.grounding import CutoffGuard
from langchain_qwen.grounding.memory import FromMemory
from langchain_qwen.grounding.risk import Logistic, calibration_of
from langchain_qwen.personas.languages import languages
from tests.unit_tests.grounding.scripted import ScriptedModel

UNSURE = "(I am not sure: this is from memory, without a source.)"
BEFORE = date(2020, 1, 1)
BY = Logistic(weights={"mean_log_probability": -1.0, "news": 1.0}, intercept=0.0, rows=1, limit=0.5)


def guarded(**options):
    model = ScriptedModel(answer="The Reds won the cup.", states=lambda _: 0.5, **options)
    return CutoffGuard(model, as_of=BEFORE).guarded(model)


async def test_an_unlikely_answer_says_that_it_is_not_sure_in_every_way_to_ask():
    model = guarded(log_probability=-2.0)
    said = model.invoke("Who won the cup?")
    assert said.text == f"The Reds won the cup.\n\n{UNSURE}"
    assert said.response_metadata["risk"] > calibration_of(None).memory.limit
    assert (await model.ainvoke("Who won the cup?")).text == said.text
    chunks = list(model.stream("Who won the cup?"))
    assert len(chunks) > 3
    assert sum(chunks[1:], chunks[0]).text == said.text
    assert "".join([chunk.text async for chunk in model.astream("Who won the cup?")]) == said.text
    assert [one.text for one in model.batch(["Who won the cup?"] * 2)] == [said.text] * 2


def test_a_likely_answer_stays_as_it_is():
    said = guarded(log_probability=-0.001).invoke("Who won the cup?")
    assert said.text == "The Reds won the cup."
    assert said.response_metadata["risk"] < calibration_of(None).memory.limit


def test_it_says_so_in_the_language_of_the_question():
    model = guarded(log_probability=-2.0)
    assert model.invoke("Wer hat im letzten Frühling den Pokal gewonnen?").text.endswith(languages()["de"].unsure)
    assert model.invoke("谁赢得了奖杯？").text.endswith(languages()["zh"].unsure)


def test_risk_is_read_off_odds_and_news():
    model = ScriptedModel(answer="Yes, it did.", log_probability=-0.5)
    said = FromMemory(model, "Did it rain?", news=1.5, by=BY, unsure_above=1.0).invoke("Did it rain?")
    assert said.response_metadata["risk"] == pytest.approx(1 / (1 + math.exp(-2.0)))
    assert said.text == "Yes, it did."


def test_blocks_get_a_block():
    message = AIMessage(
        [{"type": "text", "text": "Hm."}], response_metadata={"logprobs": {"content": [{"logprob": -3.0}]}}
    )
    model = ScriptedModel(answer="")
    told = FromMemory(model, "Did it rain?", news=0.0, by=BY, unsure_above=0.5)._told(message)
    assert told.content == [{"type": "text", "text": "Hm."}, {"type": "text", "text": f"\n\n{UNSURE}"}]
    assert message.content == [{"type": "text", "text": "Hm."}]


@pytest.mark.parametrize("tokens", [[], [{"logprob": -3.0}]])
def test_calls_and_answers_without_odds_have_no_risk(tokens):
    call = {"name": "look", "args": {}, "id": "1", "type": "tool_call"}
    message = AIMessageChunk(
        content="",
        tool_calls=[call] if tokens else [],
        response_metadata={"logprobs": {"content": tokens}},
    )
    told = FromMemory(ScriptedModel(answer=""), "Did it rain?", news=0.0, by=BY, unsure_above=0.0)._told(message)
    assert told == message


@pytest.mark.parametrize(
    ("guard", "options"),
    [
        (CutoffGuard(as_of=BEFORE), {}),
        (CutoffGuard(ScriptedModel(), as_of=BEFORE), {"unsure_above": None}),
    ],
)
def test_without_a_model_to_ask_or_by_wish_answers_stay(guard, options):
    model = ScriptedModel(answer="The Reds won.", log_probability=-5.0)
    said = guard.guarded(model, **options).invoke("Who won the cup?")
    assert said.text == "The Reds won."
    assert "risk" not in said.response_metadata


def test_a_model_elsewhere_is_left_alone():
    model = ScriptedModel(answer="The Reds won.", log_probability=-5.0, local=False)
    assert CutoffGuard(ScriptedModel(), as_of=BEFORE).guarded(model).invoke("Who won?").text == "The Reds won."


def test_a_form_is_kept():
    model = ScriptedModel(parts=("one",), log_probability=-5.0, states=lambda _: 0.5)  # parts: what a grammar allows
    bound = model.bind(response_format={"type": "grammar", "grammar": 'start: "1. one"'})
    said = CutoffGuard(model, as_of=BEFORE).guarded(bound).invoke("Who won?")
    assert said.text == "1. one"
    assert said.response_metadata["risk"] > 0.9


def test_a_limit_of_ones_own():
    model = ScriptedModel(answer="The Reds won.", log_probability=-0.1, states=lambda _: 0.5)
    guard = CutoffGuard(model, as_of=BEFORE)
    assert guard.guarded(model, unsure_above=0).invoke("Who won?").text.endswith(UNSURE)
    assert guard.guarded(model, unsure_above=1).invoke("Who won?").text == "The Reds won."
    for wrong in (-0.1, 1.1, "high", float("nan")):
        with pytest.raises(InvalidParameterError, match="unsure_above"):
            guard.guarded(model, unsure_above=wrong)
