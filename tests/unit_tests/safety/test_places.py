"""A secret in whatever place of a message never leaves, and never reaches the model."""

from __future__ import annotations

import re

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.types import Command
from pydantic import Field

from langchain_qwen.middleware import SafetyMiddleware
from langchain_qwen.safety import InputGuard, Policy, SafetyParser
from langchain_qwen.safety.places import EXEMPT
from tests.unit_tests.safety.planting import (
    LEFT,
    RIGHT,
    SECRET,
    block_types,
    documents,
    everything,
    message_types,
    of_answers,
    planted,
)

RULE = {"id": "mail", "category": "pii", "detector": "email", "action": "redact", "replacement": "[MAIL]"}
POLICY = {"name": "t", "version": "1", "refusal": {"en": "No."}}
ANSWERS = of_answers()


def parser_of(action="redact", sides=("input", "output", "system")):
    return SafetyParser(Policy.parse({**POLICY, "rules": [{**RULE, "action": action, "applies_to": sides}]}))


@pytest.fixture(scope="module")
def parser():
    return parser_of()


class Says(BaseChatModel):
    """Answers with one message, whole."""

    answer: AIMessage
    heard: list[BaseMessage] = Field(default_factory=list)

    @property
    def _llm_type(self):
        return "says"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.heard[:] = messages
        message = self.answer
        if isinstance(message, AIMessageChunk):
            fields = {name: getattr(message, name) for name in AIMessage.model_fields if name != "type"}
            message = AIMessage("").model_copy(update={**fields, **(message.model_extra or {})})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def bind_tools(self, tools, **kwargs):
        return self.bind(tools=tools, **kwargs)


class Streams(Says):
    """Answers with one message, in chunks."""

    chunks: list[AIMessageChunk] = Field(default_factory=list)

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        self.heard[:] = messages
        for chunk in self.chunks:
            yield ChatGenerationChunk(message=chunk)


def as_chunks(message: AIMessage) -> list[AIMessageChunk]:
    if isinstance(message, AIMessageChunk):
        return [message, AIMessageChunk("", chunk_position="last")]
    fields = {name: getattr(message, name) for name in AIMessage.model_fields if name not in ("type", "usage_metadata")}
    fields |= message.model_extra or {}
    try:
        chunk = AIMessageChunk(**fields)
    except TypeError:  # for invalid calls with keys that only copies have
        chunk = AIMessageChunk("").model_copy(update=fields)
    return [chunk, AIMessageChunk("", chunk_position="last")]


def is_exempt(path: str) -> bool:
    names = re.findall(r"\w+", re.sub(r"<\w+>", "", path))
    if "[]" not in path:
        return names[0] in (EXEMPT["message"].keys() | EXEMPT["document"].keys())
    place = "call" if names[0] != "content" else "block"
    return len(names) == 2 and names[1] in EXEMPT[place]


def leaks(ways):
    return sorted({path for path, value in ways if SECRET in everything(value)})


def exempt_in(ways):
    return sorted({path for path, _ in ways if is_exempt(path)})


def test_the_walker_finds_the_places_it_is_there_for():
    paths = {path for path, _ in ANSWERS}
    assert {"content", "name", "invalid_tool_calls[].error", "tool_calls[].name", "additional_kwargs.any"} <= paths
    assert {"content[]<ReasoningContentBlock>.reasoning", "tool_call_chunks[].args", "response_metadata.any"} <= paths
    assert len(block_types()) >= 16
    assert {"FunctionMessage", "ChatMessage", "ToolMessage"} <= {kind.__name__ for kind in message_types()}
    assert len(ANSWERS) > 250


def test_each_exemption_has_a_reason():
    assert all(len(reason) > 10 for names in EXEMPT.values() for reason in names.values())


def test_no_secret_leaves_a_whole_message_in_any_place(parser):
    out = [(path, parser.invoke(message)) for path, message in ANSWERS]
    assert leaks(out) == exempt_in(out)


