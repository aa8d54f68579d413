"""Checks a statement against the passages it cites, without asking a model.

Every number, date, name and quoted string of the statement must occur in the passages, whatever their format, and
most of its words too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import regex

from langchain_qwen.grounding.words import UNSPACED, normalised, words

_NUMBER = regex.compile(r"(?<!\d)\d{1,3}(?:[.,'’\u00a0\u202f ]\d{3})+(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)?")
_IN_NAME = rf"(?:(?!{UNSPACED})\w)"
_WITH_LETTERS = regex.compile(rf"(?={_IN_NAME}*\d)(?={_IN_NAME}*(?!{UNSPACED})\p{{L}}){_IN_NAME}+")  # Q3, A320
# As the prompt numbers them.
_REFERENCE = regex.compile(r"\bpassages?\s+\d+(?:(?:,|\s+and)\s+\d+)*", regex.IGNORECASE)
_ISO_DATE = regex.compile(r"\b(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})\b")
_QUOTED = regex.compile(r"[“«「『‘']([^“”«»「」『』‘’']{2,})[”»」』’'](?!\p{L})")
_CAPITALISED = regex.compile(rf"(?<![\p{{L}}\p{{M}}\p{{N}}])\p{{Lu}}(?:(?!{UNSPACED})[\p{{L}}\p{{M}}\p{{N}}'’-])*")
_ERAS = frozenset({"ad", "bc", "bce", "ce"})
_YEAR = regex.compile(r"(?<!\d)(?<!\d[.,])(?:1[5-9]|20)\d\d(?!\d)(?!\.\d+(?![\d.]))(?!,\d{3})")
_SENTENCE_START = regex.compile(r"(?:^|[.!?:]\s+|\n)[\W_]*$")

_SAID = "specif|mention|stat|provid|giv|contain|sa[yi]|includ|indicat|answer|disclos|list|nam"
_DECLINES = regex.compile(
    rf"(?:\b(?:not|no)|n[’']t)\s+(?:\w+\s+){{0,3}}(?:{_SAID})\w*\b.*\b(?:passages?|text|context|information|documents?)\b"
    rf"|\b(?:passages?|text|context|documents?)\b[^.]*(?:\b(?:not|no)|n[’']t)\s+(?:\w+\s+){{0,2}}(?:{_SAID}|information)\w*"
    r"|(?:未|没有|沒有|无法|無法)(?:明确|具体|直接)?(?:提到|提及|说明|提供|给出|指出|包含|找到|确定)"
    r"|\bnicht (?:erwähnt|angegeben|genannt)|\bno se (?:menciona|especifica|indica)"
    r"|\bpas (?:mentionné|précisé|indiqué)|\bне (?:упомина|указан)\w*"
    r"|^\W*I(?:\s+do\s+not|\s+don[’']t|\s*[’']?m\s+not|\s+am\s+not)\s+(?:know|have|sure|able)|\bI(?:\s+am|[’']m)\s+(?:sorry|unable)"
    r"|我?(?:不知道|不清楚)|\bich weiß (?:es )?nicht|\bno (?:lo )?sé\b|\bje ne sais pas|\bне знаю",
    regex.IGNORECASE,
)
_MONTHS = (
    "january jan enero janvier januar gennaio janeiro января январь januari ianuarie ocak ιανουαρίου",
    "february feb febrero février februar febbraio fevereiro февраля февраль februari februarie şubat φεβρουαρίου",
    "march mar marzo mars märz março марта март maart martie mart μαρτίου",
    "april apr abril avril aprile апреля апрель aprilie nisan απριλίου",
    "may mayo mai maggio maio мая май mei mayıs μαΐου",
    "june jun junio juin juni giugno junho июня июнь iunie haziran ιουνίου",
    "july jul julio juillet juli luglio julho июля июль iulie temmuz ιουλίου",
    "august aug agosto août августа август augustus ağustos αυγούστου",
    "september sep sept septiembre septembre settembre setembro сентября сентябрь septembrie eylül σεπτεμβρίου",
    "october oct octubre octobre oktober ottobre outubro октября октябрь octombrie ekim οκτωβρίου",
    "november nov noviembre novembre novembro ноября ноябрь noiembrie kasım νοεμβρίου",
    "december dec diciembre décembre dezember dicembre dezembro декабря декабрь decembrie aralık δεκεμβρίου",
)
_MONTH_NUMBERS = {normalised(name): number for number, names in enumerate(_MONTHS, 1) for name in names.split()}
_WORD_NUMBERS = {
    word: str(number)
    for number, group in enumerate(
        (
            "zero 零",
            "one first 一",
            "two second 二 两",
            "three third 三",
            "four fourth 四",
            "five fifth 五",
            "six sixth 六",
            "seven seventh 七",
            "eight eighth 八",
            "nine ninth 九",
            "ten tenth 十",
            "eleven eleventh 十一",
            "twelve twelfth 十二",
            *["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"],
        )
    )
    for word in group.split()
}
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SPELT = regex.compile(
    rf"\b(?P<tens>{'|'.join(_TENS)})(?:[\s-]+(?P<ones>one|two|three|four|five|six|seven|eight|nine)\b)?"
)
# Words that carry no meaning of their own.
_SMALL = (
    "a an the of in on at to for from by with and or but as is are was were be been has have had it its this that "
    "these those he she they his her their there which who what when where how not no yes i we you do does did will "
    "would de la el los las en y que es un una del por con le les des et est dans du der die das und ist im ein eine "
    "von zu ja nein oui non si да нет evet hayir ναι οχι nu vang khong نعم لا हाँ नहीं ใช่ ไม่ 是 否 是的 不是 没有 "
    "はい いいえ"
)
_SMALL_WORDS = frozenset(word for text in _SMALL.split() for word in words(text))


@dataclass(frozen=True, slots=True)
class Support:
    """How far passages support a statement.

    Attributes:
        missing: Facts of the statement that the passages do not hold.
        coverage: The share of its words that they do hold.
    """

    missing: tuple[str, ...]
    coverage: float


def support(statement: str, evidence: str, question: str = "") -> Support:
    """Compare a statement with the text it cites.

    Args:
        statement: One or a few sentences.
        evidence: The cited passages' texts, with their titles and dates.
        question: What was asked: names in it may be repeated, its numbers must be in the evidence too.
    """
    statement = _REFERENCE.sub(" ", statement)
    known = words(evidence)
    missing = [
        *_missing_numbers(statement, evidence, {*known, *words(question)}),
        *_missing_names(statement, {*known, *words(question)}),
        *(quoted for quoted in _quoted(statement) if not _holds(evidence, quoted) and not _holds(question, quoted)),
    ]
    return Support(tuple(dict.fromkeys(missing)), _coverage(statement, {*known, *words(question)}))


def declines(statement: str) -> bool:
    """Whether a statement says that the passages do not say it."""
    return _DECLINES.search(statement) is not None


def holds_month(text: str) -> bool:
    """Whether a text names a month."""
    return any(word in _MONTH_NUMBERS for word in words(text))


def content_words(text: str) -> list[str]:
    """The words of a text that carry a meaning of their own."""
    return [word for word in words(text) if word not in _SMALL_WORDS]


def known_among(asked: Iterable[str], known: Iterable[str]) -> list[str]:
    """Those of some words that a text's words hold, up to their endings."""
    held = set(known)
    return [word for word in asked if _known(word, held)]


