"""Detectors of numbers that states give to persons: by their form and checksum, or by the word beside them.

Any nine digits could be a social security number. So digits without the form of one count only behind their name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from stdnum import luhn
from stdnum.ar import cuit
from stdnum.at import vnr
from stdnum.au import tfn
from stdnum.be import nn
from stdnum.bg import egn
from stdnum.br import cpf
from stdnum.ch import ssn as ahv
from stdnum.cl import rut
from stdnum.cn import ric
from stdnum.cz import rc
from stdnum.de import idnr
from stdnum.dk import cpr
from stdnum.ec import ci
from stdnum.ee import ik
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.gr import amka
from stdnum.hr import oib
from stdnum.id import nik
from stdnum.ie import pps
from stdnum.il import idnr as idnr_il
from stdnum.in_ import aadhaar, pan
from stdnum.is_ import kennitala
from stdnum.it import codicefiscale
from stdnum.jp import in_
from stdnum.kr import rrn
from stdnum.mx import curp, rfc
from stdnum.my import nric
from stdnum.nl import bsn
from stdnum.no import fodselsnummer
from stdnum.nz import ird
from stdnum.pl import pesel
from stdnum.pt import nif
from stdnum.ro import cnp
from stdnum.ru import inn
from stdnum.se import personnummer
from stdnum.si import emso
from stdnum.th import pin
from stdnum.tr import tckimlik
from stdnum.ua import rntrc
from stdnum.us import itin, ssn
from stdnum.za import idnr as idnr_za

from langchain_qwen.safety.letters import fold_text
from langchain_qwen.safety.prefixes import ASCII_WORD
from langchain_qwen.safety.scanning import Detector, Span

_NINO = re.compile(r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]")


def _valid(*checks: Any) -> Callable[[str], bool]:
    return lambda number: any(check.is_valid(number) for check in checks)


def _is_ssn(number: str) -> bool:
    digits = re.sub(r"\D", "", number)
    return ssn.is_valid(digits) or itin.is_valid(digits)


def _is_nino(number: str) -> bool:
    return _NINO.fullmatch(re.sub(r"[ -]", "", number).upper()) is not None


# Forms that few other things have.
_FORMS: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = tuple(
    (re.compile(form, re.IGNORECASE), check)
    for form, check in (
        (r"\d{3}([- ])\d\d\1\d{4}", _is_ssn),
        (r"\d{3}\.\d{3}\.\d{3}-\d\d", _valid(cpf)),
        (r"\d{8}-?[A-Z]", _valid(dni)),
        (r"[XYZ]-?\d{7}-?[A-Z]", _valid(nie)),
        (r"[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z]", _valid(codicefiscale)),
        (r"\d{17}[\dX]", _valid(ric)),
        (r"[12] ?\d\d ?\d\d ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d", _valid(nir)),
        (r"[A-Z]{2}[ -]?\d\d[ -]?\d\d[ -]?\d\d[ -]?[A-Z]", lambda n: n.isupper() and _is_nino(n)),
        (r"\d{4}([ -])\d{4}\1\d{4}", _valid(aadhaar)),
        (r"[A-Z]{5}\d{4}[A-Z]", lambda n: n.isupper() and pan.is_valid(n)),
        (r"756\.\d{4}\.\d{4}\.\d\d", _valid(ahv)),
        (r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z\d]\d", _valid(curp)),
        (r"\d{6}-[1-4]\d{6}", _valid(rrn)),
        (r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", _valid(nn)),
        (r"\d{6}[-+A]\d{3}[A-Z]", _valid(hetu)),
        (r"(?:19|20)?\d{6}[-+]\d{4}", _valid(personnummer)),
    )
)
_NUMBER = r"[A-Z0-9](?:[ ._/\n-]?[A-Z0-9]){5,17}"
_BETWEEN = (
    r"(?: ?(?:number|numbers|nummer|num|nr|no|numero|n|id|is|ist|es|est|of|the|card|:|=|#|\.|-|\"|'|\(|\)|\n)){0,5} ?"
)


def _digits(length: int) -> Callable[[str], bool]:
    return lambda number: len(number) == length and number.isdigit()


_PASSPORT = re.compile(r"[A-Z]{0,2}\d{6,9}|[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{8}|[A-Z]\d{7,8}[A-Z]?")
# Words, and what the number behind them has to be, without its separators.
_LABELS: dict[str, Callable[[str], bool]] = {
    "ssn|ssns|social security|social sec": _is_ssn,
    "itin|taxpayer": _valid(itin),
    "nino|ni|national insurance": _is_nino,
    "aadhaar|aadhar|uidai|uid": _valid(aadhaar),
    "nhs": _valid(nhs),
    "sin|social insurance|nas": lambda number: len(number) == 9 and luhn.is_valid(number),
    "steuer-id|steuerid|idnr|steueridentifikationsnummer|steuerliche identifikationsnummer|tax id": _valid(idnr, ssn),
    "pesel": _valid(pesel),
    "bsn|burgerservicenummer": _valid(bsn),
    "tfn|tax file": _valid(tfn),
    "cpf": _valid(cpf),
    "cpr|personnummer": _valid(cpr, personnummer, fodselsnummer),
    "numero de securite sociale|securite sociale|insee": _valid(nir),
    "fodselsnummer|fodselsnr|personnr": _valid(fodselsnummer),
    "kennitala": _valid(kennitala),
    "isikukood|asmens kodas": _valid(ik),
    "rodne cislo": _valid(rc),
    "cnp|cod numeric personal": _valid(cnp),
    "egn|егн": _valid(egn),
    "emso|jmbg": _valid(emso),
    "oib": _valid(oib),
    "amka|αμκα": _valid(amka),
    "pps|ppsn": _valid(pps),
    "nif|contribuinte": _valid(nif, dni, nie),
    "svnr|sozialversicherungsnummer|versicherungsnummer": _valid(vnr),
    "инн|inn": _valid(inn),
    "рнокпп|ипн|rnokpp": _valid(rntrc),
    "tckn|tc kimlik|t\\.?c\\.? kimlik|kimlik": _valid(tckimlik),
    "teudat zehut|mispar zehut|תעודת זהות|מספר זהות": _valid(idnr_il),
    "my ?kad|nric|no kad pengenalan": _valid(nric),
    "nik|ktp": _valid(nik),
    "เลขประจําตัวประชาชน|เลขบัตรประชาชน|thai id": _valid(pin),
    "my number|マイナンバー|個人番号": _valid(in_),
    "rut": _valid(rut),
    "rfc": _valid(rfc),
    "cuil|cuit": _valid(cuit),
    "cedula": _valid(ci),
    "rsa id|sa id|south african id": _valid(idnr_za),
    "ird": _valid(ird),
}
_LABELS = {fold_text(words): check for words, check in _LABELS.items()}
_PASSPORT_WORDS = fold_text(
    "passport|reisepass|reisepassnummer|passnummer|passeport|pasaporte|passaporto|paszport|paspoort|"
    "паспорт|护照|护照号码|パスポート|여권"
)


def _behind(words: dict[str, Callable[[str], bool]], candidate: str) -> list[Span]:
    """The number behind a word, if it is one; the longest that is."""
    for names, check in words.items():
        label = re.match(rf"(?:{names}){_BETWEEN}", candidate, re.IGNORECASE)
        if label is None:
            continue
        for end in range(len(candidate), label.end() + 5, -1):
            number = re.sub(r"[^0-9A-Za-z]", "", candidate[label.end() : end]).upper()
            if candidate[end - 1].isalnum() and not candidate[end : end + 1].isalnum() and check(number):
                return [(label.end(), end)]
    return []


@lru_cache(maxsize=64)
def _national_id(candidate: str) -> list[Span]:
    for form, check in _FORMS:
        if form.fullmatch(candidate) and check(candidate):
            return [(0, len(candidate))]
    return _behind(_LABELS, candidate) if candidate[-1:].isalnum() and candidate[0].isalpha() else []


@lru_cache(maxsize=64)
def _passport(candidate: str) -> list[Span]:
    return _behind({_PASSPORT_WORDS: lambda number: _PASSPORT.fullmatch(number) is not None}, candidate)


NATIONAL_IDS = (
    Detector(
        "national_id",
        r"[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}|[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}|[XYZ]?-?[0-9]{7,8}-?[A-Z]"
        r"|[A-Z]{6}[0-9]{2}[A-Z][0-9]{2}[A-Z][0-9]{3}[A-Z]|[0-9]{17}[0-9X]"
        r"|[12] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"
        r"|[A-Z]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[A-D]"
        r"|[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}(?:[ -][0-9]{1,4}){0,3}|[A-Z]{5}[0-9]{4}[A-Z]"
        r"|756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}"
        r"|[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[A-Z0-9][0-9]|[0-9]{6}-[0-9]{7}|[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}"
        rf"|[0-9]{{6}}[+A-][0-9]{{3}}[A-Z]|[0-9]{{6,8}}[+-][0-9]{{4}}|(?:{'|'.join(_LABELS)}){_BETWEEN}{_NUMBER}",
        _national_id,
        guard=ASCII_WORD,
    ),
    Detector("passport", rf"(?:{_PASSPORT_WORDS}){_BETWEEN}{_NUMBER}", _passport, guard=ASCII_WORD),
)
