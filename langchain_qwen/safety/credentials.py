"""Detectors of what opens something: keys and tokens by their form, passwords by the word before them.

The forms are those that the issuers publish and that secret scanners look for.
"""

from __future__ import annotations

import re
from functools import lru_cache

from langchain_qwen.safety.letters import fold_text
from langchain_qwen.safety.prefixes import ASCII_WORD
from langchain_qwen.safety.scanning import Detector, Span

_KEY = r"[A-Za-z0-9_-]"
# Case counts in these, though not in the search for candidates.
_TOKENS = (
    r"(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",
    r"gh[pousr]_[A-Za-z0-9]{36,}",
    r"github_pat_[A-Za-z0-9_]{22,}",
    r"gl(?:pat|dt|rt|ptt|cbt|ft|soat|agent|oas|imt|ffct)-[A-Za-z0-9_.-]{20,}",
    r"sk-[A-Za-z0-9]{20,}",
    rf"sk-[a-z0-9]{{2,12}}-{_KEY}{{20,}}",
    r"(?:sk|rk)_(?:live|test|prod)_[A-Za-z0-9]{10,}",
    r"whsec_[A-Za-z0-9+/=]{24,}",
    rf"xox[abcdeoprs](?:\.xox[bp])?-{_KEY}{{10,}}",
    r"xapp-\d-[A-Z0-9]+-\d+-[a-z0-9]+",
    rf"AIza{_KEY}{{35}}",
    rf"GOCSPX-{_KEY}{{28}}",
    rf"ya29\.{_KEY}{{20,}}",
    r"hf_[A-Za-z0-9]{30,}",
    r"api_org_[A-Za-z0-9]{30,}",
    r"npm_[A-Za-z0-9]{36}",
    rf"pypi-AgE{_KEY}{{40,}}",
    r"[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}",
    rf"SG\.{_KEY}{{16,}}\.{_KEY}{{16,}}",
    r"SK[0-9a-f]{32}",
    r"key-[0-9a-f]{32}",
    r"[0-9a-f]{32}-us\d{1,2}",
    rf"(?:bot)?\d{{8,10}}:AA{_KEY}{{33}}",
    r"do[opr]_v1_[0-9a-f]{64}",
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
    r"dapi[0-9a-f]{32}(?:-\d)?",
    rf"hv[bsr]\.{_KEY}{{24,}}",
    r"lin_api_[A-Za-z0-9]{40}",
    r"(?:ntn|secret)_[A-Za-z0-9]{40,}",
    r"dp\.(?:pt|st|ct)\.[A-Za-z0-9._-]{40,}",
    r"gl(?:sa|c)_[A-Za-z0-9+/_=]{32,}",
    r"pul-[0-9a-f]{40}",
    r"rubygems_[0-9a-f]{48}",
    r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}",
    rf"sq0(?:atp|csp)-{_KEY}{{22,}}",
    r"(?:pplx-|gsk_|xai-|r8_)[A-Za-z0-9]{37,}",
    r"AGE-SECRET-KEY-1[A-Z0-9]{58}",
    r"AT[AC]TT3[A-Za-z0-9_=-]{60,}",
    r"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}",
    rf"tvly-(?:dev-|prod-)?{_KEY}{{28,}}",
    r"pcsk_[A-Za-z0-9_]{50,}",
    rf"nvapi-{_KEY}{{40,}}",
    r"tskey-[a-z]+-[A-Za-z0-9]{8,}-[A-Za-z0-9]{16,}",
    r"sb(?:p|_secret)_[A-Za-z0-9_-]{30,}",
    r"re_[A-Za-z0-9]{8}_[A-Za-z0-9]{24}",
    rf"figd_{_KEY}{{38,}}",
    r"phx_[A-Za-z0-9]{40,}",
    r"(?:fw|vc[pkia]|rnd|rpa|nfp|jina|e2b)_[A-Za-z0-9]{24,}",
    r"csk-[a-z0-9]{40,}",
    r"xkeysib-[0-9a-f]{64}-[A-Za-z0-9]{16}",
    r"sk_[0-9a-f]{40,}",
    r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.-]{30,}",
    r"CLOJARS_[0-9a-f]{60}",
    r"HRKU-[A-Za-z0-9_-]{36,}",
    r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}",
    r"ops_eyJ[A-Za-z0-9+/=]{200,}",
    r"EAA[A-Za-z0-9]{90,}",
    r"LTAI[A-Za-z0-9]{12,24}",
    r"AKID[A-Za-z0-9]{32}",
    r"https://[a-z0-9.-]+\.office\.com/webhook[a-z0-9]{0,2}/[A-Za-z0-9@/-]{30,}",
    r"sntry[su]_[A-Za-z0-9+/=_]{40,}",
    rf"dckr_pat_{_KEY}{{27}}",
    r"NRAK-[A-Z0-9]{27}",
    r"(?:https?://)?hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{20,}",
    rf"(?:https?://)?(?:\w+\.)?discord(?:app)?\.com/api/webhooks/\d+/{_KEY}{{20,}}",
    rf"eyJ{_KEY}{{8,}}\.eyJ{_KEY}{{8,}}(?:\.{_KEY}*)?",
)
_TOKEN = re.compile("|".join(_TOKENS))
_AWS_ID = r"(?:AKIA|ASIA)[A-Z0-9]{16}"
_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_WORDS = fold_text(
    r"(?:[a-z0-9]{1,20}[_-]){0,3}(?:api[ _-]?key|secret|password|passwd|passphrase|passcode|pwd|token"
    r"|client[ _-]?secret|access[ _-]?key|private[ _-]?key|secret[ _-]?key|account[ _-]?key|shared[ _-]?access[ _-]?key"
    r"|passwort|kennwort|mot de passe|contrasena|senha|wachtwoord|haslo|пароль|密码|パスワード)"
)
_VALUE = r"[^\s\"'`,;<>]"
_SCHEME = r"(?:bearer|basic|token) "
_ASSIGNED = rf"{_WORDS}[\"'`]? ?(?::=|=>|==|[:=])\s?[\"'`]?(?:{_SCHEME})?{_VALUE}{{6,}}"
_IS = r"(?:is|ist|est|es|was|lautet)"
_SAID = (
    r"(?:password|passwort|kennwort|passphrase|passcode|pin|mot de passe|contrasena|senha)"
    rf" {_IS}:? ?[\"'`]?{_VALUE}{{4,}}"
)
_BEARER = rf"{_SCHEME}[A-Za-z0-9._~+/=-]{{16,}}"
_LABELLED = re.compile(
    rf"({_WORDS}|pin)([\"'`]? ?(?::=|=>|==|[:=])\s?[\"'`]?(?:{_SCHEME})?| {_IS}:? ?[\"'`]?)(.+)",
    re.IGNORECASE | re.DOTALL,
)
# What stands in code and in forms where a password could stand.
_CODE = re.compile(
    r"-----.*|[A-Za-z_][\w.]*[(\[].*|[$%{<&*].*|[\w.]+\.[A-Za-z_]\w*|(.)\1*|[x*•.…_-]+|\w+\[.*|(?:required|optional|nullable)\|.*|.*(?:your|example|placeholder|changeme|redacted|env\b).*",
    re.IGNORECASE,
)
# Names of constants and of types.
_NAME = re.compile(
    r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|(?:[A-Z][a-z]+)+(?:Str|String|Field|Type|Token|Key|Config|Provider|Input)"
)
_HASHES = re.compile(r"(?:sha|md|base|utf|aes|argon|pbkdf|hs|rs)-?\d+.*|\d{1,2}[-.]?[a-z]{3,}.*", re.IGNORECASE)
_SHORTEST = 8


