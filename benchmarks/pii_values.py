"""Made-up values of personal data and secrets, with check digits computed here, not by what finds them.

Every value is a function of a random generator, so that a seed gives the same set everywhere. Nobody owns them:
check digits are right, but the numbers are random.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from random import Random

Value = Callable[[Random], str]

_UPPER, _LOWER, _DIGITS = string.ascii_uppercase, string.ascii_lowercase, string.digits
_ALNUM = _UPPER + _LOWER + _DIGITS
_HEX = "0123456789abcdef"
_NAMES_TEXT = "anna ben carla dmitri elena farid grace hiroshi ines jonas kim lucia mehmet nora oskar priya"
_HOSTS_TEXT = (
    "lindenhof.de quayside.co.uk monteverde.it sakura-mail.jp norrland.se atelier-bleu.fr cedarpoint.org plaza.es"
)
_NAMES, _HOSTS = _NAMES_TEXT.split(), _HOSTS_TEXT.split()


def pick(rng: Random, letters: str, count: int) -> str:
    """So many random letters."""
    return "".join(rng.choice(letters) for _ in range(count))


def mixed(rng: Random, count: int, letters: str = _ALNUM) -> str:
    """Random letters as keys have them: with both cases and digits."""
    return "a7" + pick(rng, letters, count - 3) + "Q"


def luhn_digit(digits: str) -> str:
    """ISO/IEC 7812-1, annex B."""
    doubled = [int(d) * (2 if i % 2 == 0 else 1) for i, d in enumerate(reversed(digits))]
    return str(-sum(d - 9 if d > 9 else d for d in doubled) % 10)


def verhoeff_digit(digits: str) -> str:
    """Verhoeff 1969, from the dihedral group of order 10."""

    def times(a: int, b: int) -> int:
        if a < 5:
            return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
        return 5 + (a - b) % 5 if b < 5 else (a - b) % 5

    shuffle, total = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4], 0
    for place, digit in enumerate(reversed(digits), start=1):
        value = int(digit)
        for _ in range(place % 8):
            value = shuffle[value]
        total = times(total, value)
    return next(str(d) for d in range(10) if times(total, d) == 0)


def grouped(digits: str, *sizes: int, by: str = " ") -> str:
    """Digits in groups."""
    parts, at = [], 0
    for size in sizes:
        parts.append(digits[at : at + size])
        at += size
    return by.join(parts)


def email(rng: Random) -> str:
    """name.number@host."""
    by, number = rng.choice([".", "_", "-", ""]), rng.randrange(90) or ""
    return f"{rng.choice(_NAMES)}{by}{rng.choice(_NAMES)}{number}@{rng.choice(_HOSTS)}"


def hidden_email(rng: Random) -> str:
    """As people write it for people only."""
    name, (host, _, ending) = rng.choice(_NAMES), "harbourlight.com".partition(".")
    forms = [
        " ".join(f"{name}@{host}.{ending}"),
        f"{name} [at] {host} [dot] {ending}",
        f"{name} @ {host} . {ending}",
        f"{name} at {host} dot {ending}",
        f"{name}&#64;{host}.{ending}",
        f"{name}%40{host}.{ending}",
        f"{name}@**{host}**.{ending}",
        f"{name}@<b>{host}</b>.{ending}",
        "".join(chr(0x1D4EA + ord(c) - 97) if c.isalpha() else c for c in f"{name}@{host}.{ending}"),
        "\u200b".join(f"{name}@{host}.{ending}"),
    ]
    return rng.choice(forms)


def unusual_email(rng: Random) -> str:
    """With long, quoted or not Latin local parts."""
    name = rng.choice(_NAMES)
    forms = [
        f'"{name} {rng.choice(_NAMES)}"',
        "x" * 70 + name,
        "анна",
        "jörg.müller",
        "ελένη",
        f"{name}+tag.{rng.randrange(99)}",
    ]
    return f"{rng.choice(forms)}@{rng.choice(_HOSTS)}"


def foreign_phone(rng: Random) -> str:
    """With a country code."""
    digits = pick(rng, _DIGITS, 6)
    return rng.choice(
        [
            f"+49 30 {digits}",
            f"+44 20 7946 {digits[:4]}",
            f"+1 415-555-{digits[:4]}",
            f"+33 6 {grouped(digits + '12', 2, 2, 2, 2)}",
            f"+39 06 {digits}12",
            f"+34-91-{digits}1",
            f"+91 98765 {digits[:5]}",
        ]
    )


def dialled_phone(rng: Random) -> str:
    """With 00 before the country code."""
    return "00" + foreign_phone(rng)[1:]


def national_phone(rng: Random) -> str:
    """Without a country."""
    digits = pick(rng, "23456789", 7)
    return rng.choice(
        [
            f"(415) {digits[:3]}-{digits[3:]}",
            f"212-{digits[:3]}-{digits[3:]}",
            f"020 7946 {digits[:4]}",
            f"06 {grouped(digits + '1', 2, 2, 2, 2)}",
            f"0151 {digits[:4]} {digits[3:]}",
            f"030/{digits}",
        ]
    )


def card_digits(rng: Random) -> str:
    """A number of one of the networks."""
    start, length = rng.choice(
        [("4", 16), ("51", 16), ("2221", 16), ("37", 15), ("6011", 16), ("36", 14), ("3530", 16)]
    )
    body = start + pick(rng, _DIGITS, length - len(start) - 1)
    return body + luhn_digit(body)


def card(rng: Random) -> str:
    """Plain, in fours, or as American Express groups."""
    digits = card_digits(rng)
    sizes = (4, 6, len(digits) - 10) if len(digits) < 16 else (4, 4, 4, 4)
    return rng.choice([digits, grouped(digits, *sizes), grouped(digits, *sizes, by="-")])


def hidden_card(rng: Random) -> str:
    """Separators that tables have, marks, other digits."""
    body = "4" + pick(rng, _DIGITS, 14)
    digits = body + luhn_digit(body)
    wide = "".join(chr(0xFF10 + int(d)) for d in digits)
    return rng.choice(
        [
            *(grouped(digits, 4, 4, 4, 4, by=by) for by in ("\n", "_", "/", " \n", "\u200b", "**")),
            wide,
            " ".join(digits),
            ".".join(digits),
        ]
    )


def iban(rng: Random) -> str:
    """ISO 13616."""
    country, bank, count = rng.choice(
        [("DE", "", 18), ("GB", "WEST", 14), ("NL", "INGB", 10), ("AT", "", 16), ("CH", "", 17)]
    )
    number = bank + pick(rng, _DIGITS, count)
    value = int("".join(str(int(c, 36)) for c in f"{number}{country}00"))
    full = f"{country}{98 - value % 97:02d}{number}"
    return rng.choice([full, " ".join(full[i : i + 4] for i in range(0, len(full), 4))])


def ssn_digits(rng: Random) -> str:
    """A social security number of the US that could be valid."""
    area = rng.choice([n for n in range(1, 900) if n != 666])
    return f"{area:03d}{rng.randrange(1, 100):02d}{rng.randrange(1, 10000):04d}"


def nino(rng: Random) -> str:
    """HMRC's NIM39110."""
    text = f"{rng.choice(['AB', 'JG', 'PW', 'SX', 'CE', 'YZ'])}{pick(rng, _DIGITS, 6)}{rng.choice('ABCD')}"
    return rng.choice([text, grouped(text, 2, 2, 2, 2, 1)])


