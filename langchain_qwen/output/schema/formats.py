"""Regular expressions for `format`: only what pydantic, Python's own types and validators of JSON Schema all accept.

They are stricter than the standards (no February 30th, no second 60, no week in a duration, no address that is
reserved), since an answer has to be accepted by the very class that was asked for. Other formats are annotations.
"""

from __future__ import annotations

_YEAR = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_MONTH_AND_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_LEAP_DAY = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29"
_DATE = f"(?:{_YEAR}-{_MONTH_AND_DAY}|{_LEAP_DAY})"
_HOUR_AND_MINUTE = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_HOUR_AND_MINUTE}:[0-5][0-9](?:\.[0-9]{{1,6}})?(?:Z|[+-]{_HOUR_AND_MINUTE})"
# By RFC 3339, hours and seconds have minutes between them.
_SECONDS = "[0-9]{1,4}S"
_MINUTES = f"[0-9]{{1,4}}M(?:{_SECONDS})?"
_DURATION = f"P(?:[0-9]{{1,4}}D(?:T(?:[0-9]{{1,4}}H(?:{_MINUTES})?|{_MINUTES}|{_SECONDS}))?" + (
    f"|T(?:[0-9]{{1,4}}H(?:{_MINUTES})?|{_MINUTES}|{_SECONDS}))"
)
_LABEL = "[A-Za-z0-9]{1,15}(?:-[A-Za-z0-9]{1,15}){0,2}"  # without "--", which is for encoded names
_HOST = rf"(?:{_LABEL}\.){{1,3}}[A-Za-z]{{2,12}}"
_ATOM = "[A-Za-z0-9_+-]{1,20}"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
_GROUP = "[0-9a-fA-F]{1,4}"
_IPV6 = "(?:{})".format(
    "|".join(
        [
            f"{_GROUP}(?::{_GROUP}){{7}}",
            *(f"(?:{_GROUP}(?::{_GROUP}){{{n - 1}}})?::(?:{_GROUP}(?::{_GROUP}){{0,{6 - n}}})?" for n in range(1, 7)),
        ]
    )
)
_URI_CHARACTER = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})"
_URI = (
    rf"https?:\/\/{_HOST}(?::[1-9][0-9]{{1,3}})?(?:\/{_URI_CHARACTER}*)*"
    rf"(?:\?(?:{_URI_CHARACTER}|[\/?])*)?(?:#(?:{_URI_CHARACTER}|[\/?])*)?"
)
# Of ASCII text: pydantic has one format for bytes and for text, and text must be UTF-8.
_FIRST, _SECOND, _THIRD = "[A-Za-f]", "[A-HQ-Xg-nw-z0-3]", "[ABEFIJMNQRUVYZcdghklopstwx014589]"
_BASE64 = f"(?:{_FIRST}{_SECOND}{_THIRD}%s)*(?:{_FIRST}[AQgw]==|{_FIRST}{_SECOND}[AEIMQUYcgkosw048]=)?"
_REGEX = r"(?:[A-Za-z0-9 _,;:@%&=<>~-]|\\[dwsDWS.+*?()|]|\[\^?[A-Za-z0-9_]{1,20}\]|\.)(?:[*+?]|\{[1-9]\})?"
_HEX = "[0-9a-fA-F]"


def _uuid(version: str) -> str:
    return f"{_HEX}{{8}}-{_HEX}{{4}}-{version}{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}"


FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": _DURATION,
    "email": rf"{_ATOM}(?:\.{_ATOM}){{0,2}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "uri": _URI,
    "uuid": _uuid("[1-8]"),
    # Those of pydantic.
    **{f"uuid{version}": _uuid(str(version)) for version in range(1, 9)},
    "ipv4network": rf"{_IPV4}\/32",
    "ipv6network": rf"{_IPV6}\/128",
    "ipv4interface": rf"{_IPV4}\/(?:[12]?[0-9]|3[0-2])",
    "ipv6interface": rf"{_IPV6}\/(?:[1-9]?[0-9]|1[01][0-9]|12[0-8])",
    "ipvanyaddress": _IPV4,
    "ipvanynetwork": rf"{_IPV4}\/32",
    "ipvanyinterface": rf"{_IPV4}\/(?:[12]?[0-9]|3[0-2])",
    "base64": _BASE64 % r"[A-Za-z0-9+\/]",
    "base64url": _BASE64 % "[A-Za-z0-9_-]",
    "regex": rf"\^?(?:{_REGEX})*\$?",
    "fraction": r"-?(?:0|[1-9][0-9]{0,17})\/[1-9][0-9]{0,17}",
}
# What formats must not match: hosts that nobody can receive mail at are refused by validators.
FORBIDDEN = {"email": r"(?s:.*)\.(?i:arpa|invalid|local|localhost|onion|test)"}
