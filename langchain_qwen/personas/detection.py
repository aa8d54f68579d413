"""Which language a text is written in, offline.

The script decides where only one language here is written in it; among the others py3langid does, a naive Bayes model
over byte n-grams (Lui and Baldwin 2012, langid.py), asked only for languages of that script.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache
from operator import itemgetter

from py3langid.langid import MODEL_FILE, LanguageIdentifier

# Which languages are told apart within a script; where there is one, the script decides.
BY_SCRIPT: dict[str, tuple[str, ...]] = {
    "han": ("zh",),
    "kana": ("ja",),
    "hangul": ("ko",),
    "thai": ("th",),
    "greek": ("el",),
    "hebrew": ("he",),
    "bengali": ("bn",),
    "gujarati": ("gu",),
    "gurmukhi": ("pa",),
    "kannada": ("kn",),
    "tamil": ("ta",),
    "telugu": ("te",),
    "arabic": ("ar", "fa", "ur"),
    "devanagari": ("hi", "mr", "ne"),
    "cyrillic": ("ru", "uk", "bg"),
    "latin": (
        *("en", "fr", "es", "pt", "de", "it", "vi", "nl", "pl", "cs", "ro", "tr", "id", "ms"),
        *("sv", "da", "no", "fi", "hu", "sw", "tl", "ca"),
    ),
}
# Those that Qwen2.5's model card names are likelier in its chats: a few words must not count as Catalan.
_NAMED = frozenset(("en", "fr", "es", "pt", "de", "it", "vi", "ar", "ru"))
_PRIOR_OF_OTHERS = 0.5
# The first word of a letter's Unicode name, where that is not the script's name in lower case.
_SCRIPT_OF = {"CJK": "han", "HIRAGANA": "kana", "KATAKANA": "kana"}
# Code, addresses and markup are in no language.
_NOT_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\S+@\S+|<[^<>\n]{1,80}>", re.DOTALL)
_MIN_LETTERS = 2


@dataclass(frozen=True, slots=True)
class Detection:
    """What a text seems to be written in.

    Attributes:
        code: ISO 639-1; None where it cannot be told.
        confidence: From 0 to 1, among the languages of the text's main script.
    """

    code: str | None
    confidence: float


UNKNOWN = Detection(None, 0.0)


def detect(text: str, *, at_least: float = 0.4) -> Detection:
    """The main language of a text.

    Args:
        text: Code blocks, addresses and markup in it are passed over.
        at_least: The confidence below which a language counts as not known. The model is calibrated over lengths,
            so that a word or two rarely reach it.
    """
    prose = _NOT_PROSE.sub(" ", text)
    script, share = main_script(prose)
    candidates = BY_SCRIPT.get(script or "", ())
    if len(candidates) < 2:
        return Detection(candidates[0], share) if candidates else UNKNOWN
    scores = {
        code: float(score) * (1 if code in _NAMED else _PRIOR_OF_OTHERS)
        for code, score in _identifier().rank(prose)
        if code in candidates
    }
    code, total = max(scores, key=scores.__getitem__), sum(scores.values())
    confidence = scores[code] / total if total else 0.0
    return Detection(code, confidence) if confidence >= at_least else UNKNOWN


def main_script(text: str) -> tuple[str | None, float]:
    """The script of most of the letters and its share of them; kana make Chinese characters Japanese."""
    counts = Counter(script for char in text if char.isalpha() and (script := _script(char)))
    if counts["kana"] * 10 > counts["han"]:
        counts["kana"] += counts.pop("han", 0)
    # One character of these says about as much as three letters.
    weights = {script: count * (3 if script in ("han", "kana", "hangul") else 1) for script, count in counts.items()}
    if sum(weights.values()) < _MIN_LETTERS:
        return None, 0.0
    script, weight = max(weights.items(), key=itemgetter(1))
    return script, weight / sum(weights.values())


@cache
def _script(char: str) -> str | None:
    word = unicodedata.name(char, "").split(" ")[0].split("-")[0]
    script = _SCRIPT_OF.get(word, word.lower())
    return script if script in BY_SCRIPT else None


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