def aadhaar_digits(rng: Random) -> str:
    """UIDAI's twelve digits."""
    body = pick(rng, "23456789", 1) + pick(rng, _DIGITS, 10)
    return body + verhoeff_digit(body)


def dni(rng: Random) -> str:
    """Spain: the remainder of 23 gives the letter."""
    number = rng.randrange(10_000_000, 99_999_999)
    return f"{number}{rng.choice(['', '-'])}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def codice_fiscale(rng: Random) -> str:
    """Italy: DM 23/12/1976."""
    consonants = "BCDFGLMNPRSTV"
    born = f"{rng.randrange(40, 99)}{rng.choice('ABCDEHLMPRST')}{rng.randrange(10, 28)}"
    body = f"{pick(rng, consonants, 6)}{born}{rng.choice('AFHL')}{rng.randrange(100, 999)}"
    odd = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23]
    places = [int(c) if c.isdigit() else ord(c) - 65 for c in body]
    return body + chr(65 + sum(odd[p] if i % 2 == 0 else p for i, p in enumerate(places)) % 26)


def nir(rng: Random) -> str:
    """France: 97 minus the remainder."""
    born = f"{rng.choice('12')}{rng.randrange(40, 99)}{rng.randrange(1, 13):02d}"
    body = f"{born}{rng.randrange(1, 20):02d}{pick(rng, '123456789', 6)}"
    full = f"{body}{97 - int(body) % 97:02d}"
    return rng.choice([full, grouped(full, 1, 2, 2, 2, 3, 3, 2)])


