"""InputGuard: what users, documents and tools bring in, before the model reads it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_qwen.errors import BlockedInputError
from langchain_qwen.safety.audit import AuditEvent, Place, adispatch, dispatch
from langchain_qwen.safety.filtering import TextFilter
from langchain_qwen.safety.parser import SafetyParser

# Zero-width joiners and variation selectors belong to emoji and to several scripts; these have no place in a text.
_HIDDEN = re.compile("[\u200b\u2060-\u2064\ufeff\u00ad\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]+")


@dataclass(frozen=True, slots=True)
class InputVerdict:
    """What a guard says of a text.

    Attributes:
        text: The text as the model may read it.
        events: What was found.
        blocked_by: The rule that blocks it, None where it may go on.
        hidden: How many invisible characters were taken out.
    """

    text: str
    events: tuple[AuditEvent, ...]
    blocked_by: str | None
    hidden: int


class InputGuard(Runnable[Any, Any]):
    """The input side of a policy: `InputGuard(SafetyParser("balanced")) | model`.

    Takes strings, messages, lists of messages, prompts, and lists of documents, and gives the same, cleaned. Rules with
    `applies_to: [input]` count; invisible characters are taken out in any case.

    Raises:
        BlockedInputError: Where a rule with the action block or stop applies to what a user wrote. Documents and tool
            results are not worth an error: the part that is blocked is cut out.
    """

    def __init__(self, parser: SafetyParser):
        self.parser = parser

    def check(self, text: str, place: Place = "input") -> InputVerdict:
        """Look at one text."""
        shown, hidden = _HIDDEN.subn(lambda _: "", text)
        filtered = TextFilter(self.parser.input_rules).feed(shown, final=True)
        events = self.parser.audit.record(filtered.findings, place)
        blocked = filtered.ended_by.rule.id if filtered.ended_by else None
        return InputVerdict(filtered.text, tuple(events), blocked, hidden)

    def clean(self, value: Any) -> tuple[Any, list[AuditEvent]]:
        """The same value as the model may read it."""
        events: list[AuditEvent] = []
        if isinstance(value, PromptValue):
            value = value.to_messages()
        if isinstance(value, list):
            return [self._one(item, events) for item in _as_items(value)], events
        return self._one(value, events), events

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        """The same value, cleaned."""

        def run(value: Any, config: RunnableConfig) -> Any:
            output, events = self.clean(value)
            dispatch(events, config)
            return output

        return self._call_with_config(cast("Any", run), input, config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        """The same value, cleaned."""

        async def run(value: Any, config: RunnableConfig) -> Any:
            output, events = await asyncio.to_thread(self.clean, value)  # a judge may be asked
            await adispatch(events, config)
            return output

        return await self._acall_with_config(cast("Any", run), input, config)

    def _one(self, value: Any, events: list[AuditEvent]) -> Any:
        if isinstance(value, str):
            return self._user_text(value, events)
        if isinstance(value, Document):
            return value.model_copy(update={"page_content": self._foreign_text(value.page_content, events)})
        if isinstance(value, ToolMessage):
            return _with_text(value, lambda text: self._foreign_text(text, events))
        if isinstance(value, HumanMessage):
            return _with_text(value, lambda text: self._user_text(text, events))
        if isinstance(value, BaseMessage):
            return value  # the application's own words, and the model's
        raise TypeError(f"InputGuard reads text, messages and documents, not {type(value).__name__}")

    def _user_text(self, text: str, events: list[AuditEvent]) -> str:
        verdict = self.check(text)
        events += verdict.events
        if verdict.blocked_by:
            raise BlockedInputError(
                f"the policy {self.parser.policy.name!r} blocks this input by its rule {verdict.blocked_by!r}",
                rule=verdict.blocked_by,
            )
        return verdict.text

    def _foreign_text(self, text: str, events: list[AuditEvent]) -> str:
        verdict = self.check(text, "tool_result")
        events += verdict.events
        return f"{verdict.text}[removed by {verdict.blocked_by}]" if verdict.blocked_by else verdict.text


def _as_items(items: Sequence[Any]) -> Sequence[Any]:
    return items if all(isinstance(item, Document) for item in items) else convert_to_messages(items)


def _with_text(message: BaseMessage, clean: Any) -> BaseMessage:
    content: Any = message.content
    if isinstance(content, str):
        return message.model_copy(update={"content": clean(content)})
    blocks = [
        {**block, "text": clean(block["text"])} if isinstance(block, dict) and block.get("type") == "text" else block
        for block in (clean(block) if isinstance(block, str) else block for block in content)
    ]
    return message.model_copy(update={"content": blocks})
