"""A folded text in UTF-8, with the way back to the original text.

Each unit of the text (a character, or an escape of JSON) folds by itself; only a mark looks at the letter it is set
on. So folding a text in pieces gives the same as folding it whole, and a span of folded text is a span of whole units.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache

from langchain_qwen.safety.letters import fold, is_mark

_RUNS = re.compile(r"(?P<plain>[\t\n\r -~]+)|[^\t\n\r -~]+")
_SPECIAL = re.compile(r'["\\]')
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^u])")
_UNFINISHED = re.compile(r"\\(?:u[0-9a-fA-F]{0,3}|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?)?\Z")
_LONGEST_ESCAPE = 12


@lru_cache(maxsize=8192)
def _encoded(letter: str) -> tuple[bytes, bool]:
    return fold(letter).encode(), is_mark(letter)


@dataclass(slots=True)
class Folded:
    """The folded text, and for each of its bytes the span of the original unit it came from.

    With `as_json`, escapes are read as what they stand for, and quotes that end or begin a string as line breaks.
    """

    as_json: bool = False
    text: bytes = b""
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    quoted: list[bool] = field(default_factory=list)
    """Whether it is in a JSON string; empty where the text is not JSON."""
    read: int = 0
    _in_string: bool = False
    _waiting: str = ""
    _parts: list[bytes] = field(default_factory=list)
    _last: str = "\n"

    def add_edge(self) -> None:
        """Mark the beginning or the end of the text by a line break that it does not have."""
        self._one("\n", 0)
        self._join()

    def feed(self, piece: str, *, final: bool = False) -> None:
        """Read on; an escape that is not complete waits for its rest."""
        if not self.as_json:
            self._plain(piece)
            self._join()
            return
        source = self._waiting + piece
        self._waiting = ""
        tail = max(len(source) - _LONGEST_ESCAPE, 0)
        if not final and (cut := _UNFINISHED.search(source, tail)) and self._is_open(source, cut.start()):
            source, self._waiting = source[: cut.start()], source[cut.start() :]
        at = 0
        while special := _SPECIAL.search(source, at):
            self._plain(source[at : special.start()])
            unit, plain = self._unit(source, special.start())
            self._one(plain, len(unit))
            at = special.start() + len(unit)
        self._plain(source[at:])
        self._join()

    def drop(self, count: int) -> None:
        """Forget the first folded bytes."""
        self.text = self.text[count:]
        del self.starts[:count], self.ends[:count], self.quoted[:count]

    def _plain(self, source: str) -> None:
        """Text without escapes."""
        for run in _RUNS.finditer(source):
            if run.lastgroup:
                self._bulk(run[0])
            else:
                for letter in run[0]:
                    self._one(letter, 1)

    def _bulk(self, letters: str) -> None:
        end = self.read + len(letters)
        self._parts.append(letters.encode())
        self._last = letters[-1]
        self.starts.extend(range(self.read, end))
        self.ends.extend(range(self.read + 1, end + 1))
        if self.as_json:
            self.quoted.extend([self._in_string] * len(letters))
        self.read = end

    def _one(self, letter: str, length: int) -> None:
        """A unit of this length that stands for this letter."""
        folded, mark = _encoded(letter)
        if folded and not (mark and self._last.isascii()):
            self._parts.append(folded)
            self._last = letter if len(folded) > 1 else chr(folded[0])
            size, end = len(folded), self.read + length
            self.starts += (self.read,) * size
            self.ends += (end,) * size
            if self.as_json:
                self.quoted += (self._in_string,) * size
        self.read += length

    def _join(self) -> None:
        self.text += b"".join(self._parts)
        self._parts.clear()

    def _is_open(self, source: str, at: int) -> bool:
        """Whether a backslash at this place begins an escape rather than ends one."""
        before = at - len(source[:at].rstrip("\\"))
        return before % 2 == 0

    def _unit(self, source: str, at: int) -> tuple[str, str]:
        if source[at] == '"':
            self._in_string = not self._in_string
            return '"', "\n"
        if escape := _ESCAPE.match(source, at):
            unit = escape[0]
            try:
                return unit, json.loads(f'"{unit}"')[:1]
            except ValueError:
                return unit, unit[1:]
        return source[at], source[at]
