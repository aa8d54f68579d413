"""Pieces of an answer to LangChain's message chunks."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.utils.json import parse_partial_json

from langchain_qwen.output.parser import CallArguments, CallEnd, CallStart, Piece, Text


class ChunkMaker:
    """Makes one `AIMessageChunk` of the pieces that a token adds.

    LangChain adds chunks up and reads the arguments leniently: of a call that was cut at `{"amount": 1` it would make
    a valid call with the amount 1. A call that is invalid therefore ends with a bracket that closes nothing, which
    makes it one of the message's `invalid_tool_calls` for every consumer, streaming or not.
    """

    def __init__(self) -> None:
        self._arguments: dict[int, str] = {}

    def chunk(self, pieces: Sequence[Piece]) -> AIMessageChunk:
        """The pieces as one chunk."""
        text: list[str] = []
        calls: dict[int, ToolCallChunk] = {}  # one a call: LangChain does not add up within a chunk

        def extend(index: int, args: str) -> None:
            call = calls.setdefault(index, _call_chunk(index))
            call["args"] = (call["args"] or "") + args

        for piece in pieces:
            match piece:
                case Text():
                    text.append(piece.text)
                case CallStart():
                    self._arguments[piece.index] = ""
                    calls[piece.index] = _call_chunk(piece.index, piece.id, piece.name)
                case CallArguments():
                    self._arguments[piece.index] += piece.fragment
                    extend(piece.index, piece.fragment)
                case CallEnd():
                    arguments = self._arguments.pop(piece.index)
                    if piece.error is not None:
                        extend(piece.index, _spoiler(arguments))
        return AIMessageChunk(content="".join(text), tool_call_chunks=list(calls.values()))


def _call_chunk(index: int, id_: str | None = None, name: str | None = None) -> ToolCallChunk:
    return ToolCallChunk(name=name, args="", id=id_, index=index, type="tool_call_chunk")


def _spoiler(arguments: str) -> str:
    """The shortest ending with which LangChain's lenient parser reads no object; empty where it reads none anyway."""
    for ending in ("", "]", "}", '"]', '"}', '""]', '""}'):
        text = arguments + ending
        try:
            if text and not isinstance(parse_partial_json(text), dict):
                return ending
        except ValueError:
            return ending
    raise AssertionError(f"no ending makes these arguments unreadable: {arguments!r}")
