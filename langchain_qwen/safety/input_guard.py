"""InputGuard: what users, documents and tools bring in, before the model reads it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_qwen.errors import BlockedInputError, InvalidParameterError
from langchain_qwen.inputs import check_no_arguments
from langchain_qwen.safety.audit import AuditEvent, Place, adispatch, dispatch
from langchain_qwen.safety.compiled import CompiledPolicy
from langchain_qwen.safety.filtering import RuleDetectors
from langchain_qwen.safety.joined_text import JoinedText
from langchain_qwen.safety.places import (
    SEPARATOR,
    Channel,
    Visit,
    giving,
    map_document,
    map_message,
    map_value,
    strings_of,
)
from langchain_qwen.safety.policy import JudgeSpec

# Zero-width joiners and variation selectors belong to emoji and to several scripts; these have no place in a text.
_HIDDEN = re.compile("[\u200b\u2060-\u2064\ufeff\u00ad\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]+")
_NOT_SENT = ("response_metadata",)
"""What no prompt holds: what a provider said about an earlier answer."""
_PLACES: tuple[tuple[type[BaseMessage], Place], ...] = (
    (SystemMessage, "system"),
    (AIMessage, "history"),
    (ToolMessage, "tool_result"),
    (FunctionMessage, "tool_result"),
)
_PLACES_OF_ROLES: dict[str, Place] = {
    "system": "system",
    "developer": "system",
    "assistant": "history",
    "ai": "history",
    "tool": "tool_result",
    "function": "tool_result",
}
Value = TypeVar("Value")


class _Piece(NamedTuple):
    text: str
    owner: int | None


class InputGuard(Runnable[Any, Any]):
    """The input side of a policy: `InputGuard(SafetyParser("balanced")) | model`.

    Takes what a chat model takes (a string, messages in each of LangChain's forms, a prompt), a single message, and
    lists of documents; gives strings, messages and documents, cleaned. Rules with `applies_to: [input]` count for all
    but system messages, which are the application's own: there, those with `applies_to: [system]`. Invisible characters
    are taken out in any case where rules apply.

    Text is looked at as the prompt joins it: a message's name with its text, and all its blocks. A judge of whole texts
    reads what users, documents and tools say; names, metadata and the like are looked at by the other rules, and so is
    what the model itself said before.

    Raises:
        BlockedInputError: Where a rule with the action block or stop applies to what a user or the application wrote.
            Documents, tool results and earlier answers are not worth an error: the part that is blocked is cut out.
    """

    def __init__(self, parser: CompiledPolicy):
        if not isinstance(parser, CompiledPolicy):
            raise InvalidParameterError(f"InputGuard takes a SafetyParser, not one {type(parser).__name__}")
        self.parser = parser

    def __repr__(self) -> str:
        return f"InputGuard({self.parser!r})"

    def clean(self, value: Any) -> tuple[Any, list[AuditEvent]]:
        """The same value as the model may read it."""
        events: list[AuditEvent] = []
        if isinstance(value, PromptValue):
            value = value.to_messages()
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [self._one(item, events) for item in _as_items(value)], events
        return self._one(value, events), events

    def clean_data(self, value: Any) -> tuple[Any, list[AuditEvent]]:
        """Any data that a tool gives, with the messages, documents and strings in it cleaned."""
        events: list[AuditEvent] = []
        return self._data(value, events), events

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The same value, cleaned."""
        check_no_arguments(self, kwargs)

        def run(value: Any, config: RunnableConfig) -> Any:
            output, events = self.clean(value)
            dispatch(events, config)
            return output

        return self._call_with_config(cast("Any", run), input, config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The same value, cleaned."""
        check_no_arguments(self, kwargs)

        async def run(value: Any, config: RunnableConfig) -> Any:
            output, events = await asyncio.to_thread(self.clean, value)  # a judge may be asked
            await adispatch(events, config)
            return output

        return await self._acall_with_config(cast("Any", run), input, config)

    # -- parts --------------------------------------------------------------------------------------------------

    def _one(self, value: Any, events: list[AuditEvent]) -> Any:
        if isinstance(value, str):
            return self._rebuilt(lambda visit: visit(value, "text"), "input", events)
        if isinstance(value, Document):
            return self._rebuilt(lambda visit: map_document(value, visit), "tool_result", events)
        if isinstance(value, BaseMessage):
            return self._message(value, events)
        raise TypeError(f"InputGuard reads text, messages and documents, not {type(value).__name__}")

    def _message(self, message: BaseMessage, events: list[AuditEvent]) -> BaseMessage:
        place = _place_of(message)
        if place == "system" and not self.parser.system_rules:
            return message
        name = message.name if isinstance(message, HumanMessage) else None

        def rebuild(visit: Visit) -> dict[str, Any]:
            shown = {"name": visit(f"{name}", "text")} if name else {}  # the prompt says "name: text"
            return {**shown, **map_message(message, visit, skip=(*_NOT_SENT, *shown))}

        return message.model_copy(update=self._rebuilt(rebuild, place, events, behind_first=": " if name else ""))

    def _data(self, value: Any, events: list[AuditEvent]) -> Any:
        if isinstance(value, (BaseMessage, Document)):
            return self._one(value, events)
        if isinstance(value, Mapping):
            return {self._data(key, events): self._data(item, events) for key, item in value.items()}
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return type(value)(self._data(item, events) for item in value)
        return self._rebuilt(lambda visit: map_value(value, visit, objects=False), "tool_result", events)

    def _rebuilt(
        self, rebuild: Callable[[Visit], Value], place: Place, events: list[AuditEvent], *, behind_first: str = ""
    ) -> Value:
        strings = [(_HIDDEN.sub("", text), channel) for text, channel in strings_of(rebuild)]
        clean = [""] * len(strings)
        self._clean_strings(strings, clean, place, events, behind_first)
        return rebuild(giving(clean))

    def _clean_strings(
        self,
        strings: list[tuple[str, Channel]],
        clean: list[str],
        place: Place,
        events: list[AuditEvent],
        behind_first: str,
    ) -> None:
        rules = self.parser.system_rules if place == "system" else self.parser.input_rules
        beside = [(rule, found) for rule, found in rules if not _judges_whole_texts(rule.detector)]
        texts = [_Piece(text, n) for n, (text, channel) in enumerate(strings) if channel == "text"]
        texts[1:1] = [_Piece(behind_first, None)] if behind_first else []
        sent = [_Piece(text, n) for n, (text, channel) in enumerate(strings) if channel == "sent"]
        others = [_Piece(text, n) for n, (text, c) in enumerate(strings) if c in ("reasoning", "call", "other")]
        read = [*texts, *(piece for one in sent for piece in (_Piece(SEPARATOR, None), one))]
        self._run(read, clean, beside if place == "history" else rules, place, events)
        rest = [piece for one in others for piece in (one, _Piece(SEPARATOR, None))]
        while rest:
            rest = self._run(rest, clean, beside, place, events)
        for number, (text, channel) in enumerate(strings):
            if channel == "json":
                self._run([_Piece(text, number)], clean, beside, place, events, as_json=True)

    def _run(
        self,
        pieces: list[_Piece],
        clean: list[str],
        rules: RuleDetectors,
        place: Place,
        events: list[AuditEvent],
        *,
        as_json: bool = False,
    ) -> list[_Piece]:
        """Write the clean strings; gives the pieces behind the one that is blocked."""
        joined = JoinedText(self.parser.new_input_filter(rules, as_json=as_json), by_place=True)
        for number, piece in enumerate([*pieces, _Piece("", None)] if pieces else []):
            given, filtered = joined.feed(piece.text, number, final=number == len(pieces))
            events += self.parser.audit.record(filtered.findings, place)
            for at, text in given:
                _append(clean, pieces[at].owner, text)
            if filtered.ended_by:
                self._raise_blocked(filtered.ended_by.rule.id, place)
                at = joined.owner_of(filtered.ended_by)
                _append(clean, pieces[at].owner, f"[removed by {filtered.ended_by.rule.id}]")
                return pieces[at + 1 :]
        return []

    def _raise_blocked(self, rule: str, place: Place) -> None:
        if place in ("input", "system"):
            raise BlockedInputError(
                f"the policy {self.parser.policy.name!r} blocks this input by its rule {rule!r}", rule=rule
            )


def _append(clean: list[str], owner: int | None, text: str) -> None:
    if owner is not None:
        clean[owner] += text


def _judges_whole_texts(detector: Any) -> bool:
    return isinstance(detector, JudgeSpec) and detector.unsure_at is None


def _place_of(message: BaseMessage) -> Place:
    if isinstance(message, ChatMessage):
        return _PLACES_OF_ROLES.get(message.role, "input")
    return next((place for kind, place in _PLACES if isinstance(message, kind)), "input")


def _as_items(items: Sequence[Any]) -> Sequence[Any]:
    return items if items and all(isinstance(item, Document) for item in items) else convert_to_messages(items)
