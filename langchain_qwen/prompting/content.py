"""The text of a message: what its content blocks say to a model that reads text only.

The rules, block by block:

- Plain strings, `text` and `text-plain` blocks are text. They are joined with nothing between, as LangChain's own
  `message.text` joins them. Annotations and other keys beside the text (citations, cache control) say nothing.
- `refusal` blocks are text: what another model said when it declined.
- `json` blocks in a tool's result are written as JSON.
- Blocks that repeat the tool calls of an AI message (`tool_call`, Anthropic's `tool_use`, OpenAI's `function_call`,
  their streamed pieces) are skipped, since the message's `tool_calls` are written. One that repeats none is an error.
- Reasoning of an AI message (`reasoning`, `thinking`) is left out: Qwen2.5 has no place for it, and the templates of
  Qwen's later models drop it from earlier turns too.
- Everything else (images, audio, video, files, `non_standard`, ...) raises `UnsupportedContentError`: nothing that may
  matter is dropped in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_qwen.errors import InvalidMessagesError, UnsupportedContentError

_REASONING = ("reasoning", "reasoning_content", "thinking", "redacted_thinking")
_CALLS = ("tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use", "function_call", "input_json_delta")


def text_of(message: BaseMessage, index: int) -> str:
    """The message's text.

    Args:
        message: Any message.
        index: Its place in the conversation, for errors.

    Raises:
        UnsupportedContentError: For content other than text.
        InvalidMessagesError: For a tool call in the content that the message's `tool_calls` lack.
    """
    if isinstance(message.content, str):
        return message.content
    return "".join(_block_text(block, message, index) for block in message.content)


def _block_text(block: str | Mapping[str, Any], message: BaseMessage, index: int) -> str:
    match block:
        case str():
            return block
        case {"type": "text" | "text-plain", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return text
        case {"text": str(text)} if "type" not in block:
            return text
        case {"type": "json", "json": value} if isinstance(message, ToolMessage):
            return json.dumps(value, ensure_ascii=False)
        case {"type": kind} if isinstance(message, AIMessage) and kind in _REASONING:
            return ""
        case {"type": kind} if isinstance(message, AIMessage) and kind in _CALLS:
            _check_repeats_a_call(block, message, index)
            return ""
    raise UnsupportedContentError(
        f"messages[{index}] ({message.type}) has a content block of type {block.get('type')!r}, but Qwen2.5 reads text "
        "only; leave it out, put its text into a text block, or use a model that takes such input"
    )


def _check_repeats_a_call(block: Mapping[str, Any], message: AIMessage, index: int) -> None:
    known = {call["id"] for call in (*message.tool_calls, *message.invalid_tool_calls)}
    # Anthropic names a call `id`, OpenAI's Responses API `call_id`; streamed pieces after the first have neither.
    names = {block[key] for key in ("id", "call_id") if block.get(key)}
    if not known or (names and not names & known):
        raise InvalidMessagesError(
            f"messages[{index}] has a {block['type']!r} block that is not among its tool_calls; build the message with "
            "tool_calls=[...] (or content_blocks=[...], which sets them)"
        )
