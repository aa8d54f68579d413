"""Which conversations can be sent.

The rules are those of OpenAI's API where the order of calls and results is concerned, since agents are written for
them. Otherwise a conversation may be what Qwen's template can write: system messages alone (a persona that speaks
first), AI messages first (few-shot examples), several messages of one kind in a row, single empty messages.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_qwen.errors import InvalidMessagesError
from langchain_qwen.prompting.roles import Role, to_roles


def check_conversation(messages: Sequence[BaseMessage]) -> list[Role]:
    """Refuse what cannot be sent; counting does not ask for this, since trimmers count parts of conversations.

    Returns:
        The messages as roles, since they have been read for this; `Prompter.encode_roles` takes them.

    Raises:
        UnsupportedContentError: For content other than text.
        InvalidMessagesError: For no or only empty messages, tool results without their call, calls without a result.
    """
    if not messages:
        raise InvalidMessagesError("there are no messages; pass at least one, for instance a HumanMessage")
    roles = to_roles(messages)
    if not any(role["content"].strip() or role.get("tool_calls") for role in roles):
        raise InvalidMessagesError("all messages are empty; there is nothing to answer")
    last_calls: set[str | None] = set()
    unanswered: dict[str | None, str] = {}
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in last_calls:
                raise InvalidMessagesError(
                    f"messages[{index}] is the result of tool call {message.tool_call_id!r}, which the AI message "
                    "before it does not make; keep an AI message and the results of its calls together when trimming"
                )
            unanswered.pop(message.tool_call_id, None)
            continue
        _check_answered(unanswered, f"messages[{index}]")
        last_calls.clear()
        if isinstance(message, AIMessage):
            unanswered = {call["id"]: f"{call['name']!r} in messages[{index}]" for call in message.tool_calls}
            # A call that did not parse may get its error back as a result, but need not.
            last_calls = {call["id"] for call in (*message.tool_calls, *message.invalid_tool_calls)}
    _check_answered(unanswered, "the end")
    return roles


def _check_answered(unanswered: dict[str | None, str], end: str) -> None:
    for call_id, call in unanswered.items():
        raise InvalidMessagesError(
            f"the call of {call} (id {call_id!r}) has no result before {end}; add a ToolMessage with that "
            "tool_call_id, or leave the call out"
        )
