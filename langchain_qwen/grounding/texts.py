"""Text as the model sees it, with the way back to the source, character by character.

Retrieved text is untrusted: what a reader cannot see is taken out, and what speaks to the model instead of the reader
is found. (Control tokens need no care here: in messages they are always data, see `langchain_qwen.prompting`.)
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import regex

# Format characters are found by category; these are blank or selectors though they count as letters or marks.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\u034f\u180b\u180c\u180d\u180e")
_SELECTOR = regex.compile(r"[\uFE00-\uFE0F\U000E0100-\U000E01EF]")
_UNSEEN = frozenset({"Cf", "Cc", "Cs", "Co", "Cn"})

_LONGEST_SPACE = 64  # characters of a run of spaces that a prompt repeats as it is

_SHORTENED = (
    r"(?<!\b(?:\p{Lu}|Dr|Mr|Mrs|Ms|Prof|St|Sr|Jr|No|vs?|[ap]\.m|Inc|Ltd|Co|"
    r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.)"
)
_SENTENCE_END = regex.compile(
    rf"[.!?…]+{_SHORTENED}['’”»)\]]*\s+(?=[\p{{Lu}}\p{{N}}\p{{Lo}}'‘“«(¿¡\[])|[。！？｡।؟۔]+['’”»」』）)]*\s*|\n+\s*"
)
_CLAUSE_END = regex.compile(r"[,;:，、；：،؛]\s*|\s+")
# Points of lists, rows of tables, headings and fences are no prose.
_LINE_OF_ITS_OWN = regex.compile(r"\s*(?:[-*•|#>+`~=]|\d+[.)]\s|\p{Lu}[\p{L} ]{0,30}:\s)")
_FENCED = regex.compile(
    r"^ {0,3}(`{3,}|~{3,})[^\n]*(?:\n.*?)??(?:\n {0,3}\1[`~]*[ \t]*$|\Z)", regex.DOTALL | regex.MULTILINE
)
_LINE_END = regex.compile(r"[.!?:;…。！？：；।؟|]['’”»)\]」』]*\s*$")
_LEAST_FULL = 30  # characters of a text's longest line below which it is no page
_FULL = 0.8  # a line is full where it is about as long as the longest
# A longer sentence is cut where a clause ends, so that a quote stays readable.
_LONGEST_UNIT = 240


@dataclass(frozen=True, slots=True)
class ShownText:
    """A text without what a reader cannot see, as it is read and quoted, and as a prompt shows it.

    Attributes:
        text: In NFC, without invisible characters, runs of spaces as one.
        starts: For each character where it begins in the source.
        ends: For each character where it ends in the source.
        hidden: How many invisible characters the source held.
        spaced: Each character as a prompt shows it: spaces as the source has them.
        around: The spaces before and behind the text.
    """

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    hidden: int = 0
    spaced: tuple[str, ...] = ()
    around: tuple[str, str] = ("", "")

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """The span in the source of `text[start:end]`, which must not be empty."""
        return self.starts[start], self.ends[end - 1]


def show(source: str) -> ShownText:
    """Make a text fit to be shown to the model."""
    pieces: list[str] = []
    spaced: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    hidden = 0
    for match in regex.finditer(r"\s|\X", source):
        raw = match.group()
        seen = "".join(c for c in raw if not _unseen(c))
        hidden += sum(_unseen(c) and not c.isspace() for c in raw)
        if raw.isspace():
            space = seen or " "
            seen = "\n" if "\n" in raw or "\r" in raw else " "
            if pieces and pieces[-1].isspace():  # one space stands for a run, a line break for a run with one in it
                pieces[-1] = "\n" if "\n" in (seen, pieces[-1]) else " "
                spaced[-1] += space if len(spaced[-1]) < _LONGEST_SPACE else ""
                ends[-1] = match.end()
                continue
            spaced.append(space)
        for character in unicodedata.normalize("NFC", seen):
            pieces.append(character)
            if not raw.isspace():
                spaced.append(character)
            starts.append(match.start())
            ends.append(match.end())
    text = "".join(pieces)
    first = len(text) - len(text.lstrip())
    last = len(text.rstrip())
    around = ("".join(spaced[:first]), "".join(spaced[last:]))
    return ShownText(
        text[first:last], tuple(starts[first:last]), tuple(ends[first:last]), hidden, tuple(spaced[first:last]), around
    )


def unicode(text: str) -> str:
    """With a mark in the place of each lone surrogate, as cut emoji leave them: what counts tokens takes none."""
    return text.encode(errors="replace").decode()


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences (lines, rows of a table) of a text, without the space between them."""
    return _between(text, (match.end() for match in _SENTENCE_END.finditer(text)))


def code_blocks(text: str) -> list[tuple[int, int]]:
    """Spans of the fenced blocks of a Markdown text; one that is not closed goes on to the end."""
    return [match.span() for match in _FENCED.finditer(text)]


def statements(text: str) -> list[tuple[int, int]]:
    """As `sentences`, but a fenced block of code is one, for nothing can be written into it."""
    blocks = code_blocks(text)
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    outside = [end for end in ends if not any(begin < end < stop for begin, stop in blocks)]
    return _between(text, iter(sorted([*outside, *chain.from_iterable(blocks)])))


def prose_sentences(text: str) -> list[tuple[int, int]]:
    """As `sentences`, but lines that a page has wrapped, as PDFs give them, are one text."""
    longest = max((len(line) for line in text.split("\n")), default=0)
    ends = [match for match in _SENTENCE_END.finditer(text) if not _is_wrap(text, match, longest)]
    return _between(text, (match.end() for match in ends))


def _is_wrap(text: str, match: regex.Match[str], longest: int) -> bool:
    """Whether a line break only wraps a line: the next one goes on in small letters, or the line is a full one."""
    if match.group().strip() or match.end() == len(text):
        return False
    line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
    if _LINE_OF_ITS_OWN.match(line) or _LINE_OF_ITS_OWN.match(text, match.end()) or _LINE_END.search(line):
        return False
    goes_on = text[match.end()].islower() or line.endswith((",", "，", "、", "-"))
    return goes_on or (longest >= _LEAST_FULL and len(line) >= _FULL * longest)


def quotable_units(text: str) -> list[tuple[int, int]]:
    """Spans that a quote is made of: sentences, long ones cut where a clause ends."""
    units: list[tuple[int, int]] = []
    for start, end in prose_sentences(text):
        cuts: list[int] = []
        begin = start
        for match in _CLAUSE_END.finditer(text, start, end):
            if match.end() - begin > _LONGEST_UNIT // 2 and end - match.end() > _LONGEST_UNIT // 4:
                cuts.append(match.end())
                begin = match.end()
        if end - start <= _LONGEST_UNIT:
            cuts = []
        units += [(start + a, start + b) for a, b in _between(text[start:end], (cut - start for cut in cuts))]
    return units


def _between(text: str, cuts: Iterator[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    begin = 0
    for cut in (*cuts, len(text)):
        piece = text[begin:cut]
        start = begin + len(piece) - len(piece.lstrip())
        end = begin + len(piece.rstrip())
        if start < end:
            spans.append((start, end))
        begin = cut
    return spans


def _unseen(character: str) -> bool:
    if character in _BLANK or _SELECTOR.match(character):
        return True
    return unicodedata.category(character) in _UNSEEN and character not in "\n\r\t"
