"""Token ids to text, reasoning and tool calls, while they are generated."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Sequence

from langchain_qwen.output.arriving import Arriving
from langchain_qwen.output.call_syntax import FENCE, OPEN, CallReader
from langchain_qwen.output.detokenize import Detokenizer
from langchain_qwen.output.pieces import Piece, Text
from langchain_qwen.output.stop_strings import StopStrings
from langchain_qwen.output.thought import Thought

# Where a block may begin: a tag anywhere, a fence or a bracket at the beginning of a line.
_BLOCK = re.compile(rf"{OPEN}|^{FENCE}|^[\[{{]", re.MULTILINE)
_BLOCK_IN_FENCE = re.compile(rf"{OPEN}|^{FENCE}", re.MULTILINE)


class CallParser:
    """Finds the tool calls in a text that comes in pieces.

    White space around a call is layout and dropped; all other text is passed on unchanged. What may still become a
    call is held back, until it cannot, or until its name is that of a tool; then its arguments are passed on as they
    come.
    """

    def __init__(self, tool_names: Collection[str]):
        self._source = Arriving()
        self._pieces: list[Piece] = []
        self._reader = CallReader(self._source, tool_names, self._pieces)
        self._block: Generator[None, None, int] | None = None  # the block that is being read
        self._space: list[str] = []  # white space that is dropped if a call follows
        self._line_begins = True
        self._in_fence = False  # within a fenced block that is text
        self._after_call = False  # only white space since the last call

    @property
    def completed(self) -> int:
        """Valid calls so far."""
        return self._reader.completed

    def feed(self, text: str, *, final: bool = False) -> list[Piece]:
        """What `text` adds; `final` for the end of the answer."""
        self._source.add(text, final=final)
        while self._advance():
            pass
        if final:
            self._show("".join(self._space))
        pieces = list(self._pieces)
        self._pieces.clear()
        return pieces

    def _advance(self) -> bool:
        """Pass on the text before the next block, or read on in the block; whether there may be more to do."""
        source = self._source
        if self._block is not None:
            return self._read_on(self._block)
        start = self._block_start()
        if start is None:
            keep = 0 if source.final else self._undecided()
            self._pass_on(len(source.window) - source.at - keep)
            return False
        self._pass_on(start - source.at)
        if self._in_fence and source.window.startswith(FENCE, start):  # the end of a fenced block that is text
            self._in_fence = False
            self._pass_on(len(FENCE))
        else:
            self._block = self._reader.block()
        return True

    def _read_on(self, block: Generator[None, None, int]) -> bool:
        try:
            next(block)
        except StopIteration as end:
            self._block = None
            if end.value:
                self._in_fence = self._in_fence or self._source.window.startswith(FENCE, self._source.at)
                self._pass_on(end.value)
            else:
                self._space.clear()
                self._line_begins, self._after_call = True, True
            return True
        return False

    def _block_start(self) -> int | None:
        source = self._source
        if self._line_begins and source.window.startswith((FENCE,) if self._in_fence else (FENCE, "[", "{"), source.at):
            return source.at
        pattern = _BLOCK_IN_FENCE if self._in_fence else _BLOCK
        for match in pattern.finditer(source.window, source.at):
            if match.start() > source.at or match.group() == OPEN:
                return match.start()
        return None

    def _undecided(self) -> int:
        """How much of the end may still begin a block."""
        text, at = self._source.window, self._source.at
        for length in range(min(len(OPEN) - 1, len(text) - at), 0, -1):
            start = len(text) - length
            at_line = self._line_begins if start == at else text[start - 1] == "\n"
            if OPEN.startswith(text[start:]) or (at_line and FENCE.startswith(text[start:])):
                return length
        return 0

    def _pass_on(self, count: int) -> None:
        text = self._source.take(count)
        if not text:
            return
        self._line_begins = text.endswith("\n")
        seen = text.rstrip()
        if seen:
            self._show("".join([*self._space, seen]))
            self._space.clear()
        if len(seen) < len(text):
            self._space.append(text[len(seen) :])

    def _show(self, text: str) -> None:
        if self._after_call:
            text = text.lstrip()
            self._after_call = not text
        if text:
            self._pieces.append(Text(text))


class OutputParser:
    """The way of one answer from token ids to text, reasoning and tool calls.

    Stop strings and calls are looked for in the answer, not in the reasoning before it.

    Attributes:
        stopped: Whether a stop string ended the answer.
    """

    def __init__(
        self,
        token_bytes: Callable[[int], bytes],
        *,
        stop: Sequence[str] = (),
        tool_names: Collection[str] = (),
        thought: Thought | None = None,
    ):
        self._thought = thought or Thought(token_bytes, None, opened=False)
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
        if (reasoning := self._thought.feed(token)) is not None:
            return reasoning
        text, self.stopped = self._stops.feed(self._detokenizer.feed(token))
        return self._parse(text)

    def finish(self) -> list[Piece]:
        """What was held back, at the end of the answer."""
        reasoning = self._thought.finish()
        text = ""
        if not self.stopped:
            text, self.stopped = self._stops.feed(self._detokenizer.flush())
            if not self.stopped:
                text += self._stops.flush()
        return [*reasoning, *self._parse(text, final=True)]

    def _parse(self, text: str, *, final: bool = False) -> list[Piece]:
        if self._calls:
            return self._calls.feed(text, final=final)
        return [Text(text)] if text else []
