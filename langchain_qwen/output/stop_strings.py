"""Strings that end an answer, wherever tokens or pieces happen to be cut."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_qwen.errors import InvalidParameterError


class StopStrings:
    """Cuts a text, given in pieces, at the first stop string that is complete.

    The first is the one that ends first; of several that end at the same character, the longest. What may still
    become a stop string is held back, and nothing else.
    """

    def __init__(self, stops: Sequence[str]):
        if "" in stops:
            raise InvalidParameterError("stop holds an empty string, which would end every answer; remove it")
        self._stops = list(stops)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Text that is safe to show, and whether a stop string was found; then nothing more may be fed."""
        self._held += text
        found = [(self._held.find(stop), stop) for stop in self._stops]
        ends = [(start + len(stop), start) for start, stop in found if start >= 0]
        if ends:
            _, start = min(ends)
            shown, self._held = self._held[:start], ""
            return shown, True
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        split = len(self._held) - keep
        shown, self._held = self._held[:split], self._held[split:]
        return shown, False

    def flush(self) -> str:
        """What was held back, at the end of an answer without a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
