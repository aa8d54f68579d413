"""Every string of a message or a document, wherever it stands, and the way back to its place.

What is not named here is looked at: a field that LangChain adds tomorrow, a key that a provider invents, an object
that is not JSON. `EXEMPT` names what is not text of anybody, with the reasons.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage

from langchain_qwen.regular_files import without_doubles

Channel = Literal["text", "reasoning", "sent", "call", "json", "other"]
"""How a string is looked at: "text" and "reasoning" joined with nothing between, as readers join their blocks; "sent"
is other text of a prompt; "json" is JSON that cannot be read; the rest one by one."""

Visit = Callable[[str, Channel], str]
"""Is told a string and gives what is to stand in its place."""

EXEMPT: dict[str, dict[str, str]] = {
    "message": {
        "id": "pairs a message with its updates; made by LangChain or the provider",
        "type": "one of LangChain's names of classes",
        "tool_call_id": "pairs a result with its call; made by the model object or the provider",
        "status": "success or error",
        "chunk_position": "last or nothing",
        "usage_metadata": "numbers of tokens",
    },
    "document": {"id": "the store's key", "type": "always Document"},
    "call": {"id": "pairs a call with its result", "index": "its place among the calls", "type": "always a tool call"},
    "block": {
        "id": "the provider's name of a block",
        "index": "which pieces of a stream belong together",
        "call_id": "pairs a call with its result",
        "file_id": "the key of an upload",
        "tool_call_id": "pairs a result with its call",
    },
}
"""What is not looked at, by place and name, and why."""

TEXT_KEYS: dict[str | None, str] = {"text": "text", "text-plain": "text", "refusal": "refusal", None: "text"}
"""Where blocks of these types hold text that readers join."""
REASONING_KEYS = {"reasoning": "reasoning", "thinking": "thinking"}

_BINARY = ("base64", "data")
_SHORTEST_BINARY = 512
_DATA_URL = re.compile(r"data:[\w/.+-]+(?:;[\w=.-]+)*;base64,")
_JSON_STRINGS = ("args", "arguments", "partial_json", "input")
_DEEPEST = 100
_TOO_DEEP = "[removed: nested too deep]"
SEPARATOR = "\n;\n"
"""Stands between strings that nobody joins, so that nothing is found across them."""


def strings_of(rebuild: Callable[[Visit], Any]) -> list[tuple[str, Channel]]:
    """Every string that `rebuild` visits."""
    strings: list[tuple[str, Channel]] = []

    def visit(text: str, channel: Channel) -> str:
        strings.append((text, channel))
        return text

    rebuild(visit)
    return strings


def giving(texts: Iterable[str]) -> Visit:
    """Gives these texts one after the other in place of what is visited."""
    following = iter(texts)
    return lambda text, channel: next(following)  # noqa: ARG005


def map_message(message: BaseMessage, visit: Visit, *, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """All fields of a message but the exempt and the skipped ones, each string replaced by what `visit` gives."""
    fields = {**{name: getattr(message, name) for name in type(message).model_fields}, **(message.model_extra or {})}
    return {
        name: _field(name, value, visit)
        for name, value in fields.items()
        if name not in EXEMPT["message"] and name not in skip
    }


def map_document(document: Document, visit: Visit) -> Document:
    """The document with each string, the metadata's too, replaced by what `visit` gives for it."""
    fields = {name: getattr(document, name) for name in type(document).model_fields if name not in EXEMPT["document"]}
    update = {
        name: visit(value, "text") if name == "page_content" else map_value(value, visit)
        for name, value in fields.items()
    }
    return document.model_copy(update=update)