def resident_id(rng: Random) -> str:
    """China: GB 11643-1999."""
    body = (
        f"110105{rng.randrange(1950, 2005)}{rng.randrange(1, 13):02d}{rng.randrange(1, 28):02d}{pick(rng, _DIGITS, 3)}"
    )
    return body + "10X98765432"[sum(int(d) * 2 ** (17 - i) for i, d in enumerate(body)) % 11]


def cpf(rng: Random) -> str:
    """Brazil: two check digits of modulus 11."""
    digits = pick(rng, _DIGITS, 9)
    for _ in range(2):
        rest = sum(int(d) * w for d, w in zip(digits, range(len(digits) + 1, 1, -1), strict=True)) % 11
        digits += str(0 if rest < 2 else 11 - rest)
    return f"{digits[:3]}.{digits[3:6]}.{digits[6:9]}-{digits[9:]}"


def nhs_digits(rng: Random) -> str:
    """England: modulus 11, never 10."""
    while True:
        body = pick(rng, "456789", 1) + pick(rng, _DIGITS, 8)
        check = -sum(int(d) * w for d, w in zip(body, range(10, 1, -1), strict=True)) % 11
        if check < 10:
            return body + str(check)


def pan(rng: Random) -> str:
    """India: the fourth letter names the kind of holder."""
    holder, number = rng.choice("PCHFAT"), rng.randrange(1, 9999)
    return f"{pick(rng, _UPPER, 3)}{holder}{pick(rng, _UPPER, 1)}{number:04d}{pick(rng, _UPPER, 1)}"


def passport(rng: Random) -> str:
    """Of several countries' forms."""
    return rng.choice(
        [
            pick(rng, "123456789", 9),
            f"C{pick(rng, '123456789', 8)}",
            f"AB{pick(rng, '123456789', 7)}",
            f"C01X{pick(rng, '0123456789', 5)}",
        ]
    )


def ipv4(rng: Random) -> str:
    """Four numbers."""
    return ".".join(str(rng.randrange(11, 254)) for _ in range(4))


def ipv6(rng: Random) -> str:
    """Eight groups, or with a gap."""
    groups = [pick(rng, _HEX, 4) for _ in range(8)]
    return rng.choice([":".join(groups), f"2001:db8::{groups[0]}", f"fe80::{groups[1]}:{groups[2]}"])


def jwt(rng: Random) -> str:
    """Three parts."""
    return f"eyJhbGciOiJIUzI1NiJ9.eyJ{mixed(rng, 40)}.{mixed(rng, 43)}"


def private_key(rng: Random) -> str:
    """PEM, RFC 7468."""
    kind = rng.choice(["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
    lines = "\n".join(mixed(rng, 64) for _ in range(4))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n{mixed(rng, 30)}==\n-----END {kind}PRIVATE KEY-----"


def password(rng: Random) -> str:
    """A word with digits or signs."""
    return f"{rng.choice(_NAMES).capitalize()}{rng.choice('!#%+')}{rng.randrange(1000, 9999)}"