def share_known(asked: Sequence[str], known: Iterable[str]) -> float:
    """The share of some words that a text's words hold, up to their endings; 1 for none."""
    held = set(known)
    return sum(_known(word, held) for word in asked) / len(asked) if asked else 1.0


def years(text: str) -> list[str]:
    """The years that a text names."""
    return list(dict.fromkeys(_YEAR.findall(normalised(text))))


def numbers(text: str) -> set[str]:
    """All numbers of a text in one form: digits, a point before decimals; months and small number words as numbers."""
    text = normalised(text)
    found = {form for match in _NUMBER.finditer(text) for form in _forms(match.group())}
    for match in _ISO_DATE.finditer(text):
        found |= {str(int(part)) for part in match.groups()}
    for word in regex.findall(r"\p{L}+", text):
        if word in _MONTH_NUMBERS:
            found.add(str(_MONTH_NUMBERS[word]))
        if word in _WORD_NUMBERS:
            found.add(_WORD_NUMBERS[word])
    found |= _spelt_numbers(text)
    found |= {_WORD_NUMBERS[word] for word in regex.findall(r"十[一二]|[零一二两三四五六七八九十]", text)}
    return found


def _spelt_numbers(text: str) -> set[str]:
    """English numbers from twenty to ninety-nine written as words."""
    return {
        str(10 * _TENS.index(match["tens"]) + 20 + int(_WORD_NUMBERS[match["ones"] or "zero"]))
        for match in _SPELT.finditer(text)
    }


