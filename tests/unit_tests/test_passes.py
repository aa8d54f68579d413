"""One call of the model may be several generations: what is decided first, after tool results, a schema beside tools.

The engine is scripted; all else is the real thing, in all four ways of calling.
"""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import StructuredTool, tool
from pydantic import BaseModel

from langchain_qwen import ChatQwen, errors
from langchain_qwen.backends import OnThisMachine
from langchain_qwen.output.deciding import WORDS
from langchain_qwen.output.passes import HINT
from langchain_qwen.safety import SafetyParser
from tests.tiny import make_tiny_checkpoint
from tests.unit_tests.scripted_engine import ScriptedEngine

WAYS = ["invoke", "ainvoke", "stream", "astream"]


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return city


@tool(extras={"repeatable": True})
def clock() -> str:
    """The time."""
    return "now"


class Weather(BaseModel):
    """The weather."""

    degrees: int


FORMAT = {"type": "json_schema", "json_schema": {"name": "Weather", "schema": Weather.model_json_schema()}}


def call(city: str) -> str:
    return f'<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'


CLOCK = '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'


def made(*calls: tuple[str, dict, str], status: str = "success") -> list:
    """What an agent adds to the conversation for these calls and results, one after the other."""
    messages = []
    for number, (name, arguments, result) in enumerate(calls):
        asked = {"name": name, "args": arguments, "id": f"c{number}", "type": "tool_call"}
        messages.append(AIMessage("", tool_calls=[asked]))
        messages.append(ToolMessage(result, tool_call_id=f"c{number}", status=status))
    return messages


ASKED = [HumanMessage("How is the weather in Oslo?")]
TOLD = [*ASKED, *made(("weather", {"city": "Oslo"}, "rain"))]


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return ChatQwen(model=str(tiny_checkpoint), temperature=0, max_tokens=300)


@pytest.fixture
def scripted(model, monkeypatch):
    def script(*texts: str) -> ScriptedEngine:
        engine = ScriptedEngine(model._open().tokenizer, *texts)
        monkeypatch.setattr(OnThisMachine, "engine", lambda *_a, **_k: engine)
        return engine

    return script


def ask(way: str, model, messages, **kwargs) -> AIMessage:
    match way:
        case "invoke":
            return model.invoke(messages, **kwargs)
        case "ainvoke":
            return asyncio.run(model.ainvoke(messages, **kwargs))
        case "stream":
            return sum(model.stream(messages, **kwargs), AIMessageChunk(content=""))
    return asyncio.run(_astream(model, messages, kwargs))


async def _astream(model, messages, kwargs):
    total = AIMessageChunk(content="")
    async for chunk in model.astream(messages, **kwargs):
        total += chunk
    return total


def prompt_of(model, engine, number):
    return model._open().tokenizer.decode(engine.requests[number].prompt_ids)


