"""Detectors of personal data and secrets: liberal candidates, then checksums and number plans."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from functools import lru_cache

import phonenumbers
from stdnum import iban, luhn
from stdnum.cn import ric
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.it import codicefiscale
from stdnum.us import ssn

from langchain_qwen.safety.prefixes import ASCII_WORD
from langchain_qwen.safety.scanning import Detector, Span

# National numbers carry no country; these are tried in turn.
PHONE_REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "CH", "AT", "BE", "SE", "PL", "AU", "BR", "IN", "JP", "CN")
_AT = r"(?:@| ?[\[({] ?at ?[\])}] ?)"
_DOT = r"(?:\.| ?[\[({] ?dot ?[\])}] ?)"
# Dates, IP addresses, and numbers written like those of social security.
_NO_PHONE = re.compile(
    r"(?:19|20)\d\d[-./ ]\d\d?[-./ ]\d\d?(?: .*)?|\d\d?[-./ ]\d\d?[-./ ](?:19|20)\d\d(?: .*)?"
    r"|\d{1,3}(?:\.\d{1,3}){3}|\d{3}-\d\d-\d{4}"
)


def _email(candidate: str) -> Iterator[Span]:
    start = len(candidate) - len(candidate.lstrip(".-+%"))
    if start == 0 or candidate[start] not in "@ [({":
        last = re.split(r"[^\w-]+", candidate)[-1]
        if len(last) > 1 and not last.isdigit():
            yield start, len(candidate)


@lru_cache(maxsize=1024)
def _is_phone(number: str) -> bool:
    digits = re.sub(r"\D", "", number)
    if number.startswith("+"):  # the country is named, so its plan is known; "(0)" is not dialled from abroad
        try:
            return phonenumbers.is_possible_number(phonenumbers.parse(number.replace("(0)", "")))
        except phonenumbers.NumberParseException:
            return False
    grouped = len(re.findall(r"\d+", number)) > 2
    if _NO_PHONE.fullmatch(number) or not (8 if grouped else 9) <= len(digits) <= 11:
        return False
    return any(_is_national(number, region) for region in PHONE_REGIONS)


def _is_national(number: str, region: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def _phone(candidate: str) -> Iterator[Span]:
    if not _NO_PHONE.fullmatch(candidate):
        yield from _groups(candidate, _is_phone, low=8, high=15)


def _groups(candidate: str, accept: Callable[[str], bool], *, low: int, high: int) -> Iterator[Span]:
    """The longest accepted runs of whole groups of digits, from left to right."""
    groups = [match.span() for match in re.finditer(r"[(+]*\w+", candidate)]
    first = 0
    while first < len(groups):
        for last in range(len(groups) - 1, first - 1, -1):
            start, end = groups[first][0], groups[last][1]
            if low <= sum(c.isalnum() for c in candidate[start:end]) <= high and accept(candidate[start:end]):
                yield start, end
                first = last
                break
        first += 1


def _is_card(number: str) -> bool:
    digits = re.sub(r"\D", "", number)
    return digits[0] in "23456" and bool(luhn.is_valid(digits))


def _card(candidate: str) -> Iterator[Span]:
    yield from _groups(candidate, _is_card, low=12, high=19)


def _iban(candidate: str) -> Iterator[Span]:
    for end in range(len(candidate), 14, -1):
        if (
            candidate[end - 1].isalnum()
            and candidate[end : end + 1] in ("", " ", "-")
            and iban.is_valid(candidate[:end])
        ):
            yield 0, end
            return


def _national_id(candidate: str) -> Iterator[Span]:
    checks = (ssn, codicefiscale, dni, nie, ric, nir)
    if re.fullmatch(r"[\d.]{11}-\d\d", candidate) or any(check.is_valid(candidate) for check in checks):
        yield 0, len(candidate)


def _ip(candidate: str) -> Iterator[Span]:
    try:
        ipaddress.ip_address(candidate)
    except ValueError:
        return
    if len(candidate) > 4:
        yield 0, len(candidate)


def _url(candidate: str) -> Iterator[Span]:
    end = len(candidate.rstrip(".,;:!?)'*_"))
    if "." in candidate[:end]:
        yield 0, end


PERSONAL_DATA = (
    Detector(
        "email",
        rf"[a-z0-9_.+%-]{{1,64}}{_AT}[\w-]{{1,63}}(?:{_DOT}[\w-]{{1,63}}){{1,6}}",
        _email,
        guard=ASCII_WORD + "@",
    ),
    Detector("phone", r"[+(]{0,2}[0-9](?:[ ./()+-]{0,3}[0-9]){6,24}", _phone, guard=ASCII_WORD),
    Detector("credit_card", r"[0-9](?:[ .-]{0,2}[0-9]){11,30}", _card, guard=ASCII_WORD),
    Detector("iban", r"[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,34}", _iban, guard=ASCII_WORD),
    Detector(
        "national_id",
        r"[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}|[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}|[XYZ]?[0-9]{7,8}-?[A-Z]"
        r"|[A-Z]{6}[0-9]{2}[A-Z][0-9]{2}[A-Z][0-9]{3}[A-Z]|[0-9]{17}[0-9X]|[0-9]{13} ?[0-9]{2}",
        _national_id,
        guard=ASCII_WORD,
    ),
    Detector(
        "ip_address", r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}", _ip, guard=ASCII_WORD
    ),
    Detector("url", r"(?:https?://|www\.)[^\s<>\"']{3,300}", _url, guard=ASCII_WORD),
    Detector(
        "url_credentials",
        r"[a-z][a-z0-9+]{1,15}://[^\s/@:\"']{1,99}:[^\s/@\"']{1,99}@[^\s\"'<>]{1,200}",
        guard=ASCII_WORD,
    ),
    Detector(
        "secret",
        r"AKIA[0-9A-Z]{16}|gh[pousr]_[A-Z0-9]{36,255}|github_pat_[A-Z0-9_]{22,255}|sk-[A-Z0-9_-]{20,200}|xox[abprs]-[A-Z0-9-]{10,200}"
        r"|AIza[0-9A-Z_-]{35}|eyJ[A-Z0-9_-]{8,}\.eyJ[A-Z0-9_-]{8,}\.[A-Z0-9_-]{8,}"
        r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[A-Z0-9+/=\s]+-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
        r"|(?:api[_-]?key|secret|password|passwd|access[_-]?token) ?[:=] ?[\"']?[^\s\"',;]{8,200}",
        guard=ASCII_WORD,
    ),
)
