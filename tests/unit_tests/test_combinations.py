"""Every part with every other: persona, guard, trimmer, tools, structured output, LangChain's wrappers, all six ways.

On a tiny checkpoint with random weights: what comes out makes no sense, but each part's promise can be seen in it. The
policy masks vowels, so a guarded answer has none; the persona's form is one of two labels; a schema fits or not; what
was sent is counted by the engine. A combination either keeps all promises of its parts or is a typed error.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from typing import Any, ClassVar

import jsonschema
import pytest
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import ConfigurableField, RunnableLambda

from langchain_qwen import ChatQwen, backends
from langchain_qwen.capabilities import local_model
from langchain_qwen.checkpoints import resolve
from langchain_qwen.configuring import ConfigurableModel
from langchain_qwen.engine.loading import load_engine
from langchain_qwen.errors import (
    CapabilityError,
    ContextOverflowError,
    EngineClosedError,
    InvalidParameterError,
    OutputTruncatedError,
    UnknownParameterError,
)
from langchain_qwen.grounding import CutoffGuard, GroundedAnswer, GroundedAnswerer
from langchain_qwen.history import HistoryTrimmer
from langchain_qwen.personas import LabelsForm, Persona
from langchain_qwen.safety import InputGuard, Policy, SafetyParser
from tests.completions_server import URL, CompletionsServer, reached_over
from tests.tiny import make_tiny_checkpoint

WINDOW = 1600
VOWELS = re.compile("[aeu]", re.IGNORECASE)
SCHEMA = {
    "title": "thing",
    "type": "object",
    "properties": {"xyz": {"type": "string", "maxLength": 6}, "w": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["xyz", "w"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "pqr", "description": "A tool.", "parameters": SCHEMA}}
LABELS = ("px", "qz")
POLICY = Policy.parse(
    {
        "name": "no-vowels",
        "version": "1",
        "refusal": {"en": "No."},
        "instructions": {"en": "Use no vowels."},
        "rules": [
            {
                "id": "vowels",
                "category": "profanity",
                "detector": {"pattern": "[aeu]", "whole_words": False},
                "severity": "low",
                "action": "rewrite",
                "replacement": "*",
                "applies_to": ["output"],
            }
        ],
    }
)
TURNS = [(HumanMessage(f"Message {n}. " + "word " * 12), AIMessage(f"Answer {n}.")) for n in range(30)]
HISTORY = [SystemMessage("Be brief."), *(message for turn in TURNS for message in turn), HumanMessage("And now?")]
SHORT: list[BaseMessage] = [HumanMessage("Hello there")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = make_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "small-window", window=WINDOW)
    with ChatQwen(model=str(folder), precision="int8", max_tokens=48, temperature=0) as model:
        yield model


@pytest.fixture(scope="module")
def remote(model, tmp_path_factory):
    """The same engine behind a server."""
    socket = tmp_path_factory.mktemp("server") / "s"
    engine, tokenizer = model._backend.engine(resolve(model.model)), model._open().tokenizer
    arguments = {"base_url": URL, "model": "qwen", "tokenizer": model.model}
    with (
        reached_over(socket),
        CompletionsServer(socket, engine, tokenizer),
        ChatQwen(**arguments, max_tokens=48, temperature=0) as remote,
    ):
        yield remote


def guarded(model: Any) -> Any:
    return SafetyParser(POLICY).guard(model)


EXTRAS = {
    "plain": lambda model: model,
    "tools": lambda model: model.bind_tools([TOOL], tool_choice="any"),
    "offered": lambda model: model.bind_tools([TOOL]),
    "schema": lambda model: model.bind(response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA}}),
    "structured": lambda model: model.with_structured_output(SCHEMA),
}
WRAPS = {
    "bare": lambda runnable, _: runnable,
    "bound": lambda runnable, _: runnable.bind(seed=3),
    "config": lambda runnable, _: runnable.with_config(tags=["a"]),
    "retry": lambda runnable, _: runnable.with_retry(stop_after_attempt=2),
    "fallbacks": lambda runnable, other: runnable.with_fallbacks([other]),
    "fields": lambda runnable, _: runnable.configurable_fields(temperature=ConfigurableField(id="heat")),
}
COMBINATIONS = [
    combination
    for combination in itertools.product((False, True), (False, True), (False, True), EXTRAS, WRAPS)
    # A field of the model can be made configurable on the model itself only.
    if not (combination[4] == "fields" and (combination[3] != "plain" or combination[1]))
]


def six_ways(runnable: Any, value: Any) -> list[Any]:
    """The results of invoke, stream, batch and their async twins; what was raised stands for a result."""

    def added(chunks: list[Any]) -> Any:
        if all(isinstance(chunk, AIMessageChunk) for chunk in chunks):
            return AIMessageChunk(content="") + chunks
        return chunks[-1]

    async def astreamed() -> Any:
        return added([chunk async for chunk in runnable.astream(value)])

    ways = [
        lambda: runnable.invoke(value),
        lambda: added(list(runnable.stream(value))),
        lambda: runnable.batch([value, value])[1],
        lambda: asyncio.run(runnable.ainvoke(value)),
        lambda: asyncio.run(astreamed()),
        lambda: asyncio.run(runnable.abatch([value, value]))[1],
    ]
    return [_result(way) for way in ways]


def _result(way: Any) -> Any:
    try:
        return way()
    except (
        *(ContextOverflowError, InvalidParameterError, OutputTruncatedError, CapabilityError),
        UnknownParameterError,
    ) as error:
        return error


def essence(result: Any) -> Any:
    """What must be the same in all six ways."""
    if isinstance(result, Exception):
        return type(result)
    if isinstance(result, AIMessage):
        return result.text, [(call["name"], call["args"]) for call in result.tool_calls]
    return result


@pytest.mark.parametrize(("persona", "guard", "trim", "extra", "wrap"), COMBINATIONS)
def test_all_promises_hold_together(model, persona, guard, trim, extra, wrap):
    hold_together(model, persona, guard, trim, extra, wrap)


@pytest.mark.parametrize(("persona", "guard", "trim", "extra", "wrap"), [c for c in COMBINATIONS if c[4] == "bare"])
def test_they_hold_at_a_server_too(remote, persona, guard, trim, extra, wrap):
    hold_together(remote, persona, guard, trim, extra, wrap)


def hold_together(model, persona, guard, trim, extra, wrap):
    base = guarded(model) if guard else model
    runnable = WRAPS[wrap](EXTRAS[extra](base), EXTRAS[extra](base))
    if persona:
        form = LabelsForm(labels=LABELS) if extra in ("plain", "schema") else None
        runnable = Persona(name="p", instructions="You sort.", output=form, language=None) | runnable
    reserve = 700  # the persona's own words and the schema come on top of what the trimmer counts
    tools = [TOOL] if extra in ("tools", "offered") else []
    if trim:
        runnable = HistoryTrimmer(base, reserve=reserve, tools=tools) | runnable
    results = six_ways(runnable, HISTORY if trim else SHORT)
    first = results[0]
    assert all(essence(result) == essence(first) for result in results), results
    if persona and extra == "schema":
        assert isinstance(first, InvalidParameterError)  # two forms contradict each other
        return
    assert not isinstance(first, Exception), first
    if isinstance(first, AIMessage):
        for result in results:
            assert result.usage_metadata["input_tokens"] <= WINDOW - 48
        if guard:
            assert not VOWELS.search(first.text)
            assert not VOWELS.search(json.dumps([list(call["args"].values()) for call in first.tool_calls]))
    if persona and extra == "plain":
        assert first.text in LABELS
    if extra == "tools" and first.tool_calls:
        (call,) = first.tool_calls
        jsonschema.validate(call["args"], SCHEMA)
    if extra == "schema" or extra == "structured":
        value = json.loads(first.text) if isinstance(first, AIMessage) else first
        jsonschema.validate(value, SCHEMA)
        assert not guard or not VOWELS.search(value["xyz"])


def test_how_many():
    assert len(COMBINATIONS) * 6 >= 1000


def test_configurable_fields_cannot_be_guarded_but_say_so(model):
    with pytest.raises(CapabilityError, match="guard the chat model"):
        guarded(model.configurable_fields(temperature=ConfigurableField(id="heat")))


@pytest.mark.parametrize(
    ("guard", "wrap"),
    [(guard, wrap) for guard in (False, True) for wrap in WRAPS if not (guard and wrap == "fields")],
)
def test_the_trimmer_counts_what_a_wrapped_model_is_sent(model, guard, wrap):
    base = guarded(model) if guard else model
    wrapped = WRAPS[wrap](base, base)
    trim = HistoryTrimmer(wrapped)
    messages, report = trim.with_report(HISTORY)
    assert wrapped.invoke(messages).usage_metadata["input_tokens"] == report.tokens_after
    assert report.tokens_after <= WINDOW - 48
    with pytest.raises(ContextOverflowError):
        wrapped.invoke([*HISTORY, *HISTORY[1:]])


def test_the_trimmer_counts_bound_tools_and_the_bound_length(model):
    bound = model.bind_tools([TOOL]).bind(max_tokens=100)
    messages, report = HistoryTrimmer(bound).with_report(HISTORY)
    assert report.budget == WINDOW - 100
    assert bound.invoke(messages).usage_metadata["input_tokens"] == report.tokens_after


def test_a_model_that_config_may_replace_cannot_be_counted_for(model):
    wandering = model.configurable_fields(model=ConfigurableField(id="model"))
    with pytest.raises(CapabilityError, match="configurable"):
        HistoryTrimmer(wandering)


class TestFieldsOfTheConfig:
    """`configurable_fields`, with a config that sets them."""

    HOT: ClassVar[Any] = {"configurable": {"heat": 0.5, "length": 200}}

    @pytest.fixture
    def configured(self, model):
        fields = {"temperature": ConfigurableField(id="heat"), "max_tokens": ConfigurableField(id="length")}
        return model.configurable_fields(**fields)

    def test_all_ways_give_the_same_and_it_streams(self, model, configured):
        plain = model.bind(temperature=0.5, max_tokens=200, seed=3)
        bound = configured.with_config(self.HOT).bind(seed=3)
        assert [essence(result) for result in six_ways(bound, SHORT)] == [essence(plain.invoke(SHORT))] * 6
        assert len(list(bound.stream(SHORT))) == len(list(plain.stream(SHORT))) > 2

    def test_weights_are_loaded_once(self, tmp_path, monkeypatch):
        loaded: list[Any] = []
        monkeypatch.setattr(
            backends, "load_engine", lambda *args, **kwargs: loaded.append(0) or load_engine(*args, **kwargs)
        )
        with ChatQwen(model=str(make_tiny_checkpoint(tmp_path / "m")), precision="int8", max_tokens=2) as alone:
            configured = alone.configurable_fields(temperature=ConfigurableField(id="heat"))
            for heat in (0.1, 0.2):
                configured.invoke(SHORT, {"configurable": {"heat": heat}})
            assert len(loaded) == 1
        with pytest.raises(EngineClosedError):
            configured.invoke(SHORT, {"configurable": {"heat": 0.3}})

    def test_bound_tools_and_schemas_leave_them_configurable(self, configured):
        (call,) = configured.bind_tools([TOOL], tool_choice="any").invoke(SHORT, self.HOT).tool_calls
        jsonschema.validate(call["args"], SCHEMA)
        cut = {"configurable": {"length": 3}}
        for method in ("json_schema", "function_calling"):
            structured = configured.with_structured_output(SCHEMA, method=method)
            jsonschema.validate(structured.invoke(SHORT, self.HOT), SCHEMA)
            with pytest.raises(OutputTruncatedError):
                structured.invoke(SHORT, cut)

    def test_values_out_of_range(self, configured):
        with pytest.raises(InvalidParameterError, match="temperature=-1"):
            configured.invoke(SHORT, {"configurable": {"heat": -1}})

    def test_saved_and_loaded(self, configured):
        kinds = {"valid_namespaces": ["langchain_qwen"], "allowed_objects": [ChatQwen, ConfigurableModel]}
        again = loads(dumps(configured.default.configurable_fields(seed=ConfigurableField(id="seed"))), **kinds)
        assert isinstance(again, ConfigurableModel)


def test_another_chat_model_is_refused_by_name():
    from langchain_core.language_models import FakeListChatModel

    with pytest.raises(CapabilityError, match="FakeListChatModel"):
        HistoryTrimmer(FakeListChatModel(responses=["a"]))
    with pytest.raises(CapabilityError, match="FakeListChatModel"):
        _ = guarded(FakeListChatModel(responses=["a"])).context_window


def test_a_guarded_model_is_as_local_as_the_model_within(model):
    safe = guarded(model)
    assert safe.context_window == WINDOW
    assert safe.prompter.count(SHORT) == safe.get_num_tokens_from_messages(SHORT) != model.prompter.count(SHORT)
    assert safe.prompter.count([]) == safe.get_num_tokens_from_messages([]) == 0  # where memories stop to cut
    form = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    sent = safe.bind(response_format=form).invoke(SHORT).usage_metadata["input_tokens"]
    assert safe.get_num_tokens_from_messages(SHORT, response_format=form) == sent
    safe.load()
    assert safe.warm([SystemMessage("Be brief. " * 12)]) > 0
    assert local_model(safe.with_retry()) is not None


def test_the_trimmer_counts_what_a_server_is_sent(remote):
    messages, report = HistoryTrimmer(remote).with_report(HISTORY)
    assert remote.invoke(messages).usage_metadata["input_tokens"] == report.tokens_after <= WINDOW - 48
    with pytest.raises(ContextOverflowError):
        remote.invoke([*HISTORY, *HISTORY[1:]])


@pytest.mark.parametrize(
    "first",
    [
        HistoryTrimmer,
        lambda _: InputGuard(SafetyParser(POLICY)),
        lambda _: CutoffGuard(),
        lambda model: GroundedAnswerer(["The mill."], model),
        lambda _: Persona(name="p", instructions="You sort."),
    ],
    ids=["trimmer", "input guard", "cutoff guard", "grounded", "persona"],
)
def test_what_a_call_brings_is_not_lost_at_the_first_step(model, first):
    for chain in (first(model), first(model) | RunnableLambda(lambda _: None)):
        ways = six_ways(chain.bind(stop=["x"]), "When was the mill built?")
        assert {type(result) for result in ways} == {UnknownParameterError}
        assert "model.bind(stop=...)" in str(ways[0])
    assert HistoryTrimmer(model).bind(tools=[TOOL]).invoke(SHORT) == SHORT


@pytest.mark.parametrize("wrap", ["bare", "bound", "config", "retry", "fallbacks"])
def test_a_wrapped_model_can_be_guarded(model, wrap):
    safe = guarded(WRAPS[wrap](model, model))
    assert not VOWELS.search(safe.invoke(SHORT).text)


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("wrap", ["bare", "bound", "retry", "fallbacks"])
def test_grounded_answers_over_any_of_them(model, guard, wrap):
    grounded(model, guard, wrap)


@pytest.mark.parametrize("guard", [False, True])
def test_grounded_answers_from_a_server(remote, guard):
    grounded(remote, guard, "bare")


def grounded(model, guard, wrap):
    base = guarded(model) if guard else model
    answerer = GroundedAnswerer(
        ["The mill was built in 1901."],
        WRAPS[wrap](base, base),
        max_prompt_tokens=400,
        max_answer_tokens=16,
        abstain_above=None,
    )
    for result in six_ways(answerer, "When was the mill built?"):
        assert isinstance(result, GroundedAnswer), result
