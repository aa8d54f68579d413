"""A decision model through LangChain's own middleware; the checkpoint is random, so that only the form is judged."""

from __future__ import annotations

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from langchain_qwen import ChatQwen, errors

core = pytest.importorskip("langchain_core.decisions", reason="langchain-core before 1.8 has no decision models")

from langchain.agents import create_agent  # noqa: E402
from langchain.agents.middleware import (  # noqa: E402
    AutoModeMiddleware,
    ModelChoice,
    ModelRouterMiddleware,
)

from langchain_qwen.decisions import QwenDecisionModel, _prompts  # noqa: E402
from langchain_qwen.yes_or_no import ONE_TOKEN, log_odds  # noqa: E402

QUESTIONS = {
    "urgent": core.Noul(instructions="Is this urgent?", criteria=core.NoulCriteria(true="It cannot wait.")),
    "team": core.Choice(instructions="Who answers this?", criteria={"billing": "Invoices.", "technical": None}),
    "anger": core.Score(instructions="How angry is this?", criteria=["Calm.", "Cross.", "Furious."]),
}


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint):
    with ChatQwen(model=str(tiny_checkpoint), precision="int8") as model:
        yield QwenDecisionModel(chat_model=model)


class Scripted(GenericFakeChatModel):
    def bind_tools(self, tools, **_):
        return self


def scripted(*messages) -> Scripted:
    return Scripted(messages=iter(messages))


async def test_all_kinds_of_questions_sync_async_and_in_batches(classifier):
    request = {"state": {"mail": "Our invoice is wrong!"}, "questions": QUESTIONS}
    response = classifier.invoke(request)
    assert 0 <= response.nouls["urgent"].noul <= 1
    choice, score = response.choices["team"], response.scores["anger"]
    assert list(choice.probabilities) == ["billing", "technical"]
    assert sum(choice.probabilities.values()) == pytest.approx(1)
    assert choice.confidence == choice.probabilities[choice.choice] == max(choice.probabilities.values())
    assert score.score == pytest.approx(sum(level * share for level, share in score.probabilities.items()))
    assert score.legend == {0: "Calm.", 1: "Cross.", 2: "Furious."}
    assert response.usage["output_tokens"] == 2 * (1 + 2 + 3)
    assert response.model == classifier.model == classifier.chat_model.model
    others = [await classifier.ainvoke(request), *classifier.batch([request]), *await classifier.abatch([request])]
    assert all(other == response for other in others)


def test_probabilities_are_the_log_odds_over_those_of_no_content(classifier):
    import math

    noul = {"q": QUESTIONS["urgent"]}
    asked = classifier.chat_model.bind(**ONE_TOKEN)
    of_state, of_nothing = (log_odds(asked.invoke(prompt)) for prompt in _prompts("help", noul))
    expected = 1 / (1 + math.exp(of_nothing - of_state))
    assert classifier.invoke({"state": "help", "questions": noul}).nouls["q"].noul == pytest.approx(expected)
    assert classifier.invoke({"state": "N/A", "questions": noul}).nouls["q"].noul == 0.5


def test_states_of_all_kinds(classifier):
    message = AIMessage("a", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "1"}])
    states = ["text", message, [HumanMessage("a"), message, ToolMessage("1", tool_call_id="1")], {"m": [message]}, []]
    questions = {"q": core.Noul(instructions={"ask": "Is it so?"})}
    for state in states:
        assert classifier.invoke({"state": state, "questions": questions}).nouls


def test_what_cannot_be_asked(classifier):
    image = HumanMessage([{"type": "image", "url": "https://example.org/a.png"}])
    noul = {"q": core.Noul(instructions="Is it so?")}
    for state, questions, error in (
        ("x", {}, errors.InvalidParameterError),
        ("x", {"q": core.Box(instructions="Where?")}, errors.UnsupportedContentError),
        (image, noul, errors.UnsupportedContentError),
        ({"a": object()}, noul, errors.UnsupportedContentError),
    ):
        with pytest.raises(error):
            classifier.invoke({"state": state, "questions": questions})
    with pytest.raises(errors.InvalidParameterError, match="sharpness"):
        QwenDecisionModel(chat_model=classifier.chat_model, sharpness=0)


async def test_langchains_router_takes_the_model_that_is_chosen(classifier):
    models = {name: scripted(*[AIMessage(name)] * 2) for name in ("small", "large")}
    router = ModelRouterMiddleware(
        choices={name: ModelChoice(model=model, criteria=f"{name} tasks") for name, model in models.items()},
        instructions="Which model suits the task?",
        classifier=classifier,
    )
    agent = create_agent(scripted(), middleware=[router])
    request = {"messages": [HumanMessage("prove the theorem")]}
    for state in (agent.invoke(request), await agent.ainvoke(request)):
        chosen = state["model_route"].choice
        assert state["messages"][-1].content == chosen
        assert state["model_route"].confidence >= 0.5


@pytest.mark.parametrize("risky", [True, False])
async def test_langchains_auto_mode_blocks_by_the_probability(classifier, risky, monkeypatch):
    ran = []

    @tool
    def delete(path: str) -> str:
        """Delete a file."""
        ran.append(path)
        return "deleted"

    # A random checkpoint knows no risk: what it says about the call leans it to one side.
    odds = iter([3.0 if risky else -3.0, 0.0] * 2)
    monkeypatch.setattr("langchain_qwen.decisions.log_odds", lambda said: next(odds))
    call = AIMessage("", tool_calls=[{"name": "delete", "args": {"path": "/"}, "id": "1"}])
    for way in ("invoke", "ainvoke"):
        ran.clear()
        agent = create_agent(
            scripted(call, AIMessage("done")),
            tools=[delete],
            middleware=[AutoModeMiddleware(tools=[delete], classifier=classifier)],
        )
        result = getattr(agent, way)({"messages": [HumanMessage("clean up")]})
        state = await result if way == "ainvoke" else result
        (said,) = [m for m in state["messages"] if isinstance(m, ToolMessage)]
        assert (said.status, bool(ran)) == (("error", False) if risky else ("success", True))
