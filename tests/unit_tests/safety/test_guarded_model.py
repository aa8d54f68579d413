"""What a chat model can do, a guarded one can, and stays guarded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, SystemMessage
from langchain_core.rate_limiters import BaseRateLimiter
from pydantic import BaseModel, create_model

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


class Heard(BaseCallbackHandler):
    """What a handler is told of tokens."""

    def __init__(self):
        self.tags: list[list[str]] = []
        self.metadata: list[dict] = []
        self.tokens = 0

    def on_chat_model_start(self, serialized, messages, *, tags=None, metadata=None, **kwargs):
        self.tags.append(tags)
        self.metadata.append(metadata)

    def on_llm_new_token(self, token, **kwargs):
        self.tokens += 1


class Limiter(BaseRateLimiter):
    acquired = 0

    def acquire(self, *, blocking=True):
        self.acquired += 1
        return True

    async def aacquire(self, *, blocking=True):
        return self.acquire()


class TestWhatIsSetForTheModelCountsForTheGuardedOne:
    async def test_rate_limiter(self, tiny_checkpoint):
        limiter = Limiter()
        model = PARSER.guard(ChatQwen(model=str(tiny_checkpoint), max_tokens=2, rate_limiter=limiter))
        model.invoke("x")
        list(model.stream("x"))
        await model.ainvoke("x")
        assert len([chunk async for chunk in model.astream("x")]) > 0
        assert limiter.acquired == 4

    @pytest.mark.parametrize("settings", [{}, {"streaming": True}, {"streaming": False}])
    def test_callbacks_tags_metadata_and_streaming(self, tiny_checkpoint, settings):
        heard = Heard()
        settings = {**settings, "callbacks": [heard], "tags": ["mine"], "metadata": {"who": "me"}, "name": "named"}
        model = ChatQwen(model=str(tiny_checkpoint), max_tokens=4, temperature=0, **settings)
        model.invoke("x")
        tokens, heard.tokens = heard.tokens, 0
        guarded = PARSER.guard(model)
        guarded.invoke("x")
        assert heard.tags == [["mine"]] * 2
        assert [metadata["who"] for metadata in heard.metadata] == ["me"] * 2
        assert (heard.tokens > 0) == (tokens > 0) == settings.get("streaming", False)
        assert guarded.get_name() == "named"
        assert len(list(guarded.stream("x"))) == 1 if settings.get("streaming") is False else True
        assert "langchain-qwen" in model.metadata["lc_versions"]
        assert guarded.metadata is not model.metadata

    async def test_disabled_streaming(self, tiny_checkpoint):
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        for disabled, bound in ((True, []), ("tool_calling", [tool])):
            model = ChatQwen(model=str(tiny_checkpoint), max_tokens=9, temperature=0, disable_streaming=disabled)
            guarded = PARSER.guard(model).bind_tools(bound)
            assert len(list(guarded.stream("x"))) == len([chunk async for chunk in guarded.astream("x")]) == 1

    def test_output_version(self, tiny_checkpoint):
        model = PARSER.guard(ChatQwen(model=str(tiny_checkpoint), max_tokens=4, temperature=0, output_version="v1"))
        (block,) = model.invoke("x").content
        assert block["type"] == "text"

    def test_caches(self, tiny_checkpoint):
        cache = InMemoryCache()
        model = ChatQwen(model=str(tiny_checkpoint), max_tokens=4, temperature=0, cache=cache)
        assert PARSER.guard(model).invoke("x").text == PARSER.guard(model).invoke("x").text
        assert len(cache._cache) == 1
        model.invoke("x")  # what is not guarded has its own entry
        assert len(cache._cache) == 2
        SafetyParser(PARSER.policy, language="de").guard(model).invoke("x")  # it may be refused in German
        assert len(cache._cache) == 3
        first, second = (create_model("Answer", **{field: (bool, ...)}) for field in ("yes", "no"))
        for form in (first, second, first):
            PARSER.guard(model).invoke("x", response_format=form, max_tokens=40)
        assert len(cache._cache) == 5


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
