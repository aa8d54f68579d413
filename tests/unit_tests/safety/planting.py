"""LangChain's messages and documents with one marked secret in each place that can hold a string, found by their types.

A field, a type of message or a type of content block that a later langchain-core adds is found too.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, NamedTuple, Union

import typing_extensions
from langchain_core import messages as core
from langchain_core.documents import Document
from langchain_core.messages import AIMessageChunk, BaseMessage, BaseMessageChunk, RemoveMessage
from langchain_core.messages import content as blocks
from pydantic import BaseModel

LEFT, RIGHT = "kim.secret@exam", "ple.com"
SECRET = LEFT + RIGHT
"""An address, since each policy knows how to find one, that can be cut in two."""

_DEEPEST = 5


class Planted(NamedTuple):
    """Where a secret is, by names and `[]`, and what holds it."""

    path: str
    value: Any


def message_types() -> list[type[BaseMessage]]:
    kinds = [kind for _, kind in inspect.getmembers(core, inspect.isclass) if issubclass(kind, BaseMessage)]
    return [kind for kind in kinds if kind not in (BaseMessage, BaseMessageChunk, RemoveMessage)]


def block_types() -> list[Any]:
    kinds = [kind for _, kind in inspect.getmembers(blocks) if typing_extensions.is_typeddict(kind)]
    return [kind for kind in kinds if "type" in kind.__annotations__]


def planted(kind: type[BaseModel]) -> list[Planted]:
    """Each way to have the secret in an object of this class, one place each, its extra fields included."""
    found = []
    for name, annotation in typing.get_type_hints(kind).items():
        if name in kind.model_fields:
            ways = _content() if name == "content" else plant(annotation)
            found += [Planted(f"{name}{path}", _built(kind, {name: value})) for path, value in ways]
    if kind.model_config.get("extra") == "allow":
        found.append(Planted("of_tomorrow", _built(kind, {"of_tomorrow": SECRET})))
    return found


def plant(annotation: Any, depth: int = 0) -> Iterator[Planted]:
    """Values of a type, each with the secret in one place."""
    annotation = _bare(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if depth > _DEEPEST or origin is Literal:
        return
    if annotation is str:
        yield Planted("", SECRET)
    elif annotation in (Any, object):
        yield from _anything()
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from plant(argument, depth)
    elif origin in (list, Sequence) or annotation is list:
        for path, value in plant(arguments[0] if arguments else Any, depth + 1):
            yield Planted(f"[]{path}", [value])
    elif typing_extensions.is_typeddict(annotation):
        yield from _in_typed_dict(annotation, depth)
    elif annotation is dict or origin in (dict, Mapping):
        for path, value in _anything():
            yield Planted(f".any{path}", {"any": value})
        yield Planted(".key", {SECRET: "value"})


def _anything() -> Iterator[Planted]:
    yield Planted("", SECRET)
    yield Planted(".of_dict", {"a": [{"b": SECRET}]})
    yield Planted(".of_key", {"a": {SECRET: 1}})
    yield Planted(".of_tuple", (1, SECRET))


def _in_typed_dict(kind: Any, depth: int) -> Iterator[Planted]:
    hints = typing_extensions.get_type_hints(kind, include_extras=True)
    for name, hint in hints.items():
        for path, value in plant(hint, depth + 1):
            yield Planted(f".{name}{path}", {**minimal(kind), name: value})


def _content() -> Iterator[Planted]:
    yield Planted("", SECRET)
    yield Planted("[]", ["a", SECRET])
    yield Planted("[].split", [{"type": "text", "text": f"to {LEFT}"}, {"type": "text", "text": RIGHT}])
    yield Planted("[].no_type", [{"text": SECRET}])
    for kind in block_types():
        for path, value in _in_typed_dict(kind, 0):
            yield Planted(f"[]<{kind.__name__}>{path}", [value])
    of_providers: list[dict[str, Any]] = [
        {"type": "refusal", "refusal": SECRET},
        {"type": "thinking", "thinking": SECRET, "signature": "s"},
        {"type": "thinking", "thinking": "t", "signature": SECRET},
        {"type": "reasoning_content", "reasoning_content": {"text": SECRET}},
        {"type": "tool_use", "id": "1", "name": SECRET, "input": {}},
        {"type": "tool_use", "id": "1", "name": "n", "input": {"to": SECRET}},
        {"type": "tool_use", "id": "1", "name": "n", "partial_json": '{"to": "kim.secret\\u0040example.com"}'},
        {"type": "input_json_delta", "partial_json": f'{{"to": "{SECRET}'},
        {"type": "function_call", "call_id": "1", "name": "n", "arguments": f'{{"to": "{SECRET}"}}'},
        {"type": "image_url", "image_url": {"url": f"https://x.y/?{SECRET}"}},
        {"type": "json", "json": {"to": [SECRET]}},
        {"type": "of_tomorrow", "said": {"to": SECRET}},
        {"type": "of_tomorrow", SECRET: 1},
    ]
    for block in of_providers:
        yield Planted(f"[]<{block['type']}>", [block])
        yield Planted(f"[]<{block['type']}>.indexed", [{**block, "index": 0}])


def minimal(annotation: Any) -> Any:
    """The least that a type allows."""
    annotation = _bare(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if typing_extensions.is_typeddict(annotation):
        hints = typing_extensions.get_type_hints(annotation, include_extras=True)
        return {name: minimal(hints[name]) for name in annotation.__required_keys__ | {"type"} & hints.keys()}
    if origin is Literal:
        return arguments[0]
    if origin in (Union, UnionType):
        return minimal(arguments[0])
    empty = {str: "x", int: 1, dict: {}, list: []}
    return empty.get(origin or annotation)


def _bare(annotation: Any) -> Any:
    while typing.get_origin(annotation) in (
        typing_extensions.NotRequired,
        typing_extensions.Required,
        typing.Annotated,
    ):
        annotation = typing.get_args(annotation)[0]
    return annotation


def _built(kind: type[BaseModel], fields: dict[str, Any]) -> Any:
    needed = {
        name: "x"
        for name, field in kind.model_fields.items()
        if field.is_required() and name not in fields and name != "type"
    }
    needed |= {"content": "hello"} if "content" in needed else {}
    try:
        return kind(**{**needed, **fields})
    except (TypeError, ValueError):  # LangChain checks some fields of a message that is made, and none of a copy
        return kind(**{"content": "hello", **needed}).model_copy(update=fields)


def documents() -> list[Planted]:
    return planted(Document)


def everything(value: Any) -> str:
    """All that can be read from a value: as it is printed, and as it is stored."""
    if isinstance(value, BaseModel):
        shown = [repr(value), repr(value.model_dump())]
        if isinstance(value, BaseMessage):
            shown += [value.text, repr(value.content_blocks), value.pretty_repr()]
        return "\n".join(shown)
    return repr(value)


def of_answers() -> list[Planted]:
    """Answers of a model with a secret, as messages and as chunks."""
    return [*planted(core.AIMessage), *planted(AIMessageChunk)]
