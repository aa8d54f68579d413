"""Where sentences end: one rule, as a pattern for grammars and as a count.

A sentence ends with a full stop, question or exclamation mark (also "..." and the marks of Arabic, Urdu and Hindi)
before white space or the end, or with 。！？ anywhere; closing quotes and brackets belong to it. A line break ends one
too. Titles and the like ("Dr.", "e.g."), initials after a capitalised word, and the number before an item of a list do
not. Thai has no such marks: there, line breaks alone count.
"""

from __future__ import annotations

import re

_SPACED = ".!?…؟۔।"  # end a sentence where white space follows
_ALWAYS = "。！？"
_CLOSING = "\"'”’»)\\]」』）*_"
_SHORT = r"(?:Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|vs|Nr|Vol|Fig|approx|ca|bzw|Sra?|Mme|[Ee]\.g|[Ii]\.e|[Ee]tc|[Zz]\.B)"
_CAPITAL = "[A-ZÀ-ÖØ-ÞА-Я]"
_SEPARATORS = r"\x1c-\x1f"  # in Python's \s, and not in llguidance's
_SPACE = rf"\s{_SEPARATORS}"
_LETTER = rf"[^{_SPACED}{_ALWAYS}{_SPACE}]"

# For llguidance, whose patterns have neither look-around nor lazy quantifiers. What it takes for n sentences counts
# as n or fewer below.
SENTENCE = (
    rf"(?:{_SHORT}\. |[0-9]{{1,2}}\. |(?:{_CAPITAL}\. )+)?"
    rf"(?:[^{_SPACED}{_ALWAYS}\r\n{_SEPARATORS}]"  # anything within a sentence
    rf"|[{_SPACED}]+[{_CLOSING}]*[^{_SPACED}{_ALWAYS}{_CLOSING}{_SPACE}]"  # 3.14, example.org
    rf"|[ (]{_SHORT}\. |{_CAPITAL}{_LETTER}*(?: {_CAPITAL}\.)+ )*"
    rf"{_LETTER}(?:[{_SPACED}]+|[{_ALWAYS}]+)[{_CLOSING}]*"
)

_END = re.compile(rf"[{_SPACED}]+[{_CLOSING}]*(?=\s|\Z)|[{_ALWAYS}]+[{_CLOSING}]*|\r?\n")
_NO_END = re.compile(rf"(?:(?:\A|[\s(]){_SHORT}|\A\s*(?:[0-9]{{1,2}}|{_CAPITAL})|(?:\A|\W){_CAPITAL}\S* {_CAPITAL})\Z")


def count_sentences(text: str) -> int:
    """How many sentences a text has."""
    return len(split_sentences(text))


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, without the white space between them."""
    sentences, start = [], 0
    for end in _END.finditer(text):
        if end.group() == "." and end.end() < len(text) and _NO_END.search(text[start : end.start()]):
            continue
        sentences.append(text[start : end.end()].strip())
        start = end.end()
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if re.search(_LETTER, sentence)]
