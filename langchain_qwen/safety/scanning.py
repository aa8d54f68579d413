"""Find what a policy names, in a text that is still arriving, as if it were all there.

What a detector finds is defined on the whole text: its candidates are the leftmost longest matches of its pattern
that do not overlap, from left to right, and its `find` says which parts of a candidate count. A candidate is certain
once it begins before every place where an unfinished one could (see `prefixes`). So detectors never change their
mind, and the text before the first place of doubt can be passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from langchain_qwen.safety.folding import Folded
from langchain_qwen.safety.prefixes import CompiledPattern, compile_pattern

Span = tuple[int, int]
Find = Callable[[str], Iterable[Span]]

_EDGE = "\n"


@dataclass(frozen=True)
class Detector:
    r"""What to look at, and what of it counts.

    Attributes:
        name: As rules and audit events call it.
        pattern: Candidates in folded text, in Python's syntax without lookaround; the default is a line.
        find: The spans of a candidate that count; None takes all of it. A pure function of the candidate.
        guard: Characters, as inside [...], that may stand neither before nor after a candidate.
    """

    name: str
    pattern: str = r"[^\n]+"
    find: Find | None = None
    guard: str = ""

    def __post_init__(self) -> None:
        compile_pattern(self.pattern, self.guard)  # raises now rather than at the first text

    @property
    def compiled(self) -> CompiledPattern:
        """The pattern in RE2."""
        return compile_pattern(self.pattern, self.guard)

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


class DetectorStream:
    """One detector over one arriving text."""

    def __init__(self, detector: Detector, *, as_json: bool = False):
        self.detector = detector
        self.certain = 0
        """Nothing that is found later begins before this place of the original text."""
        self._folded = Folded(as_json=as_json)
        self._folded.add_edge(_EDGE)

    def feed(self, piece: str, *, final: bool = False) -> list[Match]:
        """Read on, and give what has become certain."""
        folded = self._folded
        folded.feed(piece, final=final)
        if final:
            folded.add_edge(_EDGE)
        text, at, found = folded.text, 0, []
        horizon = self._horizon(at, final=final)
        while (match := self.detector.compiled.matches.search(text, at)) and match.start(1) < horizon:
            start, end = match.span(1)
            for left, right in self.detector.spans(match[1]):
                first, last = start + left, start + right - 1
                found.append(
                    Match(folded.starts[first], folded.ends[last], text[first : last + 1], folded.quoted[first])
                )
            at = end - 1  # the last character of a match is the one before the next
            if end > horizon:
                horizon = self._horizon(at, final=final)
        self.certain = folded.starts[horizon] if horizon < len(text) else folded.read
        folded.drop(horizon - 1)
        return found

    def _horizon(self, at: int, *, final: bool) -> int:
        """The first place where an unfinished candidate could begin."""
        text = self._folded.text
        unfinished = None if final else self.detector.compiled.unfinished.search(text, at)
        return unfinished.start(1) if unfinished else len(text)
