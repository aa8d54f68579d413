"""Filters one answer: its text while it streams, its tool calls when they are whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import ToolCall, tool_call_chunk

from langchain_qwen.safety.audit import Audit, AuditEvent, Place
from langchain_qwen.safety.filtering import Finding, TextFilter
from langchain_qwen.safety.policy import Action, Policy, Rule
from langchain_qwen.safety.refusals import is_refusal

_OPENING = 240

NewFilter = Callable[[bool], TextFilter]


class AnswerFilter:
    """Chunks of one message in, chunks that may leave out.

    A tool call leaves whole or not at all, since half of one is of no use to anybody.
    """

    def __init__(self, new_filter: NewFilter, policy: Policy, audit: Audit, *, as_json: bool, language: str):
        self._new_filter = new_filter
        self._policy, self._audit, self._language = policy, audit, language
        self._text = new_filter(as_json)
        self._calls: dict[Any, dict[str, Any]] = {}
        self._opening = ""
        self._ended: Rule | None = None
        self._last: AIMessageChunk | None = None
        self.events: list[AuditEvent] = []

    @property
    def ended(self) -> bool:
        """Whether a rule has ended the answer; nothing more need be generated."""
        return self._ended is not None

    def end_before(self, rule_id: str) -> None:
        """Answer by a refusal, since this rule blocks the input."""
        self._ended = next(rule for rule in self._policy.rules if rule.id == rule_id)
        self._ended = self._ended.model_copy(update={"action": Action.BLOCK})

    def feed_text(self, piece: str, *, final: bool = False) -> str:
        """Clean text."""
        filtered = self._text.feed(piece, final=final)
        self.events += self._audit.record(filtered.findings, "output")
        self._ended = self._ended or _rule(filtered.ended_by)
        self._opening = (self._opening + filtered.text)[:_OPENING]
        return filtered.text

    def feed(self, chunk: AIMessageChunk) -> AIMessageChunk:
        """The same chunk with what may leave by now."""
        if isinstance(chunk.content, str):
            content: Any = self.feed_text(chunk.content)
        else:
            content = [self._block(block) for block in chunk.content]
        for part in chunk.tool_call_chunks:
            call = self._calls.setdefault(part.get("index"), {"name": None, "args": "", "id": None})
            call["args"] += part.get("args") or ""
            call["name"] = call["name"] or part.get("name")
            call["id"] = call["id"] or part.get("id")
        update = {"content": content, "tool_call_chunks": [], "tool_calls": [], "invalid_tool_calls": []}
        clean = chunk.model_copy(update={**update, "chunk_position": None})
        if chunk.chunk_position == "last":
            self._last = clean.model_copy(update={"content": "", "chunk_position": "last"})
            clean = clean.model_copy(update={"response_metadata": {}, "usage_metadata": None})
        return clean

    def finish(self) -> list[AIMessageChunk]:
        """What is left when the answer is complete, or has been ended."""
        message_id = self._last.id if self._last else None
        rest = "" if self.ended else self.feed_text("", final=True)
        calls = [] if self.ended else self._clean_calls()
        refused = self._ended is not None and self._ended.action is Action.BLOCK
        chunks = []
        if refused:
            rest += self._refusal_text()
        if rest or calls:
            chunks.append(AIMessageChunk(content=rest, tool_call_chunks=[] if self.ended else calls, id=message_id))
        closing = self._last or AIMessageChunk(content="", chunk_position="last")
        metadata = dict(closing.response_metadata)
        safety: dict[str, Any] = {"policy_hash": self._policy.hash, "events": [e.as_dict() for e in self.events]}
        if self._ended:
            metadata["finish_reason"] = "content_filter"
            safety["ended_by"] = self._ended.id
        safety["refusal"] = "policy" if refused else "model" if is_refusal(self._opening) else None
        content: Any = [{"type": "refusal", "refusal": self._refusal_text()}] if refused else ""
        update = {"content": content, "response_metadata": {**metadata, "safety": safety}}
        chunks.append(closing.model_copy(update=update))
        return chunks

    def _refusal_text(self) -> str:
        return self._policy.refusal_text(self._language)

    def _block(self, block: Any) -> Any:
        if isinstance(block, str):
            return self.feed_text(block)
        if isinstance(block, dict) and block.get("type") == "text":
            return {**block, "text": self.feed_text(block.get("text", ""))}
        return block

    def _clean_calls(self) -> list[Any]:
        cleaned = []
        for index, call in self._calls.items():
            args = self._clean_arguments(call["args"])
            if args is None:
                return []
            cleaned.append(tool_call_chunk(name=call["name"], args=args, id=call["id"], index=index))
        return cleaned

    def _clean_arguments(self, args: str) -> str | None:
        """The arguments as JSON, cleaned; None where a rule ends the answer."""
        filtered = self._new_filter(True).feed(args, final=True)
        place: Place = "tool_call"
        self.events += self._audit.record(filtered.findings, place)
        self._ended = self._ended or _rule(filtered.ended_by)
        return None if filtered.ended_by else filtered.text

    def whole(self, message: AIMessage) -> AIMessage:
        """A message that is complete already, filtered as its stream would be."""
        total = self.feed(as_last_chunk(message))
        for rest in self.finish():
            total = total + rest
        return AIMessage(
            content=total.content,
            id=message.id,
            name=message.name,
            additional_kwargs=total.additional_kwargs,
            response_metadata=total.response_metadata,
            usage_metadata=message.usage_metadata,
            tool_calls=total.tool_calls,
            invalid_tool_calls=[] if self.ended else [*message.invalid_tool_calls, *total.invalid_tool_calls],
        )


def _as_chunk(call: ToolCall, index: int) -> Any:
    args = json.dumps(call["args"], ensure_ascii=False)
    return tool_call_chunk(name=call["name"], args=args, id=call["id"], index=index)


def _rule(finding: Finding | None) -> Rule | None:
    return finding.rule if finding else None


def as_last_chunk(message: AIMessage) -> AIMessageChunk:
    """A complete message as the only chunk of its stream."""
    return AIMessageChunk(
        content=message.content,
        id=message.id,
        name=message.name,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
        tool_call_chunks=[_as_chunk(call, index) for index, call in enumerate(message.tool_calls)],
        chunk_position="last",
    )
