"""What chunks need: their content put together, calls that stay unreadable, the tokens of log probabilities."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.utils.json import parse_partial_json

from langchain_qwen.safety.places import EXEMPT, split_block


class Content:
    """The content of a chunk, put together of texts and of the blocks that they stand in."""

    def __init__(self) -> None:
        self.blocks: list[Any] = []
        self._owner: Any = None

    def add(self, given: Iterable[tuple[Any, str]]) -> None:
        """Append texts, each into its block: a key and the rest of the block, or None for a plain string."""
        for owner, text in given:
            same = bool(self.blocks) and owner is self._owner
            if owner is None and same and isinstance(self.blocks[-1], str):
                self.blocks[-1] += text
            elif owner is not None and same:
                self.blocks[-1][owner[0]] += text
            elif owner is not None or text:
                self.blocks.append(text if owner is None else {**owner[1], owner[0]: text})
            self._owner = owner

    def extend(self, blocks: Iterable[Any]) -> None:
        """Append blocks that no text is added to."""
        self.blocks += blocks
        self._owner = object()

    def add_text_of(self, content: Any) -> None:
        """Append what is text or reasoning of a content that has been cut, and nothing else of it."""
        if isinstance(content, str):
            self.add([(None, content)])
            return
        for block in content:
            key = split_block(block)[0] if isinstance(block, Mapping) else None
            if isinstance(block, str):
                self.add([(None, block)])
            elif key is not None and block[key]:
                frame = {name: block[name] for name in ("type", *EXEMPT["block"]) if name in block}
                self.add([((key, frame), block[key])])

    def as_content(self, *, as_list: bool = False) -> Any:
        """A string where it is nothing else."""
        if as_list or not all(isinstance(block, str) for block in self.blocks):
            return self.blocks
        return "".join(self.blocks)


def continues(block: Mapping[Any, Any]) -> bool:
    """Whether LangChain adds later blocks of the same index to this one."""
    index = block.get("index")
    return isinstance(index, int) or (isinstance(index, str) and index.startswith("lc_"))


def readable(args: str) -> bool:
    """Whether LangChain's lenient parser reads these arguments as those of a call."""
    try:
        return isinstance(parse_partial_json(args), dict) if args else True
    except (ValueError, RecursionError):
        return False


def unreadable(args: str) -> str:
    """Arguments that stay those of an invalid call: a bracket that closes nothing."""
    return f"]{args}" if readable(args) else args


def logprob_texts(logprobs: Mapping[Any, Any]) -> Iterator[str]:
    """What the tokens spell, from one position to the next: the chosen ones, and the alternatives of each rank."""
    columns: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    names: set[str] = set()

    def read(value: Any, path: tuple[Any, ...], *, positions: bool) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                names.add(str(name))
                read(item, (*path, name), positions=positions)
        elif isinstance(value, (list, tuple)):
            for number, item in enumerate(value):
                read(item, (*path, "*" if positions else number), positions=False)
        elif not isinstance(value, (int, float, type(None))):
            columns[path].append(str(value))

    read(logprobs, (), positions=True)
    yield "\n".join(sorted(names))
    for column in columns.values():
        yield "".join(column)


def still_unreadable(raw: Mapping[str, Any], clean: Mapping[str, Any]) -> Any:
    """A call whose arguments could not be read does not become a call by being cleaned."""
    args, before = clean.get("args") or "", raw.get("args") or ""
    if before and readable(args) and not readable(before):
        return {**clean, "args": unreadable(args)}
    return clean


def _as_json(args: Mapping[str, Any]) -> str:
    return json.dumps(args, ensure_ascii=False, default=str)


def as_last_chunk(message: AIMessage) -> AIMessageChunk:
    """A complete message as the only chunk of its stream."""
    if isinstance(message, AIMessageChunk):
        return message.model_copy(update={"chunk_position": "last"})
    calls = [(call["name"], _as_json(call["args"]), call["id"]) for call in message.tool_calls]
    calls += [(call["name"] or "", unreadable(call["args"] or ""), call["id"]) for call in message.invalid_tool_calls]
    return AIMessageChunk(
        content=message.content,
        id=message.id,
        name=message.name,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
        tool_call_chunks=[
            tool_call_chunk(name=name, args=args, id=id_, index=index) for index, (name, args, id_) in enumerate(calls)
        ],
        chunk_position="last",
        **(message.model_extra or {}),
    )
