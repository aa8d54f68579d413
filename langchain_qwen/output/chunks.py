"""Pieces of an answer to LangChain's message chunks."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCallChunk

from langchain_qwen.output.pieces import CallArguments, CallEnd, CallStart, Piece, Reasoning, Text

REASONING = "reasoning_content"
_BRACKET_OR_STRING = re.compile(r'[{}\[\]]|"[^"\\]*(?:\\.[^"\\]*)*(?P<end>"?)', re.DOTALL)


class ChunkMaker:
    """Makes one `AIMessageChunk` of the pieces that a token adds.

    LangChain adds chunks up and reads the arguments leniently: of a call that was cut at `{"amount": 1` it would make
    a valid call with the amount 1. A call that is invalid therefore ends with a bracket that closes nothing, which
    makes it one of the message's `invalid_tool_calls` for every consumer, streaming or not.
    """

    def __init__(self) -> None:
        self._arguments: dict[int, list[str]] = {}

    def chunk(self, pieces: Sequence[Piece]) -> AIMessageChunk:
        """The pieces as one chunk."""
        text: list[str] = []
        reasoning: list[str] = []
        calls: dict[int, ToolCallChunk] = {}  # one a call: LangChain does not add up within a chunk
        fragments: dict[int, list[str]] = {}

        def extend(index: int, args: str) -> None:
            calls.setdefault(index, _call_chunk(index))
            fragments.setdefault(index, []).append(args)

        for piece in pieces:
            match piece:
                case Text():
                    text.append(piece.text)
                case Reasoning():
                    reasoning.append(piece.text)
                case CallStart():
                    self._arguments[piece.index] = []
                    calls[piece.index] = _call_chunk(piece.index, piece.id, piece.name)
                case CallArguments():
                    self._arguments[piece.index].append(piece.fragment)
                    extend(piece.index, piece.fragment)
                case CallEnd():
                    arguments = self._arguments.pop(piece.index)
                    if piece.error is not None:
                        extend(piece.index, _spoiler("".join(arguments)))
        for index, args in fragments.items():
            calls[index]["args"] = "".join(args)
        chunk = AIMessageChunk(content="".join(text), tool_call_chunks=list(calls.values()))
        if reasoning:  # where LangChain looks for it, and most of its models put it
            chunk.additional_kwargs[REASONING] = "".join(reasoning)
        return chunk


def _call_chunk(index: int, id_: str | None = None, name: str | None = None) -> ToolCallChunk:
    return ToolCallChunk(name=name, args="", id=id_, index=index, type="tool_call_chunk")


def _spoiler(arguments: str) -> str:
    """An ending with which LangChain's lenient parser reads no object; empty where it surely reads none anyway.

    The ending closes a bracket that is not the one open last, which that parser refuses at once. Of other text that is
    no JSON it tries each beginning, which takes quadratic time.
    """
    try:
        if not isinstance(json.loads(arguments, strict=False), dict):
            return ""
    except ValueError:
        pass
    opened: list[str] = []
    quote = ""
    for match in _BRACKET_OR_STRING.finditer(arguments):
        lexeme = match.group()
        if lexeme in "{[":
            opened.append("}" if lexeme == "{" else "]")
        elif lexeme in "}]":
            if not opened or opened.pop() != lexeme:
                return ""
        elif not match["end"]:  # within a string, perhaps within an escape
            quote = '""' if match.end() < len(arguments) else '"'
    return quote + ("}" if opened and opened[-1] == "]" else "]")
