"""What each server has to do, vLLM alone and under Ray Serve: ids, parameters, grammars, tools, personas, quotes."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel, Field

from langchain_qwen.engine import Finished, Request, Started, Token
from langchain_qwen.grounding import GroundedAnswerer
from langchain_qwen.personas import BulletsForm, LabelsForm, SentencesForm, TableForm, builtin
from tests.vllm.conftest import engine_of, prompt

MILL = "The old mill in Harburg was built in 1742 by Anna Keller. It burned down in 1810 and was rebuilt of stone."


class Review(BaseModel):
    restaurant: str
    rating: int = Field(ge=1, le=5)


def test_ids_go_both_ways(model):
    ids = prompt(model, "Name a river of France.")
    events = list(engine_of(model).stream(Request(ids, 12, frozenset({151645, 151643}), top_logprobs=3)))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    tokens = [event for event in events if isinstance(event, Token)]
    assert tokens
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs == tuple(sorted(token.top_logprobs, key=lambda entry: -entry[1]))
        assert token.logprob == token.top_logprobs[0][1]  # greedy: the likeliest
        assert token.logprob <= 0
    assert events[-1].completion_tokens == len(tokens)


def test_parameters_are_followed(model):
    seeded = [model.invoke("Invent a word.", temperature=1.5, seed=seed, max_tokens=12).text for seed in (1, 1, 2)]
    assert seeded[0] == seeded[1] != seeded[2]
    comma, full_stop = (model.get_token_ids(mark)[0] for mark in ",.")
    banned = {comma: -100.0, full_stop: -100.0}
    assert "," not in model.invoke("Count from one to ten, with commas.", logit_bias=banned, max_tokens=40).text
    assert model.invoke("Say hi.", ignore_eos=True, max_tokens=30).usage_metadata["output_tokens"] == 30
    assert model.invoke("Say hi.", min_tokens=20, max_tokens=30).usage_metadata["output_tokens"] >= 20
    stopped = model.invoke("Count from 1 to 9 as digits with spaces.", stop=["4"], max_tokens=60)
    assert "4" not in stopped.text
    assert stopped.response_metadata["finish_reason"] == "stop"


def test_min_tokens_under_a_grammar_let_it_end(model):
    bound = model.bind(response_format={"type": "grammar", "grammar": 'start: "yes" | "no"'})
    assert bound.invoke("Is water wet?", min_tokens=20, max_tokens=30).text in ("yes", "no")


def test_sync_and_async_streams_agree(model):
    question = "Name three colours."

    async def streamed():
        return "".join([chunk.text async for chunk in model.astream(question, max_tokens=24)])

    answer = model.invoke(question, max_tokens=24).text
    assert answer
    assert "".join(chunk.text for chunk in model.stream(question, max_tokens=24)) == answer
    assert asyncio.run(streamed()) == answer


def test_structured_output_fits(model):
    review = model.with_structured_output(Review).invoke("Chez Marie: the best soup of my life! Five stars.")
    assert isinstance(review, Review)


@pytest.mark.parametrize(
    "form",
    [
        BulletsForm(at_least=2, at_most=2),
        SentencesForm(at_most=1),
        LabelsForm(labels=("old", "new")),
        TableForm(max_rows=2),
        builtin("json_only").output,
    ],
    ids=lambda form: form.kind,
)
def test_forms_hold(model, form):
    persona = builtin("assistant").replace(output=form, retry_language=False)
    answer = (persona | model).invoke(f"Tell me of this mill.\n\n{MILL}", max_tokens=200)
    if answer.response_metadata["finish_reason"] == "stop":
        assert form.problem(answer.text) is None


def test_quotes_are_verbatim(model):
    answerer = GroundedAnswerer([MILL], model, abstain_above=None, on_unsupported="flag", max_answer_tokens=80)
    answer = answerer.invoke("When was the mill built?")
    assert answer.citations
    for citation in answer.citations:
        assert MILL[citation.source_start : citation.source_end] == citation.quote


def test_a_tool_is_called(model):
    def weather(city: str) -> str:
        """The weather of a city."""
        raise NotImplementedError

    (call,) = model.bind_tools([weather], tool_choice="any").invoke("How is the weather in Oslo?").tool_calls
    assert call["name"] == "weather"
    assert call["args"].keys() == {"city"}