def _strong(value: str) -> bool:
    """Whether it could be a password rather than a word or a piece of code."""
    kinds = [any(map(kind, value)) for kind in (str.isdigit, str.islower, str.isupper)]
    return sum(kinds) > 1 or ((kinds[1] or kinds[2]) and bool(re.search(r"[!@#$%^&*+?~]", value)))


def _labelled(candidate: str) -> list[Span]:
    parsed = _LABELLED.fullmatch(candidate)
    if parsed is None:
        return []
    link, value = parsed[2], parsed[3]
    quoted = re.search(r"[\"'`](?:\w+ )?\Z", link) is not None
    value = value if quoted else value.rstrip(".,;:!?)]}>\"'`")
    if len(value) < 4 or _CODE.fullmatch(value) or _NAME.fullmatch(value):
        return []
    if "=" in link or ":" in link:
        words = value.isalpha() and ((not quoted and "=" not in link) or value.lower() in _PLAIN)
        good = len(value) >= _SHORTEST and not words and not (value.isalpha() and value.lower() in _PLAIN)
        good = good or (len(value) >= 6 and _strong(value))
        good = good and (_strong(value) or quoted or value.isalpha() or value.isdigit())
        good = good and not (value.isalpha() and value[1:].islower() and " " in link and not quoted)
    else:
        good = quoted or (any(map(str.isdigit, value)) and not _HASHES.fullmatch(value))
        good = good and (_strong(value) or quoted or value.isdigit())
    return [(0, len(candidate) - len(parsed[3]) + len(value))] if good else []


