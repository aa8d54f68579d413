"""Which kind of answer a question asks for, by its words, and whether a text holds one of that kind."""

from __future__ import annotations

from enum import Enum

import regex

from langchain_qwen.grounding.verifying import holds_month, numbers
from langchain_qwen.grounding.words import normalised


class Kind(str, Enum):
    """What is asked for."""

    PERCENT = "percent"
    DATE = "date"
    NUMBER = "number"
    PERSON = "person"
    YES_NO = "yes_no"
    OTHER = "other"


# In this order: "what percentage" is no other number. Accents are gone and letters small, as `normalised` makes them.
_ASKED = {
    Kind.PERCENT: (
        r"\bper ?cent\w*|\bprozent\w*|\bpourcentage|\bporcentaje|\bprocent\w*|процент\w*|yüzde|yuzde|ποσοστο|百分",
    ),
    Kind.DATE: (
        r"\bwhen\b|\b(?:what|which) (?:\w+ )?(?:year|date|day|month|decade|century)\b",
        r"\bwann\b|\bwelche[mns]? jahr|\bcuando\b|\bque (?:ano|fecha|dia|mes)\b|\bquand\b|\bquelle (?:annee|date)",
        r"когда|в каком году|何时|何時|什么时候|什麼時候|[哪几幾]一?[年天]|متى|أي عام|khi nao|nam nao|เมื่อ(?:ไร|ใด)|ปีใด",
        r"कब|ne zaman|hangi (?:yil|yıl|tarih)|ποτε|ποιο ετος|\bcand\b|\bce an\b",
    ),
    Kind.NUMBER: (
        r"\bhow (?:many|much|old|long|far|tall|high|big|large|often)\b|\bwie ?(?:viele?|alt|lang|hoch|weit|gross)\b",
        r"\bcuant[oa]s?\b|\bcombien\b|сколько|多少|[几幾][个個名位人次座条條种種]|كم |bao nhieu|เท่าไร|กี่|कितन|\bkac\b",
        r"ποσ(?:οι|ες|α|ους)\b|\bcat[ie]\b",
    ),
    Kind.PERSON: (
        r"\bwho(?:m|se)?\b|\bwe[rmn]\b|\bquien(?:es)?\b|\bqui\b|\bкто\b|谁|誰|\bمن (?:هو|هي)\b|\bai\b.{0,3}\?",
        r"\bkim\b|ποιος|\bcine\b",
    ),
    Kind.YES_NO: (
        r"^\W*(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|may)\b(?!.*\bor\b)",
        r"^\W*(?:ist|sind|war|hat|haben|kann|est-ce|es cierto)\b|[吗嗎]\W*$|^\W*هل\b|\bли\b|\bm[iu]\W*$",
    ),
}
_PATTERNS = {kind: regex.compile("|".join(patterns), regex.IGNORECASE) for kind, patterns in _ASKED.items()}
_PERCENT = regex.compile(_ASKED[Kind.PERCENT][0] + r"|[%％٪]", regex.IGNORECASE)
_NAME = regex.compile(r"\p{Lu}\p{Ll}|[\p{Lo}]{2}")
_YES_OR_NO = regex.compile(
    r"^\W*(?:yes|no|ja|nein|si|oui|non|да|нет|是|不|否|没|有|نعم|لا|co|khong|evet|hayir|ναι|οχι|da|nu)\b|^\W*[是不否没]"
    r"|\b(?:not|never|nicht)\b",
    regex.IGNORECASE,
)


def wanted(question: str) -> Kind:
    """The kind that a question asks for."""
    text = normalised(question)
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.search(text)), Kind.OTHER)


def fits(kind: Kind, answer: str) -> bool | None:
    """Whether an answer holds something of a kind; None where its words do not tell."""
    match kind:
        case Kind.PERCENT:
            return _PERCENT.search(normalised(answer)) is not None
        case Kind.DATE:
            return bool(numbers(answer)) or holds_month(answer)
        case Kind.NUMBER:
            return bool(numbers(answer))
        case Kind.PERSON:
            return _NAME.search(answer) is not None
        case Kind.YES_NO:
            return _YES_OR_NO.search(normalised(answer)) is not None
    return None
