"""Standard content blocks, also while streaming, through LangChain's own machinery."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_qwen import ChatQwen
from langchain_qwen.output.chunks import ChunkMaker
from langchain_qwen.output.parser import CallParser

ANSWER = (
    'I look.\n<tool_call>\n{"name": "a", "arguments": {"x": 1}}\n</tool_call>\n'
    '<tool_call>\n{"name": "b", "arguments": {}}\n</tool_call>'
)


class Scripted(ChatQwen):
    """Gives one answer, character by character, as the engine would."""

    def _stream(self, *_args, **_kwargs):
        parser, maker = CallParser(["a", "b"]), ChunkMaker()
        feeds = [parser.feed(character) for character in ANSWER] + [parser.feed("", final=True)]
        for pieces in filter(None, feeds):
            message = maker.chunk(pieces)
            message.response_metadata = {"model_provider": "qwen"}
            yield ChatGenerationChunk(message=message)
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                chunk_position="last",
                response_metadata={"finish_reason": "tool_calls", "model_provider": "qwen"},
            )
        )


EXPECTED = [("text", "I look."), ("tool_call", "a", {"x": 1}), ("tool_call", "b", {})]


def seen(blocks):
    return [
        ("text", block["text"]) if block["type"] == "text" else (block["type"], block["name"], block["args"])
        for block in blocks
    ]


@pytest.mark.parametrize("output_version", ["v0", "v1"])
def test_text_and_then_calls_in_a_stream(output_version):
    chunks = list(Scripted(output_version=output_version).stream("x"))
    assert seen(sum(chunks[1:], chunks[0]).content_blocks) == EXPECTED


@pytest.mark.parametrize("output_version", ["v0", "v1"])
def test_text_and_then_calls_in_a_message(output_version):
    message = Scripted(output_version=output_version).invoke("x")
    assert seen(message.content_blocks) == EXPECTED


def test_event_stream_v3():
    stream = Scripted().stream_events("x", version="v3")
    assert seen(stream.output.content_blocks) == EXPECTED