@pytest.mark.parametrize("way", WAYS)
class TestAfterToolResults:
    def test_words_come_in_one_pass(self, model, scripted, way):
        engine = scripted("It rains.")
        message = ask(way, model.bind_tools([weather]), TOLD)
        assert (message.content, len(engine.requests)) == ("It rains.", 1)
        assert HINT not in prompt_of(model, engine, 0)
        assert message.response_metadata["finish_reason"] == "stop"

    @pytest.mark.parametrize("first", [call("Oslo"), "", f"{call('Oslo')}\n{call('Oslo')}\n{call('Oslo')}"])
    def test_an_answered_call_gives_way_to_words(self, model, scripted, way, first):
        engine = scripted(first, "It rains.")
        message = ask(way, model.bind_tools([weather]), TOLD)
        assert (message.content, message.tool_calls, message.invalid_tool_calls) == ("It rains.", [], [])
        assert message.response_metadata["finish_reason"] == "stop"
        assert len(engine.requests) == engine.closed == 2
        assert prompt_of(model, engine, 1) == model.prompter.render([*TOLD, SystemMessage(HINT)], [_function(weather)])

    def test_usage_is_the_sum(self, model, scripted, way):
        engine = scripted(call("Oslo"), "It rains.")
        usage = ask(way, model.bind_tools([weather]), TOLD).usage_metadata
        tokens = model._open().tokenizer.llguidance
        generated = sum(len(tokens.tokenize_str(text, parse_special=True)) for text in (call("Oslo"), "It rains."))
        assert usage["input_tokens"] == sum(len(request.prompt_ids) for request in engine.requests)
        assert usage["output_tokens"] == generated
        assert usage["input_token_details"]["cache_read"] == 32

    def test_other_arguments_are_another_call(self, model, scripted, way):
        engine = scripted(call("Cairo"))
        message = ask(way, model.bind_tools([weather]), TOLD)
        assert [made["args"] for made in message.tool_calls] == [{"city": "Cairo"}]
        assert message.response_metadata["finish_reason"] == "tool_calls"
        assert len(engine.requests) == 1

    def test_of_several_calls_the_answered_ones_are_left_out(self, model, scripted, way):
        scripted(f"{call('Oslo')}\n{call('Cairo')}")
        message = ask(way, model.bind_tools([weather]), TOLD)
        assert [made["args"] for made in message.tool_calls] == [{"city": "Cairo"}]
        assert not message.invalid_tool_calls

    def test_a_repeatable_tool_may_be_called_again(self, model, scripted, way):
        scripted(CLOCK)
        message = ask(way, model.bind_tools([weather, clock]), [*ASKED, *made(("clock", {}, "1"))])
        assert [made["name"] for made in message.tool_calls] == ["clock"]

    def test_for_another_question_it_may_be_called_again(self, model, scripted, way):
        scripted(call("Oslo"))
        later = [*TOLD, AIMessage("rain"), HumanMessage("And now?"), *made(("weather", {"city": "Lima"}, "sun"))]
        assert ask(way, model.bind_tools([weather]), later).tool_calls

    def test_a_tool_that_failed_three_times_is_given_up(self, model, scripted, way):
        tried = made(*((("weather", {"city": city}, "no")) for city in "abc"), status="error")
        scripted(call("d"), "I could not find out.")
        assert ask(way, model.bind_tools([weather]), [*ASKED, *tried]).content == "I could not find out."
        scripted(call("d"))
        assert ask(way, model.bind_tools([weather]), [*ASKED, *tried[:4]]).tool_calls

    def test_it_can_be_turned_off_and_reworded(self, model, scripted, way):
        scripted(call("Oslo"))
        assert ask(way, model.bind_tools([weather]), TOLD, tool_hint=False).tool_calls
        engine = scripted(call("Oslo"), "It rains.")
        assert ask(way, model.bind_tools([weather]), TOLD, tool_hint="Say it.").content == "It rains."
        assert "system\nSay it." in prompt_of(model, engine, 1)

    def test_a_forced_call_is_one_of_another_tool(self, model, scripted, way):
        engine = scripted(call("Oslo"), CLOCK)
        message = ask(way, model.bind_tools([weather, clock], tool_choice="any"), TOLD)
        assert [made["name"] for made in message.tool_calls] == ["clock"]
        assert len(engine.requests) == 2
        scripted(call("Oslo"))
        assert ask(way, model.bind_tools([weather, clock], tool_choice="weather"), TOLD).tool_calls

    def test_stop_strings_and_log_probabilities_are_those_of_the_answer(self, model, scripted, way):
        scripted(call("Oslo"), "It rains. Much more.")
        message = ask(way, model.bind_tools([weather]), TOLD, stop=[" Much"], logprobs=True)
        assert message.content == "It rains."
        said = "".join(entry["token"] for entry in message.response_metadata["logprobs"]["content"])
        assert said == "It rains. Much"

    def test_a_cut_call_is_invalid_and_says_so(self, model, scripted, way):
        scripted(call("Cairo"))
        message = ask(way, model.bind_tools([weather]), TOLD, max_tokens=45)
        assert not message.tool_calls
        assert message.invalid_tool_calls
        assert message.response_metadata["finish_reason"] == "length"

    def test_one_deadline_for_both(self, model, scripted, way):
        engine = scripted(call("Oslo"), "It rains.")
        ask(way, model.bind_tools([weather]), TOLD, timeout=600)
        assert engine.requests[0].deadline == engine.requests[1].deadline

    def test_a_guarded_model_gains_too(self, model, scripted, way):
        scripted(call("Oslo"), "It rains.")
        guarded = SafetyParser("balanced").guard(model)
        assert ask(way, guarded.bind_tools([weather]), TOLD).content == "It rains."


