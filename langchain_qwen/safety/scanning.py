"""Find what a policy names, in a text that is still arriving, as if it were all there.

What a detector finds is defined on the whole text: its candidates are the leftmost longest matches of its pattern
that do not overlap, from left to right, and its `find` says which parts of a candidate count. A candidate is certain
once it begins before every place where an unfinished one could (see `prefixes`). So detectors never change their
mind, and the text before the first place of doubt can be passed on.

Nothing stays in doubt for long: at every `STEP` characters of the original text, what began more than `DOUBT`
characters before is decided by what has been read up to there. These places do not depend on how the text arrives, so
this too is the same for a stream and for the whole text. Candidates of up to `DOUBT` characters are found whole.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from langchain_qwen.safety.folding import Folded
from langchain_qwen.safety.prefixes import CompiledPattern, compile_pattern
from langchain_qwen.safety.unmasking import Unmasked

Span = tuple[int, int]
Find = Callable[[str], Iterable[Span]]
View = Folded | Unmasked

STEP = 2048
"""At every so many characters of the original text, old doubts are decided."""
DOUBT = 2048
"""A candidate of as many characters is found whole; of a longer one, what has been read decides."""

_KEPT = 8  # bytes before a place that edits and guards look at
_ENOUGH = 1024  # fewer bytes are not worth forgetting


@dataclass(frozen=True)
class Detector:
    r"""What to look at, and what of it counts.

    Attributes:
        name: As rules and audit events call it.
        pattern: Candidates in folded text, in Python's syntax without lookaround; the default is a line.
        find: The spans of a candidate that count; None takes all of it. A pure function of the candidate.
        guard: Characters, as inside [...], that may stand neither before nor after a candidate.
        guard_before: Such characters for the place before a candidate, where they differ.
        tail: What belongs to a find that ends with its candidate, for as long as it follows: a pattern, matched again
            and again. So a find can be longer than any candidate.
        unmasked: Whether to look also at the text without entities, markup and blanks between single letters.
        again: Whether the search goes on behind what was found, rather than behind the candidate.
        whole: The candidate is the whole text, whatever the pattern. Nothing is certain before its end.
    """

    name: str
    pattern: str = r"[^\n]+"
    find: Find | None = None
    guard: str = ""
    guard_before: str | None = None
    tail: str = ""
    unmasked: bool = True
    again: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        _ = self.compiled, self.compiled_tail  # raises now rather than at the first text

    @property
    def compiled(self) -> CompiledPattern:
        """The pattern in RE2."""
        return compile_pattern(self.pattern, self.guard, self.guard_before)

    @property
    def compiled_tail(self) -> CompiledPattern | None:
        """The tail in RE2."""
        return compile_pattern(self.tail) if self.tail else None

    def spans(self, candidate: str) -> list[Span]:
        """What counts in a candidate."""
        return [(0, len(candidate))] if self.find is None else sorted(self.find(candidate))


@dataclass(frozen=True, slots=True)
class Match:
    """What a detector found: the span in the original text, the folded text, and whether it is in a JSON string."""

    start: int
    end: int
    text: str
    quoted: bool = False


class TextScanner:
    """Detectors over one arriving text, which is folded once for all of them."""

    def __init__(self, detectors: Sequence[Detector], *, as_json: bool = False):
        self.certain = 0
        """Nothing that is found later begins before this place of the original text."""
        self._detectors = detectors
        self._as_json = as_json
        self._folded = Folded(as_json=as_json)
        self._folded.add_edge()
        self._unmasked = Unmasked(self._folded)
        self._unmasked.follow()
        searched = [(number, detector) for number, detector in enumerate(detectors) if not detector.whole]
        self._scans: list[tuple[int, _Scan, View]] = [(n, _Scan(d), self._folded) for n, d in searched]
        self._bare: list[tuple[int, _Scan, View]] = [(n, _Scan(d), self._unmasked) for n, d in searched if d.unmasked]
        self._seen: set[tuple[int, int, int]] = set()
        self._read = 0
        self._all: list[str] | None = [] if any(detector.whole for detector in detectors) else None

    def feed(self, piece: str, *, final: bool = False) -> list[tuple[int, Match]]:
        """Read on, and give what has become certain, each with the number of its detector."""
        found = [match for part in steps(piece, self._read) for match in self._feed(part, final=False)]
        if final:
            found += self._feed("", final=True)
            found += self._of_whole_text()
        return found

    def _feed(self, piece: str, *, final: bool) -> Iterator[tuple[int, Match]]:
        """Read a piece that ends at the next step or before."""
        folded, unmasked = self._folded, self._unmasked
        self._read += len(piece)
        if self._all is not None:
            self._all.append(piece)
        folded.feed(piece, final=final)
        if final:
            folded.add_edge()
        unmasked.follow(final=final)
        forced = 0 if final or self._read % STEP else self._read - DOUBT
        certain = self._read
        for number, scan, view in (*self._scans, *self._bare):
            for match in scan.read(view, final=final, forced=forced):
                if (number, match.start, match.end) not in self._seen:
                    self._seen.add((number, match.start, match.end))
                    yield number, match
            certain = min(certain, scan.certain)
        self.certain = certain if self._all is None or final else 0
        self._forget()

    def _forget(self) -> None:
        folded, unmasked = self._folded, self._unmasked
        bare = min((scan.at for _, scan, _ in self._bare), default=len(unmasked.text))
        if bare > _ENOUGH:
            unmasked.drop(bare)
            for _, scan, _ in self._bare:
                scan.at -= bare
        plain = min(min((scan.at for _, scan, _ in self._scans), default=len(folded.text)), unmasked.used - _KEPT)
        if plain > _ENOUGH:
            folded.drop(plain)
            unmasked.used -= plain
            for _, scan, _ in self._scans:
                scan.at -= plain
        if len(self._seen) > _ENOUGH:
            self._seen = {key for key in self._seen if key[1] >= self.certain}

    def _of_whole_text(self) -> Iterator[tuple[int, Match]]:
        if self._all is None:
            return
        view = Folded(as_json=self._as_json)
        view.feed("".join(self._all), final=True)
        text = view.text.decode()
        for number, detector in enumerate(self._detectors):
            if detector.whole and text:
                yield from ((number, match) for match in _matches(detector, view, 0, text))


class _Scan:
    """How far a detector has got in a view of the text."""

    def __init__(self, detector: Detector):
        self.detector = detector
        self.at = 0
        """The byte where the last character begins that stands before all later candidates."""
        self.certain = 0
        self._pattern, self._tail = detector.compiled, detector.compiled_tail
        self._in_tail = False

    def read(self, view: View, *, final: bool, forced: int) -> Iterator[Match]:
        """What has become certain; candidates that begin before the place `forced` of the original text have."""
        text = view.text
        decided = bisect_left(view.starts, forced, self.at) if forced > 0 else 0
        horizon = self._horizon(text, final=final, decided=decided)
        while (span := self._next(text)) or self._in_tail:
            if span is None:
                first = _after(text, self.at)
                if not final and first >= horizon:
                    break
                self._in_tail = False
                horizon = self._horizon(text, final=final, decided=decided)
                continue
            start, end = span
            if start >= horizon:
                break
            candidate = text[start:end].decode()
            if self._in_tail:
                yield Match(view.starts[start], view.ends[end - 1], candidate, _quoted(view, start))
            else:
                found = list(_matches(self.detector, view, start, candidate))
                self._in_tail = self._tail is not None and bool(found) and found[-1].end == view.ends[end - 1]
                yield from found
                if found and self.detector.again:
                    end = bisect_right(view.ends, found[-1].end, start, end)
            self.at = _before(text, end)
            if end > horizon or self._tail:
                horizon = self._horizon(text, final=final, decided=decided)
        self.at = max(self.at, _before(text, horizon))
        self.certain = view.starts[horizon] if horizon < len(text) else view.read

    def _next(self, text: bytes) -> Span | None:
        """The next candidate, or the next part of a tail."""
        if self._in_tail and self._tail:
            found = self._tail.matches.match(text, self.at)
        else:
            found = self._pattern.matches.search(text, self.at)
        return (_after(text, found.start()), _before(text, found.end())) if found else None

    def _horizon(self, text: bytes, *, final: bool, decided: int) -> int:
        """The first place where an unfinished candidate could begin that is not decided yet."""
        if final:
            return len(text)
        if self._in_tail and self._tail:
            unfinished = self._tail.unfinished.match(text, self.at)
        else:
            unfinished = self._pattern.unfinished.search(text, self.at)
        return max(_after(text, unfinished.start()), decided) if unfinished else len(text)


def steps(piece: str, read: int) -> Iterator[str]:
    """A piece that comes after `read` characters, cut where doubts are decided."""
    at = 0
    while at < len(piece):
        end = at + STEP - (read + at) % STEP
        yield piece[at:end]
        at = end


def _matches(detector: Detector, view: View, start: int, candidate: str) -> Iterator[Match]:
    """What counts in a candidate that begins at this byte."""
    ascii_only = candidate.isascii()
    for left, right in detector.spans(candidate):
        first, last = start + left, start + right - 1
        if not ascii_only:
            first, last = start + len(candidate[:left].encode()), start + len(candidate[:right].encode()) - 1
        yield Match(view.starts[first], view.ends[last], candidate[left:right], _quoted(view, first))


def _quoted(view: View, at: int) -> bool:
    return bool(view.quoted) and view.quoted[at]


def _after(text: bytes, at: int) -> int:
    """Where the next character begins."""
    first = text[at]
    return at + (1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4)


def _before(text: bytes, end: int) -> int:
    """Where the character before a place begins."""
    at = end - 1
    while at > 0 and text[at] & 0xC0 == 0x80:
        at -= 1
    return at
