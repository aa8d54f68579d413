"""The folded text without what hides letters from a reader of characters, but not from a reader of pages.

Entities of HTML and percent escapes become what they stand for; marks of emphasis, tags without content of their own
and the blanks between single letters go. Each edit is decided by what stands within some dozen characters of it.
Detectors read this form beside the folded text, so nothing that an edit breaks is lost.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from langchain_qwen.safety.folding import Folded
from langchain_qwen.safety.letters import fold_text

_ENTITY = rb"&(?:#[0-9]{1,7};?|#[xX][0-9a-fA-F]{1,6};?|[a-zA-Z][a-zA-Z0-9]{1,7};)"
_PERCENT = rb"%(?:[2-7][0-9a-fA-F]|[cCdD][0-9a-fA-F]%[89abAB][0-9a-fA-F]|[eE][0-9a-fA-F](?:%[89abAB][0-9a-fA-F]){2})"
# Attributes could themselves hold what is looked for, so only tags with harmless ones go.
_TAG = (
    rb"</?(?:a|b|i|u|s|em|strong|span|font|code|mark|small|big|sub|sup|ins|del|tt|kbd|wbr|bdi|bdo|nobr)"
    rb"(?: (?:class|id|style|dir|lang)=[\"']?[^<>@0-9\"'\s]{0,32}[\"']?)? ?/?>|<!--[^<>@0-9-]{0,32}-->"
)
_EMPHASIS = rb"[*`]{1,8}|~~|\\(?=[@._-])"
# A letter stands alone between these.
_BEFORE_IT, _AFTER_IT = rb"[\s(\[\"':]", rb"[\s.,;:!?)\]\"']"
_BLANK = rb"[ \t](?:(?<=" + _BEFORE_IT + rb"[!-~][ \t])|(?<=[ \t][ \t]))(?=[ \t]{0,2}[!-~]" + _AFTER_IT + rb")"
_EDIT = re.compile(b"|".join((_ENTITY, _PERCENT, _TAG, _EMPHASIS, _BLANK)), re.IGNORECASE)
_LONGEST = 80
_UNFINISHED = re.compile(
    rb"(?:&[#0-9a-zA-Z]{0,9}|%[0-9a-fA-F%]{0,9}|<(?:[/!a-zA-Z][^<>]{0,72})?|~|\\|(?<="
    + _BEFORE_IT
    + rb"[!-~])[ \t]{1,3}[!-~]?)\Z"
)
_BEFORE = re.compile(_BEFORE_IT + rb"([!-~])([ \t]{0,2})\Z")
_AFTER = re.compile(rb"([ \t]{1,3})([!-~])")
_MOST_BLANKS = 3


@dataclass(slots=True)
class Unmasked:
    """What is left of a folded text, which it follows."""

    source: Folded
    text: bytes = b""
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    quoted: list[bool] = field(default_factory=list)
    used: int = 0
    """How many bytes of the source's have been taken in; an edit that is not complete waits for its rest."""

    @property
    def read(self) -> int:
        """How much of the original text it has taken in."""
        source = self.source
        return source.starts[self.used] if self.used < len(source.text) else source.read

    def follow(self, *, final: bool = False) -> None:
        """Take in what the source has read."""
        text, at = self.source.text, self.used
        limit = len(text)
        if not final and (cut := _UNFINISHED.search(text, max(at, limit - _LONGEST))):
            limit = cut.start()
        parts = [self.text]
        for edit in _EDIT.finditer(text, at):
            start, end = edit.span()
            if start >= limit:
                break
            shown = _shown(edit[0], text, start)
            if shown is None:
                continue
            parts += (text[at:start], shown)
            self._copy(at, start)
            self._put(start, end, len(shown))
            at = end
        parts.append(text[at:limit])
        self._copy(at, limit)
        self.text, self.used = b"".join(parts), max(limit, at)

    def drop(self, count: int) -> None:
        """Forget the first bytes."""
        self.text = self.text[count:]
        del self.starts[:count], self.ends[:count], self.quoted[:count]

    def _copy(self, start: int, end: int) -> None:
        source = self.source
        self.starts += source.starts[start:end]
        self.ends += source.ends[start:end]
        self.quoted += source.quoted[start:end]

    def _put(self, start: int, end: int, count: int) -> None:
        source = self.source
        self.starts += (source.starts[start],) * count
        self.ends += (source.ends[end - 1],) * count
        self.quoted += source.quoted[start : start + 1] * count


def _shown(unit: bytes, text: bytes, at: int) -> bytes | None:
    """What a unit is shown as; None for one that only looks like a unit."""
    if unit[:1] in b"&%":
        return _decoded(unit)
    if unit[:1] in b" \t":
        if text[at - 1 : at].isdigit() and text[at + 1 : at + 2].isdigit():
            return None  # detectors of numbers know the blanks between digits
        before, after = _BEFORE.search(text, max(at - 4, 0), at), _AFTER.match(text, at)
        if before is None or after is None or len(before[2]) + len(after[1]) > _MOST_BLANKS:
            return None
        if before[1].isdigit() and after[2].isdigit():
            return None
    return b""


@lru_cache(maxsize=4096)
def _decoded(unit: bytes) -> bytes | None:
    if unit[:1] == b"%":
        return fold_text(unquote_to_bytes(unit).decode(errors="ignore")).encode()
    character = html.unescape(unit.decode())
    return None if character == unit.decode() else fold_text(character).encode()
