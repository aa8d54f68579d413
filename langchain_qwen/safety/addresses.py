"""The detector of e-mail addresses, also as people write them to hide them from programs."""

from __future__ import annotations

import re
from functools import lru_cache

from langchain_qwen.safety.prefixes import ASCII_WORD
from langchain_qwen.safety.scanning import Detector, Span

_GAP = " {0,3}"
_BLANKS = " {1,3}"
_AT = rf"(?:{_GAP}@{_GAP}|{_GAP}[\[({{<]{_GAP}(?:at|@){_GAP}[\])}}>]{_GAP})"
_BRACKET_DOT = rf"{_GAP}[\[({{<]{_GAP}(?:dot|\.){_GAP}[\])}}>]{_GAP}"
_DOT = rf"(?:\.|{_BLANKS}\.{_GAP}|{_BRACKET_DOT}|{_BLANKS}dot{_BLANKS})"
_WORD_DOT = rf"(?:{_BRACKET_DOT}|{_BLANKS}dot{_BLANKS})"
_LOCAL = r"[\w.+%'-]+"
_LABEL = r"[\w-]+"
_SPLIT_AT = re.compile(rf"{_AT}|{_BLANKS}at{_BLANKS}", re.IGNORECASE)
_SPLIT_DOT = re.compile(f"({_DOT})", re.IGNORECASE)
_PUNCTUATION = ".-+%'"
# Scripts without blanks between words, so that a sentence goes on into an address.
_UNSPACED = r"\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_OWN_SCRIPT = re.compile(rf"[^{_UNSPACED}]*[A-Za-z0-9][^{_UNSPACED}]*\Z")
_UNTIL_UNSPACED = re.compile(rf"[^{_UNSPACED}]+")
# Where "at" and "@" stand apart, only an ending that many addresses have makes an address of the words around it;
# endings that are common words of English are left out.
_ENDINGS_TEXT = (
    "com org net edu gov mil int info biz name dev app io ai co uk us de fr es nl ch eu pl ru cn jp kr br ca au nz se "
    "dk fi cz hu ro gr pt ie tr mx ar cl za il ae sg hk tw vn th ua xyz online site tech cloud email mail example "
    "test"
)
_ENDINGS = frozenset(_ENDINGS_TEXT.split())
# Words before "at" in sentences about places on the web.
_NO_NAMES_TEXT = (
    "look us me it available found here now online page pages site sites website store shop visit hosted is are was "
    "live read more them him her out up available meet sign work works worked working arrived tickets file docs "
    "documentation blog"
)
_NO_NAMES = frozenset(_NO_NAMES_TEXT.split())


@lru_cache(maxsize=64)
def _email(candidate: str) -> list[Span]:
    at = _SPLIT_AT.search(candidate, candidate.rfind('"') + 1)
    if at is None:
        return []
    local, domain = candidate[: at.start()], candidate[at.end() :]
    if own := _OWN_SCRIPT.search(local):
        local = own[0]
    if not local.startswith('"'):
        local = local.lstrip(_PUNCTUATION)
    if not local:
        return []
    start, apart = at.start() - len(local), at[0] != "@"
    bare = apart and not re.search(r"[\[({<]", at[0])
    if bare and local.lower() in _NO_NAMES:
        return []
    parts = _SPLIT_DOT.split(domain)
    labels, dots = parts[::2], parts[1::2]
    tight = next((n for n, dot in enumerate(dots) if dot != "."), len(dots)) + 1
    ends = [tight, *range(len(labels), 1, -1)]
    for count in ends:
        loose = apart or any(dot != "." for dot in dots[: count - 1])
        last = labels[count - 1]
        if count > 1 and last.lower() in _ENDINGS and (count == tight or loose):
            return [(start, at.end() + len("".join(parts[: 2 * count - 1])))]
    if bare or tight < 2:
        return []
    return _tight(start, at.end(), labels[:tight])


def _tight(start: int, place: int, labels: list[str]) -> list[Span]:
    """An address whose ending may be any; it ends before words of a script without blanks."""
    kept: list[str] = []
    for label in labels:
        own = _UNTIL_UNSPACED.match(label)
        if own and len(own[0]) < len(label):  # "com请联系"
            kept.append(own[0])
            break
        if kept and own is None and kept[-1].lower() in _ENDINGS:  # "example.com。请联系"
            break
        kept.append(label)
    last = kept[-1].rstrip("_-")
    if len(kept) < 2 or len(last) < 2 or last.isdigit():
        return []
    return [(start, place + len(".".join([*kept[:-1], last])))]


EMAIL = Detector(
    "email",
    rf"(?:{_LOCAL}|\"[\w.+ -]{{1,24}}\"){_AT}{_LABEL}(?:{_DOT}{_LABEL})+"
    rf"|{_LOCAL}{_BLANKS}at{_BLANKS}{_LABEL}(?:{_WORD_DOT}{_LABEL})+",
    _email,
    guard=ASCII_WORD + "@",
    guard_before="",
)