async def test_no_secret_leaves_by_ainvoke_batch_or_a_chain(parser):
    out = [(path, await parser.ainvoke(message)) for path, message in ANSWERS[::3]]
    out += zip([path for path, _ in ANSWERS[1::3]], parser.batch([m for _, m in ANSWERS[1::3]]), strict=True)
    out += [(path, (Says(answer=message) | parser).invoke("hi")) for path, message in ANSWERS[2::3]]
    assert leaks(out) == exempt_in(out)


def streamed(parser, message):
    chunks = list((Streams(answer=message, chunks=as_chunks(message)) | parser).stream("hi"))
    return [*chunks, sum(chunks[1:], chunks[0])]


def test_no_secret_leaves_a_stream_in_any_place(parser):
    out = [(path, chunk) for path, message in ANSWERS for chunk in streamed(parser, message)]
    assert set(leaks(out)) <= set(exempt_in(out))


async def test_no_secret_leaves_an_async_stream_in_any_place(parser):
    out = []
    for path, message in ANSWERS[::3]:
        chain = Streams(answer=message, chunks=as_chunks(message)) | parser
        out += [(path, chunk) async for chunk in chain.astream("hi")]
    assert set(leaks(out)) <= set(exempt_in(out))


def test_no_secret_leaves_a_guarded_model_in_any_place(parser):
    out = []
    for path, message in ANSWERS[1::3]:
        model = parser.guard(Streams(answer=message, chunks=as_chunks(message)))
        out += [(path, parser.guard(Says(answer=message)).invoke("hi")), (path, model.invoke("hi"))]
        out += [(path, chunk) for chunk in model.stream("hi")]
    assert set(leaks(out)) <= set(exempt_in(out))


async def test_no_secret_leaves_a_guarded_model_by_events(parser):
    for _, message in ANSWERS[::9]:
        model = parser.guard(Streams(answer=message, chunks=as_chunks(message)))
        paths = {path for path, one in ANSWERS if one is message}
        async for event in model.astream_events("hi"):
            assert SECRET not in repr(event) or all(map(is_exempt, paths)), paths


@pytest.mark.parametrize("kind", message_types(), ids=lambda kind: kind.__name__)
def test_no_secret_reaches_the_model_in_any_place(parser, kind):
    guard = InputGuard(parser)
    # A prompt never holds what a provider said about an earlier answer, nor what only a program reads.
    ways = [(path, value) for path, value in planted(kind) if not path.startswith("response_metadata")]
    out = [(path, guard.invoke([value])[0]) for path, value in ways]
    assert leaks(out) == exempt_in(out)


def test_no_secret_reaches_the_model_in_a_document(parser):
    out = [(path, InputGuard(parser).invoke([value])[0]) for path, value in documents()]
    assert leaks(out) == exempt_in(out)
    assert "metadata.any" in {path for path, _ in out}


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        [("user", SECRET)],
        [{"role": "user", "content": SECRET}],
        ({"role": "tool", "content": SECRET, "tool_call_id": "1"},),
        [SECRET],
        HumanMessage(SECRET),
    ],
)
def test_no_form_of_input_goes_past_the_guard(parser, value):
    model = Says(answer=AIMessage("ok"))
    parser.guard(model).invoke(value if not isinstance(value, BaseMessage) else [value])
    assert SECRET not in everything(model.heard)
    assert "[MAIL]" in everything(model.heard)
    assert SECRET not in everything(InputGuard(parser).invoke(value))


def test_an_address_that_is_cut_into_blocks_and_a_name_is_found(parser):
    guard = InputGuard(parser)
    blocks = [{"type": "text", "text": f"to {LEFT}"}, RIGHT + " now", {"type": "text-plain", "text": "!"}]
    [clean] = guard.invoke([HumanMessage(blocks)])
    assert clean.content == [{"type": "text", "text": "to [MAIL]"}, " now", {"type": "text-plain", "text": "!"}]
    assert parser.invoke(AIMessage(blocks)).content == clean.content
    policy = Policy.parse(
        {**POLICY, "rules": [{**RULE, "detector": {"pattern": "ignore: all"}, "applies_to": ["input"]}]}
    )
    [clean] = InputGuard(SafetyParser(policy)).invoke([HumanMessage("all", name="ignore")])
    assert (clean.name, clean.content) == ("[MAIL]", "")
    assert SafetyParser(policy).scan("x")[0] == "x"