def _missing_numbers(statement: str, evidence: str, names: set[str]) -> list[str]:
    there, said = numbers(evidence), normalised(statement)
    within_names = [match.span() for match in _WITH_LETTERS.finditer(said) if match.group() in names]
    missing = [
        match.group()
        for match in _NUMBER.finditer(said)
        if not there.intersection(_forms(match.group()))
        and not any(start <= match.start() and match.end() <= end for start, end in within_names)
    ]
    # "may" and "march" are words of other kinds too, which the names' check leaves alone.
    for match in _CAPITALISED.finditer(statement):
        month = _MONTH_NUMBERS.get(normalised(match.group()))
        if month and str(month) not in there and not _begins_sentence(statement, match.start()):
            missing.append(match.group())
    return missing


def _forms(number: str) -> set[str]:
    """What a written number may mean: separators of thousands and of decimals differ between languages."""
    digits = regex.sub(r"['’\s]", "", number)
    forms = set()
    for thousands, decimal in ((",", "."), (".", ",")):
        if regex.fullmatch(rf"\d{{1,3}}(?:\{thousands}\d{{3}})+(?:\{decimal}\d+)?|\d+(?:\{decimal}\d+)?", digits):
            whole, _, fraction = digits.replace(thousands, "").replace(decimal, ".").partition(".")
            fraction = fraction.rstrip("0")
            forms.add((whole.lstrip("0") or "0") + (f".{fraction}" if fraction else ""))
    return forms


def _missing_names(statement: str, known: set[str]) -> list[str]:
    missing = []
    for match in _CAPITALISED.finditer(statement):
        parts = words(match.group())
        small = len(parts) == 1 and any(parts[0] in plain for plain in (_SMALL_WORDS, _MONTH_NUMBERS, _ERAS))
        if small or _begins_sentence(statement, match.start()):
            continue
        if not all(_known(part, known) for part in parts):
            missing.append(match.group())
    return missing


def _begins_sentence(text: str, start: int) -> bool:
    return _SENTENCE_START.search(text[:start]) is not None


def _quoted(statement: str) -> list[str]:
    return [match.group(1) for match in _QUOTED.finditer(statement)]


def _holds(text: str, part: str) -> bool:
    return _squeezed(part) in _squeezed(text)


def _squeezed(text: str) -> str:
    squeezed: str = regex.sub(r"[\s\p{P}]+", " ", normalised(text))
    return squeezed.strip()


def _coverage(statement: str, known: set[str]) -> float:
    asked = [word for word in words(statement) if word not in _SMALL_WORDS]
    if not asked:
        return 1.0
    return sum(_known(word, known) for word in asked) / len(asked)


def _known(word: str, known: Iterable[str]) -> bool:
    """Whether a text's words hold this one, up to its ending."""
    if word in known:
        return True
    if not word.isalpha() or len(word) < 5 or not unicodedata.category(word[0]).startswith("L"):
        return False
    stem = word[: max(4, len(word) - 3)]
    return any(other.startswith(stem) for other in known)
