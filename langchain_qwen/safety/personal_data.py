"""Detectors of personal data: liberal candidates, then number plans, checksums and lists of what they are not."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from functools import lru_cache

from stdnum import iban, luhn

from langchain_qwen.safety.addresses import EMAIL
from langchain_qwen.safety.credentials import CREDENTIALS, without_punctuation
from langchain_qwen.safety.letters import fold_text
from langchain_qwen.safety.national_ids import NATIONAL_IDS
from langchain_qwen.safety.phone_plans import is_international, is_national
from langchain_qwen.safety.prefixes import ASCII_WORD
from langchain_qwen.safety.scanning import Detector, Span

DIGITS = "0-9A-Za-z"
_NUMBERED = re.compile(  # IP addresses, ISBNs and dates, which a phone number can follow
    r"(?:\d{1,3}(?:\.\d{1,3}){3}|97[89](?:[- ]?\d){10}|(?:19|20)\d\d[-./ ]\d\d?[-./ ]\d\d?"
    r"|\d\d?[-./ ]\d\d?[-./ ](?:19|20)\d\d)(?:[ T-]|\Z)",
    re.IGNORECASE,
)
# Numbers written like those of social security, decimals, thousands, postal codes, ranges, and what counters end at.
_NO_PHONE = re.compile(
    r"\d{3}-\d\d-\d{4}|(?:[1-9]\d*|0)\.\d+|\d+_\d+|\d{1,3}(?:_\d{3})+|[1-9](?: \d{3})+"
    r"|\d{5}-\d{4,5}|0?123456789\d?|2147483647"
)
_DECIMAL = re.compile(r"(?:^|\s)\d+\.\d+\s|\s\d+\.\d+$")
# Numbers with nothing but blanks between them, none of them like an area code: a phone number cannot be told apart.
_TABLE = re.compile(r"(?:[1-9]\d*|0)(?: +(?:[1-9]\d*|0))+")
# A number in thousands, of ten digits and more.
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?: \d{3}){3,}")
_MOST_DIGITS = 20
_EXTENSION = r" ?(?:x|ext\.?) ?[0-9]{1,6}"
_EXTENDED = re.compile(rf"{_EXTENSION}\Z", re.IGNORECASE)
# Numbers of seven and eight digits, which plans of small countries and of towns have, count behind a word that says so.
_CALLED = fold_text(
    r"(?:(?:tele|smart)?phone|tel|mobile|cell|cellphone|call|dial|reach|hotline|telefon|telefonnummer|mobil|mobilnummer"
    r"|handynummer|rufnummer|ring|telefono|numero|telefone|telefoon)"
)
_SHORT_DIGITS = r"[0-9]{2,8}(?:[ -]?[0-9]{2,4}){0,3}"
_SHORT = re.compile(rf"(?<![0-9-])(?!(?:19|20)[0-9]{{2}}[ -]?[01][0-9][ -]?[0-3][0-9]){_SHORT_DIGITS}\Z")
_NO_FIRST = re.compile(r"[2-69]\D|0\.")  # one digit alone that no number begins with
_GROUP = re.compile(r"[(+]*[0-9]+")
# Lengths of a card's number by how it begins (ISO/IEC 7812 ranges as the networks publish them).
_CARDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|(?:64[4-9]\d|65\d\d|62\d\d|35\d\d|220[0-4]|60\d\d|508\d)\d{12,15}"
    r"|(?:30[0-59]\d|3[689]\d\d)\d{10,15}|(?:2131|1800)\d{11}|(?:50(?:18|20|38)|5[6-8]\d\d|63\d\d|67\d\d)\d{8,15}"
)
_IBAN_BEGINS = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}[0-9]{2}")
_LONGEST_IBAN = 34
_CARD_LAYOUTS_TEXT = (  # sizes of the groups that people write a card's number in
    "4-4-4-4 4-6-5 4-6-4 4-4-4-4-3 8-8 6-10 6-13 4-12 4-4-8 4-8-4 4-4-4 4-4-5 4-4-4-1 4-4-4-2 4-4-4-3 5-4-4-2 "
    "3-3-3-3-3 3-3-3-3-3-1"
)
_CARD_LAYOUTS = frozenset(_CARD_LAYOUTS_TEXT.split())


def _groups(candidate: str, accept: Callable[[str], bool], *, low: int, high: int) -> Iterator[Span]:
    """The longest accepted runs of whole groups of digits, from left to right."""
    groups = [match.span() for match in _GROUP.finditer(candidate)]
    sizes = [sum(map(str.isdigit, candidate[start:end])) for start, end in groups]
    first = 0
    while first < len(groups):
        last, total = first, sizes[first]
        while last + 1 < len(groups) and total + sizes[last + 1] <= high:
            last += 1
            total += sizes[last]
        while last >= first and low <= total:
            start, end = groups[first][0], groups[last][1]
            if total <= high and accept(candidate[start:end]):
                yield start, end
                first = last
                break
            total -= sizes[last]
            last -= 1
        first += 1


def _is_counting(digits: str, sizes: list[int]) -> bool:
    """Whether groups of digits are rather the steps of a list or a scale."""
    alone = sizes.count(1)
    return digits in "01234567890123456789" if alone == len(sizes) else alone > 2


@lru_cache(maxsize=4096)
def _is_phone(number: str) -> bool:
    if number.startswith("+"):  # the country is named, so its plan is known; "(0)" is not dialled from abroad
        return "+" not in number[1:] and is_international(re.sub(r"\D", "", number.replace("(0)", "")))
    if "\n" in number or "+" in number:
        return False
    digits, sizes = re.sub(r"\D", "", number), [len(group) for group in re.findall(r"\d+", number)]
    if _is_counting(digits, sizes) or _DECIMAL.search(number):
        return False
    if number.startswith("00"):
        return is_international(digits[2:], exact=len(sizes) < 3)
    if number.startswith("011") and is_international(digits[3:], exact=True):  # as one dials from North America
        return True
    if (1 in sizes[1:] and not (number[0] == "0" and sizes[0] > 1)) or _NO_FIRST.match(number):
        return False
    least, most = 8 if len(sizes) > 2 else 9, 12 if digits[0] == "0" else 11
    return least <= len(digits) <= most and not _NO_PHONE.fullmatch(number) and is_national(digits)


def _is_cut(text: str, start: int, end: int) -> bool:
    """Whether a number without a beginning of its own is a part of a longer one, such as a version or an order's."""
    if re.search(r"\d[._-]\Z", text[:start]):
        return True
    own = re.match(r"\(|0\d", text[start:])
    return re.match(r"\.\d" if own else r"[._-]\d", text[end:]) is not None