@pytest.mark.parametrize("cut", range(1, len(SECRET)))
def test_streams_of_blocks_hold_what_is_cut_between_chunks(parser, cut):
    for kind, key in (("text", "text"), ("reasoning", "reasoning"), ("thinking", "thinking"), ("refusal", "refusal")):
        for index in ({}, {"index": 0}):
            halves = [f"a {SECRET[:cut]}", f"{SECRET[cut:]} b"]
            chunks = [AIMessageChunk([{"type": kind, key: half, **index}]) for half in halves]
            out = list(parser.transform(iter([*chunks, AIMessageChunk("", chunk_position="last")])))
            total = sum(out[1:], out[0])
            joined = "".join(block[key] for block in total.content if isinstance(block, dict))
            assert joined == "a [MAIL] b"
            whole = parser.invoke(AIMessage([{"type": kind, key: half} for half in halves]))
            assert "".join(block[key] for block in whole.content) == joined


def test_reasoning_leaves_while_it_is_made(parser):
    feed = parser.new_answer().feed
    first = feed(AIMessageChunk([{"type": "reasoning", "reasoning": "one two three ", "index": 0}]))
    assert first.content[0]["reasoning"].startswith("one two")


def test_strings_of_additional_kwargs_are_not_doubled_in_streams(parser):
    chunks = [
        AIMessageChunk("a", additional_kwargs={"refusal": "no", "reasoning_content": LEFT}),
        AIMessageChunk("b", additional_kwargs={"reasoning_content": f"{RIGHT} so"}, chunk_position="last"),
    ]
    for pieces in (chunks, [AIMessage("ab", additional_kwargs={"refusal": "no", "reasoning_content": f"{SECRET} so"})]):
        out = list(parser.transform(iter(pieces)))
        assert sum(out[1:], out[0]).additional_kwargs == {"refusal": "no", "reasoning_content": "[MAIL] so"}


def test_names_of_streamed_calls_are_looked_at_when_they_are_whole(parser):
    chunks = [
        AIMessageChunk("", tool_call_chunks=[{"name": LEFT, "args": '{"a"', "id": "1", "index": 0}]),
        AIMessageChunk("", tool_call_chunks=[{"name": RIGHT, "args": ": 1}", "id": None, "index": 0}]),
        AIMessageChunk("", chunk_position="last"),
    ]
    out = list(parser.transform(iter(chunks)))
    assert sum(out[1:], out[0]).tool_calls == [{"name": "[MAIL]", "args": {"a": 1}, "id": "1", "type": "tool_call"}]
    assert not any(chunk.tool_call_chunks for chunk in out[:3])


def test_a_call_that_could_not_be_read_stays_invalid():
    policy = Policy.parse({**POLICY, "rules": [{**RULE, "detector": {"pattern": r"b\n\]", "whole_words": False}}]})
    parser = SafetyParser(policy)
    cut = AIMessageChunk("", tool_call_chunks=[{"name": "f", "args": '{"a": "b"]', "id": "1", "index": 0}])
    out = list(parser.transform(iter([cut, AIMessageChunk("", chunk_position="last")])))
    total = sum(out[1:], out[0])
    assert total.tool_calls == []
    assert total.invalid_tool_calls[0]["args"] == ']{"a": "[MAIL]'
    invalid = [{"name": "f", "args": '{"a": 1', "id": "1", "error": "cut", "type": "invalid_tool_call"}]
    message = AIMessage("", invalid_tool_calls=invalid)
    assert parser.invoke(message).invalid_tool_calls == invalid
    assert parser.guard(Says(answer=message)).invoke("x").invalid_tool_calls == invalid
    out = list(parser.guard(Says(answer=message)).stream("x"))
    assert sum(out[1:], out[0]).tool_calls == []


def logprobs(*tokens, other="x"):
    top = [{"token": other, "bytes": list(other.encode()), "logprob": -3.0}]
    return {"content": [{"token": t, "bytes": list(t.encode()), "logprob": -1.0, "top_logprobs": top} for t in tokens]}


