"""What a model cannot know: questions about times after its training."""

from __future__ import annotations

from datetime import date

import regex

from langchain_qwen.grounding.verifying import years

KNOWLEDGE_CUTOFF = date(2023, 12, 31)
"""Until when Qwen2.5 is taken to know things. An assumption: no official date exists. The models were published in
September 2024, and text about a year goes on to be written for a year or so after it."""

_RELATIVE = (
    (regex.compile(r"\b(?:this year|dieses Jahr|cette année|este año|в этом году)\b|今年", regex.I), 0),
    (regex.compile(r"\b(?:last year|letztes Jahr|l'année dernière|el año pasado|в прошлом году)\b|去年", regex.I), -1),
    (
        regex.compile(
            r"\b(?:next year|nächstes Jahr|l'année prochaine|el próximo año|в следующем году)\b|明年", regex.I
        ),
        1,
    ),
)


def named_years(question: str, as_of: date) -> list[str]:
    """The years that a question names, "last year" and the like counted from the day it is asked."""
    relative = [str(as_of.year + distance) for pattern, distance in _RELATIVE if pattern.search(question)]
    return list(dict.fromkeys([*years(question), *relative]))