@lru_cache(maxsize=64)
def _phone(candidate: str) -> list[Span]:
    start = 0
    while other := _NUMBERED.match(candidate, start):
        start = other.end()
    rest = candidate[start:]
    if _THOUSANDS.fullmatch(rest) or (_TABLE.fullmatch(rest) and sum(map(str.isdigit, rest)) > _MOST_DIGITS):
        return []
    extension = _EXTENDED.search(rest)
    number = rest[: extension.start()] if extension else rest
    spans = _groups(number, _is_phone, low=8, high=17)
    found = [(start + a, start + b) for a, b in spans if rest[a] == "+" or not _is_cut(number, a, b)]
    if extension and found and found[-1][1] == start + len(number):
        found[-1] = (found[-1][0], len(candidate))
    return found


@lru_cache(maxsize=64)
def _called(candidate: str) -> list[Span]:
    number = _SHORT.search(candidate)
    if number is None or len(re.sub(r"\D", "", number[0])) not in (7, 8):
        return []
    return [number.span()]


def _is_card(number: str) -> bool:
    if number[0] not in "123456" or _DECIMAL.fullmatch(f"{number} "):
        return False
    digits = re.sub(r"\D", "", number)
    if not _CARDS.fullmatch(digits) or not luhn.is_valid(digits):
        return False
    sizes, between = [len(group) for group in re.findall(r"\d+", number)], set(re.findall(r"\D+", number))
    if set(sizes) == {1}:  # lists of single digits have commas
        return len(between) == 1 and "," not in number
    if re.search(r"[^0-9 .\n-]", number) and len(between) > 1:
        return False
    return len(sizes) == 1 or "-".join(map(str, sizes)) in _CARD_LAYOUTS


@lru_cache(maxsize=64)
def _card(candidate: str) -> list[Span]:
    return list(_groups(candidate, _is_card, low=12, high=19))


@lru_cache(maxsize=64)
def _iban(candidate: str) -> list[Span]:
    for begin in _IBAN_BEGINS.finditer(candidate):
        for end in range(len(candidate), begin.start() + 14, -1):
            if candidate[end - 1].isalnum() and not candidate[end : end + 1].isalnum():
                compact = re.sub(r"[^0-9A-Za-z]", "", candidate[begin.start() : end])
                # Countries' own checks know a list of banks, which ages.
                if len(compact) <= _LONGEST_IBAN and iban.is_valid(compact, check_country=False):
                    return [(begin.start(), end)]
    return []


def _ip(candidate: str) -> Iterator[Span]:
    address = re.sub(r"[\[\]]", "", candidate)
    if candidate.endswith(":") and not candidate.endswith("::"):  # of the sentence
        address, candidate = address[:-1], candidate[:-1]
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except OSError:
        return
    if len(address) > 4:
        yield 0, len(candidate)


def _url(candidate: str) -> Iterator[Span]:
    end = without_punctuation(candidate)
    if "." in candidate[:end]:
        yield 0, end


_DOT = r"(?:\.|\[\.\])"
PERSONAL_DATA = (
    EMAIL,
    Detector(
        "phone",
        rf"(?:[+(]{{0,2}}[0-9](?:[ ./()_+-]{{0,3}}[0-9])+|\+[0-9](?:[ ./()_\n-]{{0,3}}[0-9]){{6,20}})(?:{_EXTENSION})?",
        _phone,
        guard=DIGITS,
    ),
    Detector(
        "phone",
        rf"{_CALLED}[^0-9A-Za-z\n.!?]{{0,5}}(?:[A-Za-z]{{1,8}}[^0-9A-Za-z\n.!?]{{1,3}}){{0,2}}{_SHORT_DIGITS}",
        _called,
        guard=DIGITS,
    ),
    Detector("credit_card", r"[0-9](?:[ ._/|,\n\t-]{0,3}[0-9])+", _card, guard=DIGITS),
    Detector("iban", r"[A-Z]{2}[0-9]{2}(?:[ ._/\n-]{0,2}[A-Z0-9]){11,34}", _iban, guard=DIGITS, again=True),
    *NATIONAL_IDS,
    # Also longer ones, so that nothing is found in them.
    Detector("ip_address", rf"[0-9]{{1,3}}(?:{_DOT}[0-9]{{1,3}}){{3,20}}", _ip, guard=ASCII_WORD),
    Detector(
        "ip_address",
        rf"[0-9a-f]{{0,4}}(?::[0-9a-f]{{0,4}}){{2,7}}(?:{_DOT}[0-9]{{1,3}}){{0,3}}",
        _ip,
        guard=ASCII_WORD + ":",
        guard_before=ASCII_WORD,
    ),
    Detector("url", r"(?:https?://|www\.)[^\s<>\"']+", _url, guard=ASCII_WORD, tail=r"[^\s<>\"']+"),
    *CREDENTIALS,
)