def map_value(
    value: Any, visit: Visit, channel: Channel = "other", *, numbers: bool = True, objects: bool = True, depth: int = 0
) -> Any:
    """Any data with each of its strings replaced, keys too. Numbers and objects are looked at as they are printed."""
    if value is None or isinstance(value, bool):
        return value
    if depth > _DEEPEST:
        return _TOO_DEEP
    if isinstance(value, str):
        clean = value if _is_binary_url(value) else visit(value, channel)
        return value if clean == value else clean
    if isinstance(value, Mapping):
        return _map_dict(value, visit, channel, numbers=numbers, objects=objects, depth=depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [map_value(item, visit, channel, numbers=numbers, objects=objects, depth=depth + 1) for item in value]
        return items if isinstance(value, list) else _same_kind(value, items)
    if isinstance(value, BaseMessage):
        return value.model_copy(update=map_message(value, visit))
    if isinstance(value, Document):
        return map_document(value, visit)
    if not (numbers if isinstance(value, (int, float)) else objects):
        return value
    shown = value.decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else str(value)
    clean = visit(shown, channel)
    return value if clean == shown else clean


def map_json(text: str, visit: Visit) -> str:
    """JSON with the strings in it replaced. What is no proper JSON is visited as it is written."""
    try:
        value = json.loads(text, object_pairs_hook=without_doubles)  # what is there twice would hide behind its double
    except (ValueError, RecursionError):
        return visit(text, "json")
    clean = map_value(value, visit, "call")
    return text if clean == value else json.dumps(clean, ensure_ascii=False)


def map_block(block: Any, visit: Visit) -> Any:
    """A content block."""
    if isinstance(block, str):
        return visit(block, "text")
    if not isinstance(block, Mapping):
        return map_value(block, visit)
    kind = block.get("type")
    is_text, is_reasoning = (isinstance(kind, str) or kind is None) and kind in TEXT_KEYS, kind in REASONING_KEYS
    own: str | None = TEXT_KEYS[kind] if is_text else REASONING_KEYS[str(kind)] if is_reasoning else None
    clean: dict[Any, Any] = {}
    for name, value in block.items():
        if name in EXEMPT["block"]:
            clean[name] = value
        elif name == own and isinstance(value, str):
            clean[name] = visit(value, "text" if is_text else "reasoning")
        elif name in _JSON_STRINGS and isinstance(value, str):
            clean[name] = map_json(value, visit)
        elif name in _BINARY and _is_binary(value):
            clean[name] = value
        elif name == "json":
            clean[name] = map_value(value, visit, "sent")
        else:
            clean[_key(name, visit, clean)] = map_value(value, visit)
    return clean


def split_block(block: Mapping[Any, Any]) -> tuple[str | None, Channel]:
    """Which key of a block holds text that is joined with that of other blocks, and which text that is."""
    kind = block.get("type")
    if kind is not None and not isinstance(kind, str):
        return None, "other"
    key = TEXT_KEYS.get(kind) or REASONING_KEYS.get(kind or "")
    if key is None or not isinstance(block.get(key), str):
        return None, "other"
    return key, "text" if kind in TEXT_KEYS else "reasoning"


def _field(name: str, value: Any, visit: Visit) -> Any:
    if name == "content":
        return visit(value, "text") if isinstance(value, str) else [map_block(block, visit) for block in value]
    if name in ("tool_calls", "invalid_tool_calls", "tool_call_chunks"):
        return [map_call(call, visit) for call in value]
    if name == "additional_kwargs":
        return _map_kwargs(value, visit)
    return map_value(value, visit, numbers=name != "response_metadata", objects=name != "artifact")


def map_call(call: Mapping[str, Any], visit: Visit) -> dict[str, Any]:
    """A tool call, an invalid one, or a piece of one."""
    return {
        name: value
        if name in EXEMPT["call"]
        else map_json(value, visit)
        if name == "args" and isinstance(value, str)
        else map_value(value, visit, "call")
        for name, value in call.items()
    }


def _map_kwargs(kwargs: Mapping[Any, Any], visit: Visit) -> dict[Any, Any]:
    """Where OpenAI's calls have JSON in a string, the strings in it."""
    clean: dict[Any, Any] = {}
    for name, value in kwargs.items():
        if name == "function_call" and isinstance(value, Mapping):
            clean[name] = _function(value, visit)
        elif name == "tool_calls" and isinstance(value, list) and all(isinstance(call, Mapping) for call in value):
            clean[name] = [
                {
                    key: part
                    if key in EXEMPT["call"]
                    else _function(part, visit)
                    if key == "function" and isinstance(part, Mapping)
                    else map_value(part, visit, "call")
                    for key, part in call.items()
                }
                for call in value
            ]
        else:
            clean[_key(name, visit, clean)] = map_value(value, visit)
    return clean


def _function(function: Mapping[Any, Any], visit: Visit) -> dict[Any, Any]:
    return {
        key: map_json(part, visit) if key == "arguments" and isinstance(part, str) else map_value(part, visit, "call")
        for key, part in function.items()
    }


def _map_dict(
    value: Mapping[Any, Any], visit: Visit, channel: Channel, *, numbers: bool, objects: bool, depth: int
) -> dict[Any, Any]:
    clean: dict[Any, Any] = {}
    for name, item in value.items():
        if channel == "other" and name in _BINARY and _is_binary(item):
            clean[name] = item
            continue
        key = _key(name, visit, clean, channel)
        clean[key] = map_value(item, visit, channel, numbers=numbers, objects=objects, depth=depth + 1)
    return clean


def _key(name: Any, visit: Visit, taken: Mapping[Any, Any], channel: Channel = "other") -> Any:
    """The clean key; two keys that have become the same are numbered."""
    key = map_value(name, visit, channel)
    number, candidate = 2, key
    while candidate in taken:
        candidate, number = f"{key} ({number})", number + 1
    return candidate


def _same_kind(value: Any, items: list[Any]) -> Any:
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _is_binary(value: Any) -> bool:
    """Whether a string is the bytes of a picture, a sound or a file, rather than text."""
    if not isinstance(value, str) or len(value) < _SHORTEST_BINARY:
        return False
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_binary_url(value: str) -> bool:
    match = _DATA_URL.match(value)
    return match is not None and _is_binary(value[match.end() :])
