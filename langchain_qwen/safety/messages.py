"""Filters one answer: text and reasoning while they stream, all else when it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, AIMessageChunk

from langchain_qwen.safety.audit import Audit, AuditEvent, Place
from langchain_qwen.safety.filtering import Filtered, TextFilter
from langchain_qwen.safety.joined_text import JoinedText
from langchain_qwen.safety.places import (
    EXEMPT,
    SEPARATOR,
    Channel,
    Visit,
    giving,
    map_block,
    map_message,
    map_value,
    split_block,
    strings_of,
)
from langchain_qwen.safety.policy import Action, Policy, Rule
from langchain_qwen.safety.refusals import OPENING, is_refusal
from langchain_qwen.safety.streams import Content, continues, logprob_texts, still_unreadable

_FEW = 8
_PLACES: dict[Channel, Place] = {"text": "output", "reasoning": "reasoning", "call": "tool_call", "json": "tool_call"}
_AT_ONCE = ("model_provider", "output_version")
"""What LangChain needs in each chunk to read its content."""
_SEPARATELY = ("content", "additional_kwargs", "response_metadata", "tool_call_chunks")
_READ_FROM_CHUNKS = ("tool_calls", "invalid_tool_calls")

NewFilter = Callable[[bool], TextFilter]
Value = TypeVar("Value")


class AnswerFilter:
    """Chunks of one message in, chunks that may leave out.

    Text and reasoning leave as soon as they are decided, also where they are cut into several blocks. Everything else
    that has parts in several chunks waits until it is whole: a tool call leaves whole or not at all, since half of one
    is of no use to anybody.
    """

    def __init__(self, new_filter: NewFilter, policy: Policy, audit: Audit, *, as_json: bool, language: str):
        self._new_filter = new_filter
        self._policy, self._audit, self._language = policy, audit, language
        self._as_json = as_json
        self._text, self._reasoning = JoinedText(new_filter(as_json)), JoinedText(new_filter(False))
        self._held: list[AIMessageChunk] = []
        self._last: AIMessageChunk | None = None
        self._id: str | None = None
        self._opening = ""
        self._edited = False
        self._logprobs_dropped = False
        # What each chunk of an answer repeats, so that it is looked at once.
        self._known: dict[tuple[tuple[str, Channel], ...], list[str]] = {(): []}
        self._ended: Rule | None = None
        self.events: list[AuditEvent] = []

    @property
    def ended(self) -> bool:
        """Whether a rule has ended the answer; nothing more need be generated."""
        return self._ended is not None

    def end_before(self, rule_id: str) -> None:
        """Answer by a refusal, since this rule blocks the input."""
        self._ended = next(rule for rule in self._policy.rules if rule.id == rule_id)
        self._ended = self._ended.model_copy(update={"action": Action.BLOCK})

    def feed_text(self, piece: str) -> str:
        """Clean text."""
        return "".join(text for _, text in self._feed_live("text", piece, None))

    def feed(self, chunk: AIMessageChunk) -> AIMessageChunk:
        """The same chunk with what may leave by now."""
        self._id = self._id or chunk.id
        content, held = self._feed_content(chunk.content)
        update: dict[str, Any]
        waiting: dict[str, Any] = {name: getattr(chunk, name) for name in _SEPARATELY}
        if held or any(waiting[name] for name in _SEPARATELY[1:]):
            self._held.append(
                chunk.model_copy(update={"content": held, "usage_metadata": None, "chunk_position": None})
            )
        update = {"content": content, "additional_kwargs": {}, "chunk_position": None}
        update |= {"tool_call_chunks": [], "tool_calls": [], "invalid_tool_calls": []}
        needed = {name: waiting["response_metadata"].get(name) for name in _AT_ONCE} if not self.ended else {}

        def rebuild(visit: Visit) -> dict[str, Any]:
            metadata = {name: map_value(value, visit) for name, value in needed.items() if value}
            fields = map_message(chunk, visit, skip=(*_SEPARATELY, *_READ_FROM_CHUNKS))
            return {**fields, "response_metadata": metadata}

        nothing: dict[str, Any] = {**dict.fromkeys(rebuild(_same)), "response_metadata": {}}
        clean = chunk.model_copy(update={**(self._clean(rebuild) or nothing), **update})
        if chunk.chunk_position == "last":
            self._last = clean.model_copy(update={"content": "", "chunk_position": "last"})
            clean = clean.model_copy(update={"response_metadata": {}, "usage_metadata": None})
        return clean

    def finish(self) -> list[AIMessageChunk]:
        """What is left when the answer is complete, or has been ended."""
        rest = Content()
        if not self.ended:
            rest.add(self._feed_live("text", "", None, final=True))
        if not self.ended:
            rest.add(self._feed_live("reasoning", "", None, final=True))
        held = _sum(self._held)
        metadata = self._clean_metadata(held.response_metadata)
        skip = ("response_metadata", *_READ_FROM_CHUNKS)
        fields = None if self.ended else self._clean(lambda visit: map_message(held, visit, skip=skip))
        chunks = []
        if self._refused:
            rest.add([(None, self._refusal_text())])
        if fields is not None:
            rest.extend(fields["content"])
            fields["tool_call_chunks"] = list(map(still_unreadable, held.tool_call_chunks, fields["tool_call_chunks"]))
        kwargs, calls = (fields["additional_kwargs"], fields["tool_call_chunks"]) if fields else ({}, [])
        if rest.blocks or kwargs or calls:
            content = rest.as_content()
            chunks.append(
                AIMessageChunk(content=content, additional_kwargs=kwargs, tool_call_chunks=calls, id=self._id)
            )
        closing = self._last or AIMessageChunk(content="", id=self._id, chunk_position="last")
        last: Any = [self._refusal_block()] if self._refused else ""
        chunks.append(closing.model_copy(update={"content": last, "response_metadata": self._said(metadata)}))
        return chunks

    def whole(self, message: AIMessage) -> AIMessage:
        """A message that is complete already, filtered as its stream would be."""
        if isinstance(message, AIMessageChunk):
            parts = {name: getattr(message, name) for name in AIMessage.model_fields if name != "type"}
            message = AIMessage("").model_copy(update={**parts, **(message.model_extra or {})})

        def rebuild(visit: Visit) -> dict[str, Any]:
            return map_message(message, visit, skip=("response_metadata",))

        strings = strings_of(rebuild)
        cleaned = self._clean_strings(strings)
        self._opening = "".join(text for (_, channel), text in zip(strings, cleaned, strict=True) if channel == "text")
        fields = rebuild(giving(cleaned))
        metadata = self._clean_metadata(message.response_metadata)
        if self.ended:
            content = Content()
            content.add_text_of(fields["content"])
            if self._refused:
                content.add([(None, self._refusal_text())])
                content.extend([self._refusal_block()])
            left: dict[str, Any] = {"content": content.as_content(), "id": message.id, "name": fields["name"]}
            fields = {**left, "usage_metadata": message.usage_metadata}
            return AIMessage(**fields, response_metadata=self._said(metadata))
        return message.model_copy(update={**fields, "response_metadata": self._said(metadata)})

    # -- parts --------------------------------------------------------------------------------------------------

    @property
    def _refused(self) -> bool:
        return self._ended is not None and self._ended.action is Action.BLOCK

    def _refusal_text(self) -> str:
        return self._policy.refusal_text(self._language)

    def _refusal_block(self) -> dict[str, str]:
        return {"type": "refusal", "refusal": self._refusal_text()}

    def _said(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """The metadata with what the policy did."""
        clean = dict(metadata)
        safety: dict[str, Any] = {"policy_hash": self._policy.hash, "events": [e.as_dict() for e in self.events]}
        if self._ended:
            clean["finish_reason"] = "content_filter"
            safety["ended_by"] = self._ended.id
        if self._logprobs_dropped:
            safety["logprobs"] = "dropped"
        safety["refusal"] = "policy" if self._refused else "model" if is_refusal(self._opening) else None
        return {**clean, "safety": safety}

    def _feed_content(self, content: Any) -> tuple[Any, list[Any]]:
        """What may leave of a chunk's content, and what has to wait."""
        out = Content()
        held: list[Any] = []
        if isinstance(content, str):
            out.add(self._feed_live("text", content, None))
            return out.as_content(), []
        for block in content:
            key, channel = split_block(block) if isinstance(block, Mapping) else (None, "text")
            if isinstance(block, str):
                out.add(self._feed_live("text", block, None))
            elif key is not None:
                self._feed_block(block, key, channel, out, held)
            elif continues(block):
                held.append(block)
            else:
                out.extend(self._clean(partial(_mapped, block)) or [])
        return out.as_content(as_list=True), held

    def _feed_block(self, block: Mapping[Any, Any], key: str, channel: Channel, out: Content, held: list[Any]) -> None:
        frame = {name: block[name] for name in ("type", *EXEMPT["block"]) if name in block}
        beside = {name: value for name, value in block.items() if name not in frame and name != key}
        owner = (key, frame)
        out.add(self._feed_live(channel, block[key], owner))
        if continues(block):
            out.add([(owner, "")])
            if beside:
                held.append({**frame, **beside})
        elif beside:
            out.add([(owner, "")])
            out.blocks[-1] |= self._clean(lambda visit: map_value(beside, visit)) or {}

    def _feed_live(self, channel: Channel, piece: str, owner: Any, *, final: bool = False) -> list[tuple[Any, str]]:
        if self.ended and not final:
            return []
        joined = self._text if channel == "text" else self._reasoning
        given, filtered = joined.feed(piece, owner, final=final)
        self._record(filtered, _PLACES[channel])
        if channel == "text":
            self._opening = (self._opening + filtered.text)[:OPENING]
        return given

    def _record(self, filtered: Filtered, place: Place) -> None:
        self.events += self._audit.record(filtered.findings, place)
        self._edited = self._edited or any(f.rule.action is not Action.FLAG for f in filtered.findings)
        self._ended = self._ended or (filtered.ended_by.rule if filtered.ended_by else None)

    def _clean(self, rebuild: Callable[[Visit], Value]) -> Value | None:
        """Data with its strings cleaned; None where one of them ends the answer."""
        strings = tuple(strings_of(rebuild))
        if strings not in self._known:
            already, self._ended = self._ended, None
            cleaned = self._clean_strings(strings)
            ended_here, self._ended = self._ended, already or self._ended
            if ended_here:
                return None
            if len(strings) > _FEW:
                return rebuild(giving(cleaned))
            self._known[strings] = cleaned
        return rebuild(giving(self._known[strings]))

    def _clean_strings(self, strings: Sequence[tuple[str, Channel]]) -> list[str]:
        """The same strings, cleaned; nothing of those behind an ending."""
        cleaned = [""] * len(strings)
        for group, place in _groups(strings):
            if self.ended:
                break
            separator = "" if place in ("output", "reasoning") else SEPARATOR
            as_json = strings[group[0]][1] == "json" or (place == "output" and self._as_json)
            joined = JoinedText(self._new_filter(as_json), by_place=bool(separator))
            for number in group:
                for piece, owner in ((strings[number][0], number), (separator, None)):
                    self._take(joined.feed(piece, owner), cleaned, place)
                if self.ended:
                    break
            self._take(joined.feed("", None, final=True), cleaned, place)
        return cleaned

    def _take(self, step: tuple[list[tuple[Any, str]], Filtered], cleaned: list[str], place: Place) -> None:
        given, filtered = step
        for owner, text in given:
            if owner is not None:
                cleaned[owner] += text
        self._record(filtered, place)

    def _clean_metadata(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Clean; the log probabilities of an answer that was edited, or whose tokens tell, are dropped.

        They spell out, token by token, what was taken out of the text.
        """
        logprobs = {name: value for name, value in metadata.items() if "logprob" in str(name)}
        others = {name: value for name, value in metadata.items() if name not in logprobs and name != "safety"}
        clean = self._clean(lambda visit: map_value(others, visit, numbers=False)) or {}
        told = self._edited or self.ended
        for text in () if told else logprob_texts(logprobs):
            filtered = self._new_filter(False).feed(text, final=True)
            told = told or any(finding.rule.action is not Action.FLAG for finding in filtered.findings)
        self._logprobs_dropped = bool(logprobs) and told
        return clean if told else {**clean, **logprobs}


def _mapped(block: Any, visit: Visit) -> list[Any]:
    return [map_block(block, visit)]


def _same(text: str, channel: Channel) -> str:  # noqa: ARG001
    return text


def _groups(strings: Sequence[tuple[str, Channel]]) -> Iterator[tuple[list[int], Place]]:
    """Which strings are looked at together, and as what."""
    for channels in (("text",), ("reasoning",), ("call",), ("sent", "other")):
        if group := [number for number, (_, channel) in enumerate(strings) if channel in channels]:
            yield group, _PLACES.get(channels[0], "metadata")
    for number, (_, channel) in enumerate(strings):
        if channel == "json":
            yield [number], "tool_call"


def _sum(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    empty = AIMessageChunk(content=[])
    return empty + chunks if chunks else empty
