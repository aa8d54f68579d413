"""Exact token counts of conversations, at the price of their new messages.

A prompt in ChatML is a head (the system message or the template's own, the tools, and the opening of the answer) and
segments behind it. A segment is one message, or an AI message with the results of its calls, since results that follow
each other share one turn of the template. Each segment begins and ends with control tokens, which no token reaches
across, so the counts of head and segments add up to the count of the prompt, exactly. Segments are remembered by what
they say: a message that is loaded again, or changed, is never counted wrongly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_qwen.errors import UnsupportedModelError
from langchain_qwen.forks import renewed_lock
from langchain_qwen.prompting import Prompter, check_conversation, to_roles

Key = tuple[Any, ...]
Tool = Mapping[str, Any]

_ANCHOR = HumanMessage("x")
_ROLE_OF = {HumanMessage: "user", AIMessage: "assistant", SystemMessage: "system", ToolMessage: "tool"}
_MOST_REMEMBERED = 100_000
_MOST_CHARACTERS = 50_000_000


def role_of(message: BaseMessage) -> str:
    """`system`, `user`, `assistant` or `tool`."""
    known = _ROLE_OF.get(type(message))
    role: str = known or to_roles([message])[0]["role"]
    return role


def key_of(message: BaseMessage) -> Key:
    """Equal for messages that are written alike and marked alike."""
    # Runs for every message of the history at each trim, so the common cases come first.
    kind = type(message)
    content: Any = message.content
    more: Any = None
    if kind is HumanMessage or kind is SystemMessage:
        pass
    elif isinstance(message, AIMessage):
        if message.tool_calls or message.invalid_tool_calls:
            more = repr((message.tool_calls, message.invalid_tool_calls))
    elif isinstance(message, ToolMessage):
        more = message.tool_call_id if message.status == "success" else (message.tool_call_id, message.status)
    elif isinstance(message, ChatMessage):
        more = message.role
    if type(content) is not str:
        content = (repr(content),)
    marks = message.additional_kwargs
    return (kind, message.name, content, more, repr(marks) if marks else None)


class PromptCounter:
    """Counts prompts of one checkpoint. Safe to use from many threads.

    Attributes:
        opening: Tokens at the end of each prompt that open the answer.

    Raises:
        UnsupportedModelError: If the checkpoint's template writes messages differently depending on those around them.
    """

    def __init__(self, prompter: Prompter):
        self._prompter = prompter
        ids = prompter.encode([_ANCHOR])
        self._anchor = len(ids)
        # The answer's turn is opened by the control token that every turn begins with.
        self.opening = ids[::-1].index(ids[0]) + 1
        self._anchor_alone = prompter.count([_ANCHOR, _ANCHOR]) - self._anchor
        self._segments: dict[tuple[Key, ...], int] = {}
        self._heads: dict[tuple[Key | None, str], int] = {}
        self._characters = 0
        self._lock = renewed_lock(self, "_lock")
        self._check_template()

    def head(self, system: BaseMessage | None, tools: Sequence[Tool] = ()) -> int:
        """Tokens of a prompt without its segments.

        Args:
            system: The first message if its role is system; it is part of the head.
            tools: In OpenAI's format.
        """
        key = (key_of(system) if system else None, json.dumps(list(tools)) if tools else "")
        tokens = self._heads.get(key)
        if tokens is None:
            if system is None:
                tokens = self._prompter.count([_ANCHOR], tools) - self._anchor_alone
            else:
                tokens = self._prompter.count([system], tools)
            self._remember(self._heads, key, tokens, len(key[1]) + (len(system.content) if system else 0))
        return tokens

    def segment(self, messages: Sequence[BaseMessage]) -> int:
        """Tokens that a message, or an AI message with its results, adds behind others.

        Raises:
            InvalidMessagesError: For results without their call, and calls without a result.
            UnsupportedContentError: For content other than text.
        """
        key = tuple(map(key_of, messages))
        tokens = self._segments.get(key)
        if tokens is None:
            check_conversation([_ANCHOR, *messages])
            tokens = self._prompter.count([_ANCHOR, *messages]) - self._anchor
            self._remember(self._segments, key, tokens, sum(len(message.content) for message in messages))
        return tokens

    def count(self, messages: Sequence[BaseMessage], tools: Sequence[Tool] = ()) -> int:
        """Tokens of a prompt: what `ChatQwen.get_num_tokens_from_messages` says, sooner."""
        if not messages:
            return 0
        first = messages[0] if role_of(messages[0]) == "system" else None
        rest = messages[1:] if first else messages
        return self.head(first, tools) + sum(self.segment(segment) for segment in segments(rest))

    def _remember(self, table: dict[Any, int], key: Any, tokens: int, characters: int) -> None:
        with self._lock:
            self._characters += characters
            if len(table) >= _MOST_REMEMBERED or self._characters > _MOST_CHARACTERS:
                self._heads.clear()
                self._segments.clear()
                self._characters = characters
            table[key] = tokens

    def _check_template(self) -> None:
        call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}, {"name": "g", "args": {}, "id": "2"}])
        results = [ToolMessage("a", tool_call_id="1"), ToolMessage("\nb", tool_call_id="2")]
        tools = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}]
        rest = [_ANCHOR, AIMessage("a"), SystemMessage("s"), HumanMessage("\nb"), call, *results, AIMessage("c")]
        for messages in (rest, [SystemMessage("s"), *rest]):
            for shown in ([], tools):
                if self.count(messages, shown) != self._prompter.count(messages, shown):
                    raise UnsupportedModelError(
                        "the checkpoint's chat template writes a message differently depending on those around it, so "
                        "its tokens cannot be counted message by message; use a checkpoint with Qwen2.5's template"
                    )


def segments(messages: Sequence[BaseMessage]) -> list[Sequence[BaseMessage]]:
    """Messages one by one, but results together with the AI message before them."""
    found: list[list[BaseMessage]] = []
    open_for_results = False
    for message in messages:
        role = role_of(message)
        if role == "tool" and open_for_results:
            found[-1].append(message)
        else:
            found.append([message])
        open_for_results = role in ("assistant", "tool")
    return [*found]
