"""One text that stands in several places, such as the text blocks of a message."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from langchain_qwen.safety.filtering import Filtered, Finding, TextFilter


class JoinedText:
    """One text that stands in several places: cleaned as a whole, and given back place by place.

    Args:
        text_filter: The filter.
        by_place: Findings count from the beginning of the place they begin in, rather than of the whole.
    """

    def __init__(self, text_filter: TextFilter, *, by_place: bool = False):
        self._filter = text_filter
        self._by_place = by_place
        self._read = 0
        self._owners: deque[tuple[int, Any]] = deque()

    def feed(self, piece: str, owner: Any, *, final: bool = False) -> tuple[list[tuple[Any, str]], Filtered]:
        """Read what stands in a place; give what is decided, each with its place, and what was found."""
        if piece or not self._owners:
            self._owners.append((self._read, owner))
        self._read += len(piece)
        filtered = self._filter.feed(piece, final=final)
        if self._by_place:
            filtered.findings = [self._placed(finding) for finding in filtered.findings]
        given: list[tuple[Any, str]] = []
        for start, text, edited in filtered.parts:
            at, rest = start, text
            while rest:
                while len(self._owners) > 1 and self._owners[1][0] <= at:
                    self._owners.popleft()
                whole = edited or len(self._owners) == 1
                end = at + len(rest) if whole else min(self._owners[1][0], at + len(rest))
                given.append((self._owners[0][1], rest[: end - at]))
                at, rest = end, rest[end - at :]
        return given, filtered

    def owner_of(self, finding: Finding) -> Any:
        """The place in which the finding that ended the text begins."""
        return [owner for start, owner in self._owners if start <= finding.start][-1]

    def _placed(self, finding: Finding) -> Finding:
        begin = max((start for start, _ in self._owners if start <= finding.start), default=0)
        return replace(finding, start=finding.start - begin, end=finding.end - begin)
