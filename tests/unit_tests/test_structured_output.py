"""What `with_structured_output` makes of an answer: the whole of it, or an error, in all ways of calling.

The engine is scripted; all else is the real thing.
"""

from __future__ import annotations

import inspect
import json

import pytest
from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel, ValidationError, field_validator

from langchain_qwen import ChatQwen, errors
from langchain_qwen.backends import OnThisMachine
from tests.unit_tests.scripted_engine import ScriptedEngine


class Mail(BaseModel):
    """A mail."""

    subject: str
    pages: int


class Picky(Mail):
    """A mail that is never right."""

    @field_validator("pages")
    @classmethod
    def refuse(cls, value: int) -> int:
        raise ValueError(f"not {value}")


WRITTEN = {"subject": "Hello User: you", "pages": 3}
METHODS = ["json_schema", "function_calling", "json_mode"]


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return ChatQwen(model=str(tiny_checkpoint), temperature=0, max_tokens=300)


@pytest.fixture
def answered(model, monkeypatch):
    """All ways of calling, to an answer in the form of each method."""

    async def ask(schema, method: str, **options) -> list:
        name = schema["title"] if isinstance(schema, dict) else schema.__name__
        text = json.dumps(WRITTEN)
        if method == "function_calling":
            text = f'<tool_call>\n{{"name": "{name}", "arguments": {text}}}\n</tool_call>'
        engine = ScriptedEngine(model._open().tokenizer, *[text] * 4)
        monkeypatch.setattr(OnThisMachine, "engine", lambda *_a, **_k: engine)
        chain = model.model_copy(update=options).with_structured_output(schema, method=method)

        async def streamed():
            return [part async for part in chain.astream("x")][-1]

        async def result(call):
            try:
                made = call()
                return await made if inspect.isawaitable(made) else made
            except (OutputParserException, ValidationError) as error:
                return error

        ways = (lambda: chain.invoke("x"), lambda: list(chain.stream("x"))[-1], lambda: chain.ainvoke("x"), streamed)
        return [await result(way) for way in ways]

    return ask


@pytest.mark.parametrize("method", METHODS)
async def test_whole_answers(answered, method):
    assert await answered(Mail, method) == [Mail(**WRITTEN)] * 4
    assert await answered(Mail.model_json_schema(), method) == [WRITTEN] * 4


@pytest.mark.parametrize("method", METHODS)
async def test_whole_answers_where_nothing_streams(answered, method):
    assert await answered(Mail, method, disable_streaming=True) == [Mail(**WRITTEN)] * 4
    assert await answered(Mail.model_json_schema(), method, disable_streaming=True) == [WRITTEN] * 4


@pytest.mark.parametrize("schema", [Mail, Mail.model_json_schema()])
@pytest.mark.parametrize("method", METHODS)
async def test_what_a_stop_string_cuts_is_no_result(answered, schema, method):
    """LangChain's parsers close open brackets, and take a call that is cut for none."""
    for result in await answered(schema, method, stop=["User:"]):
        assert isinstance(result, errors.OutputFormatError), result
        assert "stop string" in str(result)


@pytest.mark.parametrize("method", METHODS)
async def test_what_the_class_refuses_is_an_error_in_streams_too(answered, method):
    for result in await answered(Picky, method):
        assert isinstance(result, ValidationError if method == "function_calling" else OutputParserException)
        assert "not 3" in str(result)


def test_a_class_as_response_format_is_not_made_of_half_an_answer(model, monkeypatch):
    engine = ScriptedEngine(model._open().tokenizer, json.dumps(WRITTEN))
    monkeypatch.setattr(OnThisMachine, "engine", lambda *_a, **_k: engine)
    message = model.invoke("x", response_format=Mail, stop=["User:"])
    assert message.content == '{"subject": "Hello '
    assert "parsed" not in message.additional_kwargs