_PLAIN_TEXT = (
    "required optional password passwords disabled enabled incorrect undefined username anonymous protected encrypted "
    "plaintext authentication string function constant"
)
_PLAIN = frozenset(_PLAIN_TEXT.split())


@lru_cache(maxsize=64)
def _secret(candidate: str) -> list[Span]:
    spans: list[Span] = []
    if token := _TOKEN.match(candidate):
        rest = candidate[token.end() :]
        if not rest:
            return [(0, len(candidate))]
        if re.match(_AWS_ID, candidate):
            spans = [(0, token.end())]
            spans += [m.span() for m in _AWS_SECRET.finditer(candidate, token.end()) if _strong(m[0])]
            return spans
    if re.match(r"bearer|basic|token", candidate, re.IGNORECASE) and " " in candidate:
        value = candidate.split(" ", 1)[1]
        if " " not in value and _strong(value) and any(map(str.isdigit, value)):
            return [(0, len(candidate))]
    return _labelled(candidate)


def without_punctuation(candidate: str) -> int:
    """Where a link ends and the sentence around it goes on."""
    return len(candidate.rstrip(".,;:!?)'*_"))


CREDENTIALS = (
    Detector(
        "url_credentials",
        r"[a-z][a-z0-9+]+://[^\s/@:\"']*:[^\s/@\"']+@[^\s\"'<>]+",
        lambda candidate: [(0, without_punctuation(candidate))],
        guard=ASCII_WORD,
        tail=r"[^\s\"'<>]+",
    ),
    Detector(
        "secret",
        "|".join(_TOKENS) + rf"|{_AWS_ID}(?:.|\n){{1,90}}[A-Za-z0-9/+]{{40}}|{_ASSIGNED}|{_SAID}|{_BEARER}",
        _secret,
        guard="0-9A-Za-z",
        tail=rf"{_KEY}+",
        again=True,
    ),
    Detector(
        "secret",
        r"-{4,5} ?BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)? ?-{4,5}|Private-Lines: [0-9]{1,3}",
        # What follows is its body: words with digits or of many letters, what stands around it, and its last line.
        tail=r"(?:\s|\\[nr])*(?:[A-Za-z]{1,15}(?:\s|\\[nr])+){0,2}(?:[A-Za-z]*[0-9+/=][A-Za-z0-9+/=]*|[A-Za-z0-9+/=]{16,})"
        r"|(?:\s|\\[nr])*(?:[A-Za-z]{1,76})?(?:\s|\\[nr])*-{4,5} ?END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)? ?-{4,5}"
        r"|(?:\s|\\[nr])*(?:Proc-Type|DEK-Info|Version|Comment): ?[^\n]{1,80}",
    ),
)
