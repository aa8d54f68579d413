"""LangChain messages to the role dicts that Qwen's chat template reads.

The rules, beside those for content blocks in `content.py`:

- System messages stay where they are, as many as there are; `developer` is OpenAI's newer name for `system`.
- A human message's name is written before its text, "alice: Hello": Qwen's template has no place for names, and a group
  chat without them loses who spoke. Names of other messages say which program ran and are not written.
- Qwen's template gives tool results no ids; the model pairs them with its calls by order. Results that follow an AI
  message are therefore put into the order of its calls. The template has no place for a result's `status` either: one
  that is an error begins with "Error:".
- Tool calls that could not be parsed are written behind the text, in tags, as the model wrote them. They are text, so
  their tags are spelled in ordinary tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolMessage,
)

from langchain_qwen.errors import InvalidMessagesError
from langchain_qwen.prompting.content import text_of

Role = dict[str, Any]

_ROLE_OF_CHAT_MESSAGE = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "function": "tool",
}


def to_roles(messages: Sequence[BaseMessage]) -> list[Role]:
    """Role dicts: `role`, `content`, and for an AI message with calls `tool_calls` in OpenAI's form.

    Works for parts of a conversation too; `check_conversation` is the one who asks for a whole one.

    Raises:
        UnsupportedContentError: For content other than text.
        InvalidMessagesError: For messages that are not part of a conversation, or whose data no JSON can hold.
    """
    roles = []
    for index, message in _in_order_of_calls(messages):
        role = _to_role(message, index)
        _check_unicode(role, index)
        roles.append(role)
    return roles


def _check_unicode(role: Role, index: int) -> None:
    text = role["content"] + json.dumps(role.get("tool_calls"), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessagesError(
            f"messages[{index}] holds a lone surrogate (U+{ord(text[error.start]):04X} after "
            f"{text[max(0, error.start - 20) : error.start]!r}), which is no Unicode text; decode the source as UTF-8 "
            "or UTF-16, or take it out"
        ) from error


def _in_order_of_calls(messages: Sequence[BaseMessage]) -> list[tuple[int, BaseMessage]]:
    """Messages with their places, each run of tool results in the order of the calls before it."""
    ordered: list[tuple[int, BaseMessage]] = []
    run: list[tuple[int, ToolMessage]] = []
    rank: dict[str | None, int] = {}

    def end_run() -> None:
        # Stable: results of calls that are not there stay behind, in their own order.
        run.sort(key=lambda item: rank.get(item[1].tool_call_id, len(rank)))
        ordered.extend(run)
        run.clear()

    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            run.append((index, message))
            continue
        end_run()
        ordered.append((index, message))
        if isinstance(message, AIMessage):
            rank = {call["id"]: place for place, call in enumerate(message.tool_calls)}
    end_run()
    return ordered


def _to_role(message: BaseMessage, index: int) -> Role:
    match message:
        case HumanMessage():
            text = text_of(message, index)
            return {"role": "user", "content": f"{message.name}: {text}" if message.name else text}
        case AIMessage():
            return _assistant(message, index)
        case SystemMessage():
            return {"role": "system", "content": text_of(message, index)}
        case ToolMessage() | FunctionMessage():
            text = text_of(message, index)
            says_so = "error" in text[:40].lower()
            failed = isinstance(message, ToolMessage) and message.status == "error" and not says_so
            return {"role": "tool", "content": f"Error: {text}" if failed else text}
        case ChatMessage():
            if role := _ROLE_OF_CHAT_MESSAGE.get(message.role):
                return {"role": role, "content": text_of(message, index)}
            raise InvalidMessagesError(
                f"messages[{index}] has the role {message.role!r}; Qwen2.5 knows system, user, assistant and tool"
            )
    raise InvalidMessagesError(
        f"messages[{index}] is a {type(message).__name__}, which is no part of a conversation; leave it out"
    )


def _assistant(message: AIMessage, index: int) -> Role:
    parts = (_text_or_refusal(message, index), *map(_as_written, message.invalid_tool_calls))
    role: Role = {"role": "assistant", "content": "\n".join(part for part in parts if part)}
    calls = [(call["name"], call["args"]) for call in message.tool_calls] or _legacy_call(message, index)
    if calls:
        role["tool_calls"] = [
            {"type": "function", "function": {"name": name, "arguments": _plain(arguments, index)}}
            for name, arguments in calls
        ]
    return role


def _text_or_refusal(message: AIMessage, index: int) -> str:
    # OpenAI's chat completions keep a refusal beside the empty content.
    return text_of(message, index) or message.additional_kwargs.get("refusal") or ""


def _as_written(call: InvalidToolCall) -> str:
    written = call["args"] or ""
    if call["name"]:
        written = f'{{"name": {json.dumps(call["name"], ensure_ascii=False)}, "arguments": {written}}}'
    return f"<tool_call>\n{written}\n</tool_call>"


def _legacy_call(message: AIMessage, index: int) -> Iterable[tuple[str, Any]]:
    """The call that a `FunctionMessage` answers."""
    call = message.additional_kwargs.get("function_call")
    if not call:
        return []
    try:
        return [(call["name"], json.loads(call["arguments"]))]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidMessagesError(
            f"messages[{index}] has a function_call that is not name and JSON arguments; use tool_calls instead"
        ) from error


def _plain(arguments: Mapping[str, Any], index: int) -> Any:
    """The same data in JSON's own types, so that the template writes all of it."""
    try:
        return json.loads(json.dumps(arguments))
    except (TypeError, ValueError) as error:
        raise InvalidMessagesError(
            f"messages[{index}] has tool call arguments that are not JSON ({error}); pass strings, numbers, lists and "
            "dicts"
        ) from error
