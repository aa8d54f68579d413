"""Words for search and comparison, in every script.

Scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) give overlapping pairs of
characters, the established way to search them without a dictionary, which would have to know every name.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import regex

UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_WORD = regex.compile(rf"(?P<unspaced>{UNSPACED}+)|(?:(?!{UNSPACED})[\p{{L}}\p{{M}}\p{{N}}])+")


_ACCENTED = regex.compile(r"(?<=[\p{Latin}\p{Arabic}\p{Hebrew}])\p{Mn}+")


def normalised(text: str) -> str:
    """Compatibility forms as one, no case, no accents and vowel points, decimal digits of all scripts as ASCII.

    Marks stay where they are letters of their own, as in the scripts of India and Thailand.
    """
    text = unicodedata.normalize("NFKD", text).casefold()
    text = unicodedata.normalize("NFC", _ACCENTED.sub("", text))
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def words(text: str) -> list[str]:
    """The words of a text in their order: one for each run of letters and digits, pairs where there are no spaces."""
    found: list[str] = []
    for match in _WORD.finditer(normalised(text)):
        if match.group("unspaced"):
            clusters = regex.findall(r"\X", match.group())
            pairs = ["".join(pair) for pair in pairwise(clusters)]
            found += pairs or clusters
        else:
            found.append(match.group())
    return found
