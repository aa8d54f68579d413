"""One form for what reads alike, with the way back to the original text.

Each unit of the text (a character, or an escape of JSON) folds by itself, whatever stands beside it. So folding a text
in pieces gives the same as folding it whole, and a span of folded text is a span of whole units.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

# Letters of other scripts that look like Latin ones. Lexicon words are folded too, so words of these scripts match.
_PAIRS = """
аa вb еe ёe кk мm оo рp сc тt уy хx іi їi јj ѕs һh ԁd ԛq ԝw нh АA ВB ЕE ЁE КK МM НH ОO РP СC ТT УY ХX ІI ЇI ЈJ ЅS
αa εe ιi κk νv οo ρp τt υu χx γy ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX ϲc ոn սu օo ıi ɡg ɑa
ⅼl ∣l –- —- ‐- ‑- ‒- −- 。. ·. ∙. •.
"""
_LOOKALIKES = {ord(pair[0]): pair[1] for pair in _PAIRS.split()}
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^u])")
_UNFINISHED = re.compile(r"\\(?:u[0-9a-fA-F]{0,3}|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?)?\Z")


@lru_cache(maxsize=8192)
def fold(character: str) -> str:
    """The letters that a character reads as: "" for invisible ones, "fi" for the ligature."""
    category = unicodedata.category(character)
    if category == "Cf" or "\ufe00" <= character <= "\ufe0f":
        return ""
    if character in "\n\t":
        return character
    if category == "Zs":
        return " "
    if category == "Cs":
        return "\ufffd"
    plain = unicodedata.normalize("NFKD", character.translate(_LOOKALIKES))
    kept = "".join(c for c in plain if not "\u0300" <= c <= "\u036f")
    digit = unicodedata.digit(kept, None) if len(kept) == 1 else None
    return str(digit) if digit is not None else kept.translate(_LOOKALIKES)


def fold_text(text: str) -> str:
    """A whole text, folded."""
    return "".join(map(fold, text))


@dataclass(slots=True)
class Folded:
    """Folded text, and for each of its characters the span of the original unit it came from.

    With `as_json`, escapes are read as what they stand for, and quotes that end or begin a string as line breaks.
    """

    as_json: bool = False
    text: str = ""
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    quoted: list[bool] = field(default_factory=list)
    read: int = 0
    _in_string: bool = False
    _waiting: str = ""

    def add_edge(self, character: str) -> None:
        """Mark the beginning or the end of the text by a character that it does not have."""
        self.text += character
        self._mark(self.read, self.read)

    def feed(self, piece: str, *, final: bool = False) -> None:
        """Read on; an escape that is not complete waits for its rest."""
        source = self._waiting + piece
        self._waiting = ""
        if self.as_json and not final and (cut := _UNFINISHED.search(source)) and self._is_open(source, cut.start()):
            source, self._waiting = source[: cut.start()], source[cut.start() :]
        at = 0
        folded: list[str] = [self.text]
        while at < len(source):
            unit, plain = self._unit(source, at)
            for letter in fold(plain) if plain != "\n" else plain:
                folded.append(letter)
                self._mark(self.read + at, self.read + at + len(unit))
            at += len(unit)
        self.text = "".join(folded)
        self.read += at

    def drop(self, count: int) -> None:
        """Forget the first folded characters."""
        self.text = self.text[count:]
        del self.starts[:count], self.ends[:count], self.quoted[:count]

    def _mark(self, start: int, end: int) -> None:
        self.starts.append(start)
        self.ends.append(end)
        self.quoted.append(self._in_string)

    def _is_open(self, source: str, at: int) -> bool:
        """Whether a backslash at this place begins an escape rather than ends one."""
        before = len(source[:at]) - len(source[:at].rstrip("\\"))
        return before % 2 == 0

    def _unit(self, source: str, at: int) -> tuple[str, str]:
        character = source[at]
        if not self.as_json:
            return character, character
        if character == '"':
            self._in_string = not self._in_string
            return character, "\n"
        if character == "\\" and (escape := _ESCAPE.match(source, at)):
            unit = escape[0]
            try:
                return unit, json.loads(f'"{unit}"')[:1]
            except ValueError:
                return unit, unit[1:]
        return character, character