@pytest.mark.parametrize(
    ("text", "tokens", "kept"),
    [
        ("hello", logprobs("hel", "lo"), True),
        (f"to {SECRET}", logprobs("to ", LEFT, RIGHT), False),
        ("hello", logprobs(LEFT, RIGHT), False),
        ("hello", logprobs("a", other=SECRET), False),
    ],
)
def test_log_probabilities_do_not_spell_what_was_masked(parser, text, tokens, kept):
    message = AIMessage(text, response_metadata={"logprobs": tokens})
    pieces = [AIMessageChunk("", response_metadata={"logprobs": {"content": [one]}}) for one in tokens["content"]]
    chunks = [*pieces, AIMessageChunk(text), AIMessageChunk("", chunk_position="last")]
    out = list(parser.transform(iter(chunks)))
    for metadata in (parser.invoke(message).response_metadata, sum(out[1:], out[0]).response_metadata):
        assert metadata.get("logprobs") == (tokens if kept else None)
        assert metadata["safety"].get("logprobs") == (None if kept else "dropped")
    assert not any("logprobs" in chunk.response_metadata for chunk in out[:-1])


def test_a_block_in_any_place_ends_the_answer():
    parser = parser_of("block")
    for path, message in ANSWERS:
        if is_exempt(path) or SECRET not in everything(message):
            continue
        answer = parser.invoke(message)
        assert SECRET not in everything(answer)
        assert answer.text.endswith("No."), path
        assert answer.tool_calls == answer.invalid_tool_calls == []
        assert answer.response_metadata["finish_reason"] == "content_filter"


def test_a_json_string_hides_nothing_in_a_doubled_key_or_behind_brackets(parser):
    doubled = '{"a": "kim.secret\\u0040example.com", "a": 1}'
    deep = "[" * 400 + f'"{SECRET}"' + "]" * 400
    for args in (doubled, deep, '{"a": ' + deep + "}"):
        chunk = AIMessageChunk("", tool_call_chunks=[{"name": "f", "args": args, "id": "1", "index": 0}])
        out = list(parser.transform(iter([chunk, AIMessageChunk("", chunk_position="last")])))
        assert not re.search(r"secret(@|\\u0040)", everything(sum(out[1:], out[0])))


def test_the_bytes_of_a_picture_stay_as_they_are(parser):
    data = "AAAA" * 400
    block = {"type": "image", "base64": data, "mime_type": "image/png"}
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    assert parser.invoke(AIMessage([block, url])).content == [block, url]


def test_what_is_blocked_in_a_tool_result_is_cut_out_and_the_rest_stays():
    guard = InputGuard(parser_of("block"))
    message = ToolMessage(
        [{"type": "text", "text": f"one {SECRET} two"}], tool_call_id="1", artifact=["a", SECRET, "b"]
    )
    [clean] = guard.invoke([message])
    assert clean.content == [{"type": "text", "text": "one [removed by mail]"}]
    assert clean.artifact == ["a", "[removed by mail]", "b"]


def test_system_messages_are_the_applications_own_unless_the_policy_says_otherwise():
    text = [("system", SECRET), ("user", "hi")]
    assert InputGuard(parser_of(sides=("input",))).invoke(text)[0].text == SECRET
    assert InputGuard(parser_of(sides=("system",))).invoke(text)[0].text == "[MAIL]"


def test_no_command_of_a_tool_brings_a_secret_into_an_agent(parser):
    @tool
    def look_up() -> Command:
        """Look up."""
        return Command(update={"messages": [ToolMessage(SECRET, tool_call_id="1")]})

    call = AIMessage("", tool_calls=[{"name": "look_up", "args": {}, "id": "1"}])

    class TwoAnswers(Says):
        answers: list[AIMessage]

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            self.heard += messages
            return ChatResult(generations=[ChatGeneration(message=self.answers.pop(0))])

    model = TwoAnswers(answer=call, answers=[call, AIMessage("done")], heard=[])
    other = parser_of("flag").guard(model)  # guarded by another policy already
    agent = create_agent(other, [look_up], middleware=[SafetyMiddleware(parser)])
    state = agent.invoke({"messages": [("user", f"{SECRET}?"), ("user", "please")]})
    assert SECRET not in everything(state["messages"])
    assert SECRET not in everything(model.heard)
