"""Questions for several facts."""

from __future__ import annotations

import regex

# A question without one of these asks for one fact; of the others the model is asked.
_JOINED = regex.compile(
    r"\b(?:and|both|respectively|as well as|und|sowie|et|ainsi que|y|e|и|а также|ve|ile|și|si|και|va|và|cùng)\b"
    r"|[和与與及]|以及|分别|และ|और|\bو|[?？].*[?？]|,",
    regex.IGNORECASE,
)
_LINE = regex.compile(r"^\s*\d+[.)]\s*(.+?)\s*$", regex.MULTILINE)


def may_ask_for_several(question: str) -> bool:
    """Whether the words of a question leave it open."""
    return _JOINED.search(question) is not None


def read_parts(listed: str) -> list[str]:
    """The questions of a numbered list, each once."""
    return list(dict.fromkeys(match.group(1) for match in _LINE.finditer(listed)))
