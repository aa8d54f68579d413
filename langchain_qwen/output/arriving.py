"""Text that arrives in pieces, read once from left to right, and given back where it turned out to be something else.

What reads it is a generator, which yields where it needs more text. So each character is looked at once, however small
the pieces are; a reader that starts again with each piece takes quadratic time.
"""

from __future__ import annotations

import re
from collections.abc import Generator

MAX_DEPTH = 100
"""Brackets within brackets that are read; Python's own JSON parser gives up at some hundred."""

_SPACE = re.compile(r"\s*")
_IN_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_SCALAR = re.compile(r"[^\s,\]}\"{\[]*")
_PLAIN = re.compile(r'[^"{}\[\]]*')

Reading = Generator[None, None, str]


class Ended(Exception):  # noqa: N818  not an error: the text ends before the value does
    """There is no more text."""


class NoValue(Exception):  # noqa: N818
    """What stands here is not what was looked for."""


class Arriving:
    """Text as far as it came.

    Attributes:
        window: What may still be read, and some that was.
        at: Where in `window` reading goes on.
        final: Whether nothing follows.
    """

    def __init__(self) -> None:
        self.window = ""
        self.at = 0
        self.final = False
        self._kept: int | None = None  # where in `window` that begins which may be given back
        self._before: list[str] = []  # and what of it came before `window`

    def add(self, piece: str, *, final: bool) -> None:
        """More text. What was read is forgotten, unless it may be given back."""
        if self._kept is not None:
            self._before.append(self.window[self._kept : self.at])
            self._kept = 0
        self.window, self.at = self.window[self.at :] + piece, 0
        self.final = final

    def keep(self) -> None:
        """From here on, text may be given back."""
        self._kept, self._before = self.at, []

    def forget(self) -> None:
        """Nothing that was read is given back."""
        self._kept, self._before = None, []

    def give_back(self) -> None:
        """Read again from the last `keep`."""
        assert self._kept is not None
        if self._before:
            self.window, self.at = "".join(self._before) + self.window[self._kept :], 0
        else:
            self.at = self._kept
        self.forget()

    def take(self, count: int) -> str:
        """Read so many characters of the window."""
        taken = self.window[self.at : self.at + count]
        self.at += count
        return taken

    def at_end(self) -> Generator[None, None, bool]:
        """Whether no character follows."""
        while self.at == len(self.window):
            if self.final:
                return True
            yield
        return False

    def peek(self) -> Reading:
        """The next character."""
        if (yield from self.at_end()):
            raise Ended
        return self.window[self.at]

    def run(self, pattern: re.Pattern[str]) -> Reading:
        """All that follows of a pattern that matches any number of characters, one by one."""
        taken: list[str] = []
        while not (yield from self.at_end()):
            match = pattern.match(self.window, self.at)
            assert match is not None
            taken.append(self.take(match.end() - self.at))
            if self.at < len(self.window):
                break
        return "".join(taken)

    def space(self) -> Reading:
        """White space, perhaps none."""
        return (yield from self.run(_SPACE))

    def literal(self, text: str) -> Generator[None, None, bool]:
        """Read this text, or nothing; whether it is there."""
        while len(self.window) - self.at < len(text) and text.startswith(self.window[self.at :]) and not self.final:
            yield
        found = self.window.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def string(self) -> Generator[None, None, str]:
        """A JSON string with its quotes."""
        taken = [self.take(1)]
        while True:
            match = _IN_STRING.match(self.window, self.at)
            assert match is not None
            taken.append(self.take(match.end() - self.at))
            if self.window.startswith('"', self.at):
                return "".join([*taken, self.take(1)])
            if self.final:
                raise Ended
            yield

    def value(self, heard: Heard) -> Generator[None, None, None]:
        """A JSON value, by its brackets and quotes alone.

        Raises:
            Ended: If the text ends within it.
            NoValue: If there is none.
        """
        first = yield from self.peek()
        if first == '"':
            return heard.add((yield from self.string()))
        if first not in "{[":
            scalar = yield from self.run(_SCALAR)
            if not scalar:
                raise NoValue
            yield from self.peek()  # a number may go on
            return heard.add(scalar)
        depth = 0
        while True:
            character = yield from self.peek()
            if character == '"':
                # Piece by piece, since it may be long and is passed on.
                yield from self._string_within(heard)
            elif character in "{[":
                depth += 1
                heard.add(self.take(1), depth)
            elif character in "}]":
                depth -= 1
                heard.add(self.take(1))
                if depth == 0:
                    return None
            else:
                match = _PLAIN.match(self.window, self.at)
                assert match is not None
                heard.add(self.take(match.end() - self.at))

    def _string_within(self, heard: Heard) -> Generator[None, None, None]:
        heard.add(self.take(1))
        while True:
            match = _IN_STRING.match(self.window, self.at)
            assert match is not None
            heard.add(self.take(match.end() - self.at))
            if self.window.startswith('"', self.at):
                return heard.add(self.take(1))
            if self.final:
                heard.add(self.take(1))  # half an escape
                raise Ended
            yield


class Heard:
    """What was read of a value, up to the bracket that is too deep.

    Attributes:
        too_deep: Whether there is such a bracket; it and what follows it are left out.
    """

    def __init__(self, text: str = "", *, max_depth: int = MAX_DEPTH) -> None:
        self._parts = [text]
        self._max_depth = max_depth
        self.too_deep = False

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    def add(self, part: str, depth: int = 0) -> None:
        """More of it; `depth` where it is an opening bracket."""
        self.too_deep = self.too_deep or depth > self._max_depth
        if part and not self.too_deep:
            self._parts.append(part)
            self.pass_on(part)

    def pass_on(self, part: str) -> None:
        """What to do with each part as it comes."""
