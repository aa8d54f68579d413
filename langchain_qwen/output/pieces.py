"""What an answer is made of, in its order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """Text for the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A tool call begins; fragments of its arguments follow."""

    index: int
    id: str
    name: str | None


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A fragment of a call's arguments; all together are JSON text."""

    index: int
    fragment: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """A call is over; `error` says why it is invalid."""

    index: int
    error: str | None


Piece = Text | Reasoning | CallStart | CallArguments | CallEnd
