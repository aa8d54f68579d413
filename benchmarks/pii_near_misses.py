"""Texts that look like personal data and are none: order numbers, versions, hashes, dates, code, tables, prose."""

from __future__ import annotations

from random import Random

_ADDRESSES = (
    "Meet me @ home at 7, or @work. Tickets @ 5 euros each.",
    "@app.route('/users')\ndef users(): return repo@HEAD",
    "import numpy as np\ny = x @ w.weight + b\nz = a@b.T",
    "npm install lodash@4.17.21 react@18.2.0 --save",
    "Look at example dot com for more, it is online at example.com.",
    "He looked at her. Then dot by dot the picture grew.",
    "git checkout HEAD@{2} && git log main@{upstream}",
    "user@1.2 is not an address, nor is a@b or @c.d.",
    "Follow @anna_b and @ben.c on the usual sites.",
    "The price is 3 @ 4.50, that makes 13.50.",
    "Wir treffen uns um 8 @ Rathaus. Danach gibt es Kuchen.",
    "On est allé au café. Com toda a certeza.",
    "The decorators @property and @staticmethod. Java has @Override.",
    "SELECT @@version; SET @x = 5.0;",
    "См. раздел 4. Com-порт не работает @ 9600 бод.",
    "参见第4节 @ 北京。谢谢。",
    "Stocks at 10.5 dot on the chart at noon. com",
    "docker pull alpine@sha256:9f86d081884c7d659a2feaa0c55ad015",
    "We arrived at home. It was late at night. No dot to be seen.",
    "kim [at] the market [dot]",
)
_NUMBERS = (
    "Order 2024-11-30-0042 shipped on 2024-12-01 at 10:30.",
    "Version 1.22.333 replaces 1.22.332-rc1 (build 20240517).",
    "sha1: da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "ISBN 978-3-16-148410-0 and ISSN 2049-3630",
    "48.137154, 11.576124 is in Munich; 52.520008, 13.404954 in Berlin.",
    "x = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233]",
    "| 2019 | 120 | 34.5 |\n| 2020 | 131 | 36.1 |\n| 2021 | 140 | 37.0 |",
    "pi is 3.14159265358979323846264338327950288",
    "0x7fff5fbff8a0 0xdeadbeef 0b101010",
    "The population was 1,234,567 in 1990 and 2 345 678 in 2020.",
)
_CODE = (
    "password = getpass.getpass()",
    "The password is incorrect. A password is required.",
    "secret = os.environ['SECRET_KEY']",
    "api_key=settings.api_key, token=self.token",
    "password: str = Field(min_length=12)",
    '<input type="password" name="password" required>',
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b fixes the parser",
    "uuid 123e4567-e89b-12d3-a456-426614174000",
    "password=${DB_PASSWORD} secret={{ vault.secret }} token=<your-token>",
    "sk-learn is a nickname of scikit-learn; see sk-learn-contrib.",
    "The bearer of this letter may enter. Bearer bonds are rare.",
    "-----BEGIN CERTIFICATE-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----",
    "Passwords are hashed with argon2id; the password is sha256-hashed there.",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4",
    "Das Passwort: bitte nicht weitergeben. Das Kennwort ist geheim.",
    "token = tokenizer.encode(text)[0]\npassword = input('Password: ')",
    "Set `password: null` and `secret: false`, or leave them out.",
    "ghp_ is the prefix of GitHub's tokens, hf_ that of Hugging Face's, AKIA that of Amazon's.",
)
_LINKS = (
    "https://lindenhof.de/a/b?c=d#e and http://localhost:8080/path",
    "postgres://db.lindenhof.de:5432/app",
    "git@github.com:owner/project.git",
    "std::vector<int> a; Foo::bar(); see https://en.cppreference.com/w/cpp:17",
    "ssh://git@host.org/repo.git without a password",
    "http://[::1]:8080/ and ftp://files.org",
    "s3://bucket/key:version, gs://bucket/a:b",
    "mailto:team, tel:, https://x.org/@anna/posts:2",
    "proto://a:b without a host; https://a.b/c:d@2x.png is an image",
    "docker://registry.org/image:tag",
)
_IPS = (
    "999.1.1.1 and 12:30:45 and 1.2.3",
    "Version 1.22.333.4444 of the library, then 300.200.100.500",
    "At 10:30:45 the MAC 00:1b:44:11:3a:b7 appeared.",
    "std::string s = a::b::c; ::new (p) T;",
    "ratio 16:9:4, verse 3:16:20",
    "1.2.3.4.5 is an OID, 2.5.4.3.1.9 another",
    "a[1:2:3], x[::2], y[1::]",
    "from 12.10.2024 to 13.10.2024",
    "file:line:column is main.c:10:20",
    "Dauer 01:02:03:04, score 6:4 6:3",
)
_NAMED = (
    "My social security office is at 200 Main Street, room 1204.",
    "SSN is short for social security number; it has 9 digits.",
    "The passport office opens at 9 and closes at 17, phone ext. 4411.",
    "A passport costs 130 dollars in 2024.",
    "The NHS treated 1,300,000 people in 36 hours in 2019-2020.",
    "Aadhaar has 12 digits and was launched in 2009.",
    "NI 2024 figures: 1 204 332 households.",
    "Your tax id will arrive in 14 days, room 30.",
)
NEAR_MISSES: dict[str, tuple[str, ...]] = {
    "email": _ADDRESSES,
    "phone": _NUMBERS,
    "credit_card": _NUMBERS,
    "iban": (
        *_NUMBERS[:6],
        "AB12 is a room, CD34 EF56 a locker",
        "DE89 is the start of an IBAN",
        "GB82 WEST 1234 5698 7654 33",
    ),
    "national_id": (*_NAMED[:2], *_NAMED[4:], *_NUMBERS[:8]),
    "passport": (
        *_NAMED[2:4],
        *_NUMBERS,
        "Passport control, gate B22, flight LH123",
        "passport.js version 0.7.0 passport-local",
        "passports: see page 11, line 4",
        "Reisepass beantragen kostet 70 Euro",
    ),
    "ip_address": (*_IPS, *_NUMBERS),
    "url_credentials": (*_LINKS, *_IPS),
    "secret": _CODE,
}


def near_numbers(detector: str, rng: Random) -> str:
    """A number with the form of one, and with what makes it none."""
    digits = "".join(rng.choice("0123456789") for _ in range(16))
    if detector == "phone":
        form = rng.choice(["order {0:.7}", "12-{0:.3}-{1:.2}", "{0:.4}.{1:.3}", "ID{0:.12}X", "{0:.2}/{1:.2}"])
    elif detector == "credit_card":  # no network's beginning, or a wrong length
        form = rng.choice(["order 1{0:.15}", "0{0:.3} {0:.4} {1:.4} {0:.4}", "9{0:.15}", "ref {0:.8}", "build-{0:.10}"])
    elif detector == "iban":
        form = rng.choice(["ZZ12 {0:.4} {1:.4} {0:.4}", "DE00{0:.16}{1:.2}", "XX{0:.16}"])
    else:  # areas and letters that are not given out
        form = rng.choice(
            [
                "000-{0:.2}-{1:.4}",
                "666-{0:.2}-{1:.4}",
                "{0:.3}-00-{1:.4}",
                "BG{0:.6}A",
                "QQ {0:.2} {1:.2} {0:.2} C",
                "part {0:.9}",
                "{0:.12}",
                "1{0:.3} {1:.4} {0:.4}",
            ]
        )
    return form.format(digits, digits[::-1])
