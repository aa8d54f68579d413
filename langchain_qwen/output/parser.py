"""Token ids to text and tool calls, while they are generated."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from langchain_qwen.output.call_syntax import FENCE, OPEN, Call, Status, read_block
from langchain_qwen.output.detokenize import Detokenizer
from langchain_qwen.output.stop_strings import StopStrings


@dataclass(frozen=True, slots=True)
class Text:
    """Text for the reader."""

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


Piece = Text | CallStart | CallArguments | CallEnd

# Where a block may begin: a tag anywhere, a fence or a bracket at the beginning of a line.
_BLOCK = re.compile(rf"{OPEN}|^{FENCE}|^[\[{{]", re.MULTILINE)
_BLOCK_IN_FENCE = re.compile(rf"{OPEN}|^{FENCE}", re.MULTILINE)
_TRAILING_SPACE = re.compile(r"\s*\Z")


class CallParser:
    """Finds the tool calls in a text that comes in pieces.

    White space around a call is layout and dropped; all other text is passed on unchanged. What may still become a
    call is held back, until it cannot, or until its name is that of a tool; then its arguments are passed on as they
    come.
    """

    def __init__(self, tool_names: Collection[str]):
        self._tool_names = tool_names
        self._held = ""  # not passed on yet
        self._line_begins = True  # whether `_held` begins a line
        self._in_fence = False  # within a fenced block that is text
        self._after_call = False  # only white space since the last call
        self._next_index = 0
        self._open: list[tuple[int, bool]] = []  # calls of the block: characters of arguments passed on, ended
        self.completed = 0

    def feed(self, text: str, *, final: bool = False) -> list[Piece]:
        """What `text` adds; `final` for the end of the answer."""
        self._held += text
        pieces: list[Piece] = []
        while self._advance(pieces, final=final):
            pass
        return pieces

    def _advance(self, pieces: list[Piece], *, final: bool) -> bool:
        """Pass on the text before the next block, or what is new in the block; whether there may be more to do."""
        start = self._block_start()
        if start is None:
            keep = 0 if final else self._undecided()
            self._pass_on(len(self._held) - keep, pieces)
            return False
        if start > 0:
            # Keep the space before the block: it is dropped if this is a call.
            spaceless = len(self._held[:start].rstrip())
            if spaceless:
                self._pass_on(spaceless, pieces)
                start -= spaceless
        if self._in_fence and self._held.startswith(FENCE, start):  # the end of a fenced block that is text
            self._in_fence = False
            self._pass_on(start + len(FENCE), pieces)
            return True
        block = read_block(self._held[start:], self._tool_names, final=final)
        if block.status is Status.TEXT:
            self._in_fence = self._in_fence or self._held.startswith(FENCE, start)
            self._pass_on(start + max(block.end, 1), pieces)
            return True
        self._report(block.calls, pieces, ended=block.status is Status.CALLS)
        if block.status is Status.OPEN:
            return False
        self._held = self._held[start + block.end :]
        self._line_begins, self._after_call = True, True
        self._open = []
        return True

    def _block_start(self) -> int | None:
        pattern = _BLOCK_IN_FENCE if self._in_fence else _BLOCK
        for match in pattern.finditer(self._held):
            if match.start() > 0 or self._line_begins or match.group() == OPEN:
                return match.start()
        return None

    def _undecided(self) -> int:
        """How much of the end may still begin a block, or be the white space before one."""
        for length in range(min(len(OPEN) - 1, len(self._held)), 0, -1):
            tail = self._held[-length:]
            at_line = self._line_begins if length == len(self._held) else self._held[-length - 1] == "\n"
            if OPEN.startswith(tail) or (at_line and FENCE.startswith(tail)):
                break
        else:
            length = 0
        before = self._held[: len(self._held) - length]
        space = _TRAILING_SPACE.search(before)
        return length + (len(space.group()) if space else 0)

    def _pass_on(self, count: int, pieces: list[Piece]) -> None:
        text, self._held = self._held[:count], self._held[count:]
        if not text:
            return
        self._line_begins = text.endswith("\n")
        if self._after_call:
            text = text.lstrip()
            if text:
                self._after_call = False
        if text:
            pieces.append(Text(text))

    def _report(self, calls: list[Call], pieces: list[Piece], *, ended: bool) -> None:
        """Emit what is new since the last look at this block."""
        for place, call in enumerate(calls):
            if place == len(self._open):
                pieces.append(CallStart(self._next_index + place, f"call_{uuid.uuid4().hex[:24]}", call.name))
                self._open.append((0, False))
            sent, done = self._open[place]
            index = self._next_index + place
            if len(call.arguments) > sent:
                pieces.append(CallArguments(index, call.arguments[sent:]))
                sent = len(call.arguments)
            if not done and (call.complete or ended):
                pieces.append(CallEnd(index, call.error))
                done = True
                self.completed += call.error is None
            self._open[place] = (sent, done)
        if ended:
            self._next_index += len(calls)


class OutputParser:
    """The way of one answer from token ids to text and tool calls.

    Attributes:
        stopped: Whether a stop string ended the answer.
    """

    def __init__(
        self, token_bytes: Callable[[int], bytes], *, stop: Sequence[str] = (), tool_names: Collection[str] = ()
    ):
        self._detokenizer = Detokenizer(token_bytes)
        self._stops = StopStrings(stop)
        self._calls = CallParser(tool_names) if tool_names else None
        self.stopped = False

    @property
    def calls_completed(self) -> int:
        """Valid tool calls so far."""
        return self._calls.completed if self._calls else 0

    def feed(self, token: int) -> list[Piece]:
        """What a token adds."""
        text, self.stopped = self._stops.feed(self._detokenizer.feed(token))
        return self._parse(text)

    def finish(self) -> list[Piece]:
        """What was held back, at the end of the answer."""
        text = ""
        if not self.stopped:
            text, self.stopped = self._stops.feed(self._detokenizer.flush())
            if not self.stopped:
                text += self._stops.flush()
        return self._parse(text, final=True)

    def _parse(self, text: str, *, final: bool = False) -> list[Piece]:
        if self._calls:
            return self._calls.feed(text, final=final)
        return [Text(text)] if text else []
