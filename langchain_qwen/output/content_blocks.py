"""LangChain's standard content blocks of our messages.

LangChain's own reading gives the first tool call of a stream the index 0, which it also gives to the text before it; it
then adds the call to the text, and the call is lost (langchain-core 1.7 and 1.8, `output_version="v1"`). Here calls get
indexes of their own.
"""

from __future__ import annotations

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages import content as types
from langchain_core.messages.block_translators import register_translator

from langchain_qwen.output.answer import PROVIDER
from langchain_qwen.output.chunks import REASONING


def message_blocks(message: AIMessage) -> list[types.ContentBlock]:
    """Reasoning, then text, then calls, then calls that did not parse."""
    if not isinstance(message.content, str):
        raise NotImplementedError  # lists are blocks already; LangChain reads them itself
    blocks = _reasoning_and_text(message)
    blocks += [
        types.ToolCall(type="tool_call", id=call["id"], name=call["name"], args=call["args"])
        for call in message.tool_calls
    ]
    blocks += [
        types.InvalidToolCall(
            type="invalid_tool_call", id=call["id"], name=call["name"], args=call["args"], error=call["error"]
        )
        for call in message.invalid_tool_calls
    ]
    return blocks


def chunk_blocks(chunk: AIMessageChunk) -> list[types.ContentBlock]:
    """As `message_blocks` once all chunks are added up; before that, calls are fragments."""
    if not isinstance(chunk.content, str):
        raise NotImplementedError
    if chunk.chunk_position == "last" or not chunk.tool_call_chunks:
        return message_blocks(chunk)
    blocks = _reasoning_and_text(chunk)
    blocks += [
        types.ToolCallChunk(
            type="tool_call_chunk", id=part["id"], name=part["name"], args=part["args"], index=f"lc_tc_{part['index']}"
        )
        for part in chunk.tool_call_chunks
    ]
    return blocks


def _reasoning_and_text(message: AIMessage) -> list[types.ContentBlock]:
    blocks: list[types.ContentBlock] = []
    if reasoning := message.additional_kwargs.get(REASONING):
        blocks.append(types.ReasoningContentBlock(type="reasoning", reasoning=reasoning))
    if message.content:
        blocks.append(types.TextContentBlock(type="text", text=str(message.content)))
    return blocks


def register() -> None:
    """Tell LangChain; importing `ChatQwen` does it."""
    register_translator(PROVIDER, message_blocks, chunk_blocks)