@pytest.mark.parametrize("way", WAYS)
class TestSchemaBesideTools:
    def test_a_call_comes_first(self, model, scripted, way):
        engine = scripted(f"Let me see.\n{call('Oslo')}")
        message = ask(way, model.bind_tools([weather], response_format=FORMAT), ASKED)
        assert [made["name"] for made in message.tool_calls] == ["weather"]
        assert message.content == ""
        assert "JSON Schema" not in prompt_of(model, engine, 0)

    @pytest.mark.parametrize(("messages", "first"), [(ASKED, "It rains."), (TOLD, call("Oslo")), (TOLD, "")])
    def test_else_the_answer_under_the_schema(self, model, scripted, way, messages, first):
        engine = scripted(first, '{"degrees": 4}')
        message = ask(way, model.bind_tools([weather], response_format=FORMAT), messages)
        assert (message.content, message.tool_calls) == ('{"degrees": 4}', [])
        assert message.response_metadata["finish_reason"] == "stop"
        assert "JSON Schema" in prompt_of(model, engine, 1)
        assert engine.requests[1].constraint is not None
        assert "<tools>" in prompt_of(model, engine, 1)

    def test_long_talk_is_not_waited_for(self, model, scripted, way):
        engine = scripted("word " * 200, '{"degrees": 4}')
        message = ask(way, model.bind_tools([weather], response_format=FORMAT), ASKED)
        assert message.content == '{"degrees": 4}'
        assert message.usage_metadata["output_tokens"] < 300
        assert engine.closed == 2

    def test_what_is_cut_says_so(self, model, scripted, way):
        scripted("It rains.", '{"degrees": 4444}')
        message = ask(way, model.bind_tools([weather], response_format=FORMAT), ASKED, max_tokens=12)
        assert message.response_metadata["finish_reason"] == "length"


# What LangChain's ToolStrategy makes of a schema.
FORM = StructuredTool(name="Weather", description="The weather.", args_schema=Weather.model_json_schema())
FILLED = '<tool_call>\n{"name": "Weather", "arguments": {"degrees": 4}}\n</tool_call>'


@pytest.mark.parametrize("form", [FORM, Weather])
@pytest.mark.parametrize("way", WAYS)
class TestFormBesideTools:
    def test_a_call_comes_first(self, model, scripted, way, form):
        scripted(f"Let me see.\n{call('Oslo')}")
        message = ask(way, model.bind_tools([weather, form], tool_choice="any"), ASKED)
        assert [made["name"] for made in message.tool_calls] == ["weather"]
        assert message.content == ""

    @pytest.mark.parametrize(("messages", "first"), [(ASKED, "It rains."), (TOLD, call("Oslo")), (TOLD, "")])
    def test_else_the_form_is_filled_in(self, model, scripted, way, form, messages, first):
        engine = scripted(first, FILLED)
        message = ask(way, model.bind_tools([weather, form], tool_choice="any"), messages)
        assert (message.content, message.tool_calls[0]["args"]) == ("", {"degrees": 4})
        assert message.response_metadata["finish_reason"] == "tool_calls"
        scripted(first, call("Lima"))
        with pytest.raises(errors.EngineError, match="grammar"):
            ask(way, model.bind_tools([weather, form], tool_choice="any"), messages)
        assert engine.requests[1].constraint is not None

    def test_whatever_is_called_fits_its_schema(self, model, scripted, way, form):
        for call_ in (FILLED.replace("4", '"warm"'), call("Oslo").replace('"Oslo"', "7")):
            scripted(call_)
            with pytest.raises(errors.EngineError, match="grammar"):
                ask(way, model.bind_tools([weather, form], tool_choice="any"), ASKED)

    def test_it_is_decided_first(self, roomy, deciding, way, form):
        bound = roomy.bind_tools([weather, clock, form], tool_choice="any")
        deciding("weather(city=Oslo)\nweather(city=Lima)", f"{call('Oslo')}\n{call('Lima')}")
        assert len(ask(way, bound, ASKED).tool_calls) == 2
        engine = deciding("weather(city=Oslo)", "none", FILLED)
        assert [made["name"] for made in ask(way, bound, TOLD).tool_calls] == ["Weather"]
        assert "Weather" in prompt_of(roomy, engine, 2)

    def test_where_nothing_else_is_bound_it_is_a_call_like_others(self, model, scripted, way, form):
        engine = scripted(FILLED)
        assert ask(way, model.bind_tools([form], tool_choice="any"), ASKED).tool_calls
        assert len(engine.requests) == 1
        scripted("It rains.")
        assert ask(way, model.bind_tools([weather, form]), ASKED).content == "It rains."


