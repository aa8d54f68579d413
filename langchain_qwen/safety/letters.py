"""What a character reads as: one form for letters, digits and blanks that look alike."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Letters of other scripts that look like Latin ones. Lexicon words are folded too, so words of these scripts match.
_PAIRS = """
аa вb еe ёе кk мm оo рp сc тt уy хx іi їi јj ѕs һh ԁd ԛq ԝw нh АA ВB ЕE ЁE КK МM НH ОO РP СC ТT УY ХX ІI ЇI ЈJ ЅS
αa εe ιi κk νv οo ρp τt υu χx γy ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX ϲc ոn սu օo
∣l –- —- ‐- ‑- ‒- −- ⁃- 。. ·. ∙. •. ‧. ⋅. ۔. ؟? ՞? ፧? ؛;
"""
_LOOKALIKES = {ord(pair[0]): pair[1] for pair in _PAIRS.split()}
# Small capitals, squared and regional letters and the like have no decomposition, but they have names.
_NAMED = re.compile(
    r"(?:LATIN (?:SMALL LETTER (?:SCRIPT |DOTLESS )?|CAPITAL LETTER (?:SCRIPT )?|LETTER SMALL CAPITAL )"
    r"|REGIONAL INDICATOR SYMBOL LETTER |(?:NEGATIVE |CROSSED )?(?:CIRCLED|SQUARED|PARENTHESIZED) LATIN \w+ LETTER )"
    r"([A-Z])(?: WITH .+)?"
)
_BLANKS = "\u2800\u3164\uffa0"  # letters and symbols by category, blank to the eye
_FILLERS = "\u115f\u1160\ufffd"
_LINES = "\x0b\x0c\x85\u2028\u2029"
_LATIN_MARKS = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
# Other, control, format, private and unassigned characters show nothing.
_NOTHING = ("Cc", "Cf", "Cn", "Co", "Cs")


@lru_cache(maxsize=8192)
def fold(character: str) -> str:
    """The letters that a character reads as: "" for invisible ones, "fi" for the ligature."""
    category = unicodedata.category(character)
    if character in "\n\t\r":
        return character
    if character in _LINES:
        return "\n"
    if category == "Zs" or character in _BLANKS:
        return " "
    if category in _NOTHING or character in _FILLERS or "\ufe00" <= character <= "\ufe0f":
        return ""
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    if named := _NAMED.fullmatch(unicodedata.name(character, "")):
        return named[1] if "CAPITAL LETTER" in unicodedata.name(character) else named[1].lower()
    plain = unicodedata.normalize("NFKD", character.translate(_LOOKALIKES))
    kept = _LATIN_MARKS.sub("", plain)
    digit = unicodedata.digit(kept, None) if len(kept) == 1 else None
    if digit is not None:
        return str(digit)
    # Patterns take blocks of letters for letters, with the punctuation in them.
    in_letters = "\xc0" <= kept[:1] < "\u2000" or "\u2c00" <= kept[:1] < "\u2e00" or kept[:1] >= "\u3000"
    return "," if in_letters and category.startswith("P") else kept.translate(_LOOKALIKES)


@lru_cache(maxsize=8192)
def is_mark(character: str) -> bool:
    """Whether it is set on the letter before: on a Latin letter or a digit, marks of any script say nothing."""
    return unicodedata.category(character) in ("Mn", "Me")


def fold_text(text: str) -> str:
    """A whole text, folded."""
    folded = ""
    for character in text:
        folded += "" if is_mark(character) and folded[-1:].isascii() else fold(character)
    return folded
