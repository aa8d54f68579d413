"""What a chat model can do, a guarded one can, and stays guarded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, SystemMessage
from pydantic import BaseModel

from langchain_qwen import ChatQwen
from langchain_qwen.safety import Policy, SafetyParser

RULE = {"id": "mail", "category": "pii", "detector": "email", "action": "redact", "applies_to": ["input", "output"]}
PARSER = SafetyParser(Policy.parse({"name": "t", "version": "1", "refusal": {"en": "No."}, "rules": [RULE]}))
TEXT = "write to kim@example.com now"


class Contact(BaseModel):
    email: str


class Fails(GenericFakeChatModel):
    def _generate(self, *args, **kwargs):
        raise ConnectionError

    def _stream(self, *args, **kwargs):
        raise ConnectionError
        yield


class Fake(GenericFakeChatModel):
    def bind_tools(self, tools, **kwargs):
        return self.bind(tools=tools, **kwargs)


class Whole(Fake):
    _stream = BaseChatModel._stream


def guarded(*answers):
    return PARSER.guard(Fake(messages=iter(answers or [TEXT] * 9)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: model.bind(stop=["x"]),
        lambda model: model.with_retry(),
        lambda model: model.with_config(tags=["a"]),
        lambda model: PARSER.guard(Fails(messages=iter([]))).with_fallbacks([model]),
        lambda model: model.bind_tools([]),
        lambda model: model.bind_tools([]).with_retry().with_config(run_name="r"),
    ],
)
async def test_wrapped_models_stay_guarded(wrap):
    assert wrap(guarded()).invoke("hi").text == "write to [MAIL] now"
    assert (await wrap(guarded()).ainvoke("hi")).text == "write to [MAIL] now"
    assert "".join(chunk.text for chunk in wrap(guarded()).stream("hi")) == "write to [MAIL] now"
    assert "".join([chunk.text async for chunk in wrap(guarded()).astream("hi")]) == "write to [MAIL] now"
    assert [answer.text for answer in wrap(guarded()).batch(["a", "b"])] == ["write to [MAIL] now"] * 2


async def test_no_event_of_a_guarded_model_shows_what_was_masked():
    events = [event async for event in guarded().astream_events("hi")]
    assert "kim@" not in repr(events)
    assert "[MAIL]" in repr(events)
    assert {"on_chat_model_start", "on_chat_model_stream", "on_chat_model_end"} <= {event["event"] for event in events}


def test_structured_output_is_masked_and_parsed():
    said = json.dumps({"email": "kim@example.com"})
    assert guarded(said).with_structured_output(Contact).invoke("hi") == Contact(email="[MAIL]")
    raw = guarded(said).with_structured_output(Contact, include_raw=True).invoke("hi")
    assert "kim@" not in repr(raw)
    call = AIMessage("", tool_calls=[{"name": "Contact", "args": {"email": "kim@example.com"}, "id": "1"}])
    by_call = PARSER.guard(Whole(messages=iter([call]))).with_structured_output(Contact, method="function_calling")
    assert by_call.invoke("hi") == Contact(email="[MAIL]")


def test_instructions_are_added_to_a_system_message_of_blocks():
    policy = PARSER.policy.model_copy(update={"instructions": {"en": "Be kind."}})
    model = SafetyParser(policy).guard(Fake(messages=iter([])))
    own = SystemMessage(["a", {"type": "text-plain", "text": "b"}], name="n")
    assert model._instructed([own])[0].content == [*own.content, {"type": "text", "text": "\n\nBe kind."}]
    assert model._instructed([own])[0].name == "n"


def test_the_log_probabilities_of_a_real_engine_go_with_the_text(tiny_checkpoint: Path):
    rule = {"id": "r", "category": "pii", "detector": {"pattern": r"(?:.|\n)", "whole_words": False}, "action": "mask"}
    policy = {"name": "t", "version": "1", "refusal": {"en": "No."}}
    with ChatQwen(model=str(tiny_checkpoint), max_tokens=8, temperature=0, top_logprobs=2) as model:
        assert model.invoke("hi").response_metadata["logprobs"]["content"]
        for rules, kept in (([rule], False), ([], True)):
            guarded = SafetyParser(Policy.parse({**policy, "rules": rules})).guard(model)
            chunks = list(guarded.stream("hi"))
            total = sum(chunks[1:], chunks[0])
            for answer in (guarded.invoke("hi"), total):
                assert ("logprobs" in answer.response_metadata) == kept
            assert answer.response_metadata["safety"].get("logprobs") == (None if kept else "dropped")
            assert not any("logprobs" in chunk.response_metadata for chunk in chunks[:-1])