@pytest.mark.parametrize("choice", ["none", {"type": "none"}])
@pytest.mark.parametrize("way", WAYS)
def test_none_shows_the_tools_and_forbids_calls(model, scripted, way, choice):
    engine = scripted("Hello.")
    assert ask(way, model.bind_tools([weather], tool_choice=choice), ASKED).content == "Hello."
    assert prompt_of(model, engine, 0) == model.prompter.render(ASKED, [_function(weather)])
    scripted(call("Oslo"))
    with pytest.raises(errors.EngineError, match="grammar"):
        ask(way, model.bind_tools([weather], tool_choice=choice), ASKED)


@pytest.mark.parametrize("way", WAYS)
def test_another_turn_ends_the_answer_and_control_tokens_are_no_text(model, scripted, way):
    scripted("It<|endoftext|>")
    assert ask(way, model, ASKED).content == "It"
    scripted("It rains.<|im_start|>user\nAnd now?")
    assert ask(way, model, ASKED).content == "It rains."


def test_callbacks_see_what_is_shown_and_nothing_else(model, scripted):
    class Tokens(BaseCallbackHandler):
        text, calls = "", 0

        def on_llm_new_token(self, token, *, chunk, **_):
            self.text += token
            self.calls += len(chunk.message.tool_call_chunks)

    scripted(call("Oslo"), "It rains.")
    seen = Tokens()
    streaming = model.model_copy(update={"streaming": True})
    streaming.bind_tools([weather]).invoke(TOLD, config={"callbacks": [seen]})
    assert (seen.text, seen.calls) == ("It rains.", 0)


def test_text_is_shown_as_it_comes(model, scripted):
    scripted("It rains, and " + "more " * 20)
    texts = [chunk.text for chunk in model.bind_tools([weather]).stream(TOLD)]
    assert sum(bool(text) for text in texts) > 20


def test_closing_a_stream_ends_the_pass_that_runs(model, scripted):
    engine = scripted(call("Oslo"), "It rains a lot.")
    stream = model.bind_tools([weather]).stream(TOLD)
    next(stream)
    stream.close()
    assert (len(engine.requests), engine.closed) == (2, 2)


def test_extras_are_neither_shown_nor_counted(model, scripted):
    engine = scripted("x")
    usage = model.bind_tools([clock]).invoke(ASKED).usage_metadata
    assert "repeatable" not in prompt_of(model, engine, 0)
    assert usage["input_tokens"] == model.get_num_tokens_from_messages(ASKED, tools=[clock])


def test_a_dict_may_say_that_it_is_repeatable(model, scripted):
    scripted(CLOCK)
    bound = model.bind_tools([{**_function(clock), "extras": {"repeatable": True}}])
    assert bound.invoke([*ASKED, *made(("clock", {}, "1"))]).tool_calls


def test_a_failed_tool_is_said_to_have_failed(model):
    failed = made(("weather", {"city": "x"}, "no such city"), status="error")
    assert "Error: no such city" in model.prompter.render([*ASKED, *failed])
    plain = made(("weather", {"city": "x"}, "Error: no such city"), status="error")
    assert "Error: Error" not in model.prompter.render([*ASKED, *plain])


def _function(one):
    from langchain_core.utils.function_calling import convert_to_openai_tool

    return convert_to_openai_tool(one)


@pytest.fixture(scope="module")
def roomy(tmp_path_factory):
    """A model whose window holds the question about calls."""
    folder = make_tiny_checkpoint(tmp_path_factory.mktemp("roomy") / "roomy", window=16384)
    return ChatQwen(model=str(folder), temperature=0, max_tokens=300)


@pytest.fixture
def deciding(roomy, monkeypatch):
    def script(*texts: str, window: int = 16384) -> ScriptedEngine:
        engine = ScriptedEngine(roomy._open().tokenizer, *texts, window=window)
        monkeypatch.setattr(OnThisMachine, "engine", lambda *_a, **_k: engine)
        return engine

    return script


@pytest.mark.parametrize("way", WAYS)
class TestDecidedFirst:
    def test_none_means_words_and_no_call(self, roomy, deciding, way):
        engine = deciding("none", "It rains.")
        message = ask(way, roomy.bind_tools([weather]), ASKED)
        assert (message.content, message.tool_calls) == ("It rains.", [])
        assert message.response_metadata["finish_reason"] == "stop"
        assert prompt_of(roomy, engine, 0).endswith(
            "User: How is the weather in Oslo?\n\nCalls:<|im_end|>\n<|im_start|>assistant\n"
        )
        expected = roomy.prompter.render([*ASKED, SystemMessage(WORDS)], [_function(weather)])
        assert prompt_of(roomy, engine, 1) == expected

    def test_the_calls_that_were_decided(self, roomy, deciding, way):
        deciding("weather(city=Oslo)\nweather(city=Lima)", f"{call('Oslo')}\n{call('Lima')}")
        message = ask(way, roomy.bind_tools([weather, clock]), ASKED)
        assert [made["args"] for made in message.tool_calls] == [{"city": "Oslo"}, {"city": "Lima"}]
        assert message.response_metadata["finish_reason"] == "tool_calls"
        deciding("clock()", CLOCK)
        assert [made["name"] for made in ask(way, roomy.bind_tools([weather, clock]), ASKED).tool_calls] == ["clock"]

    def test_a_call_that_is_answered_gives_way_to_words(self, roomy, deciding, way):
        engine = deciding("weather(city=Oslo)", "weather(city=Oslo)", call("Oslo"), "It rains.")
        message = ask(way, roomy.bind_tools([weather]), TOLD)
        assert (message.content, len(engine.requests)) == ("It rains.", 4)
        assert "weather(city=Oslo) -> rain" not in prompt_of(roomy, engine, 0)
        assert "weather(city=Oslo) -> rain" in prompt_of(roomy, engine, 1)

    def test_tools_that_nobody_needs_are_struck(self, roomy, deciding, way):
        engine = deciding("weather(city=Oslo)\nclock()", "weather", "none", call("Oslo"))
        message = ask(way, roomy.bind_tools([weather, clock]), ASKED)
        assert [made["name"] for made in message.tool_calls] == ["weather"]
        assert [request.max_tokens for request in engine.requests[1:3]] == [1, 1]
        assert "clock" not in prompt_of(roomy, engine, 1).rpartition("Tools:")[2]
        assert "weather" not in prompt_of(roomy, engine, 2).rpartition("Tools:")[2].partition("Conversation")[0]

    def test_after_results_it_leans_to_words_where_the_outline_holds_nothing_else(self, roomy, deciding, way):
        leanings = []
        for said in (["weather(city=Oslo)"], ["weather(city=Oslo)\nthen clock()", "clock"]):
            engine = deciding(*said, "none", "It rains.")
            assert ask(way, roomy.bind_tools([weather, clock]), TOLD).content == "It rains."
            (leaning,) = engine.requests[len(said)].sampling.logit_bias.values()
            leanings.append(leaning)
        assert leanings[0] > leanings[1]

    def test_a_forced_call_is_decided_already(self, roomy, deciding, way):
        engine = deciding(call("Oslo"))
        assert len(ask(way, roomy.bind_tools([weather], tool_choice="any"), ASKED).tool_calls) == 1
        assert len(engine.requests) == 1

    def test_beside_a_schema(self, roomy, deciding, way):
        deciding("weather(city=Oslo)", "none", '{"degrees": 4}')
        assert ask(way, roomy.bind_tools([weather], response_format=FORMAT), TOLD).content == '{"degrees": 4}'
        deciding("weather(city=Oslo)", call("Oslo"))
        assert ask(way, roomy.bind_tools([weather], response_format=FORMAT), ASKED).tool_calls

    def test_stop_strings_seeds_and_log_probabilities_are_those_of_the_answer(self, roomy, deciding, way):
        engine = deciding("none", "It rains. Much more.")
        message = ask(way, roomy.bind_tools([weather]), ASKED, stop=["one", " Much"], logprobs=True, seed=5)
        assert message.content == "It rains."
        said = "".join(entry["token"] for entry in message.response_metadata["logprobs"]["content"])
        assert said == "It rains. Much"
        assert engine.requests[0].sampling.temperature == 0
        assert engine.requests[1].sampling.seed == 5

    def test_usage_is_the_sum(self, roomy, deciding, way):
        engine = deciding("none", "It rains.")
        usage = ask(way, roomy.bind_tools([weather]), ASKED).usage_metadata
        assert usage["input_tokens"] == sum(len(request.prompt_ids) for request in engine.requests)

    def test_it_can_be_turned_off(self, roomy, deciding, way):
        engine = deciding("It rains.")
        assert ask(way, roomy.bind_tools([weather]), ASKED, decide_calls=False).content == "It rains."
        assert len(engine.requests) == 1

    def test_where_memory_has_no_room_for_it_the_model_decides_alone(self, roomy, deciding, way):
        engine = deciding("It rains.", window=1500)
        assert ask(way, roomy.bind_tools([weather]), ASKED).content == "It rains."
        assert len(engine.requests) == 1
