"""A set of our own for detectors of personal data: 42 kinds, each 20 texts with one and 20 that only look like it.

Values are made by `pii_values`; sentences and near misses are written by hand. Every third sentence is `aside`: it was
not looked at while the detectors were tuned, and its figures are reported apart.
"""

from __future__ import annotations

import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from benchmarks import pii_values as values
from benchmarks.pii_near_misses import NEAR_MISSES, near_numbers
from benchmarks.pii_values import Value, grouped, mixed, pick
from langchain_qwen.safety.personal_data import PERSONAL_DATA
from langchain_qwen.safety.scanning import TextScanner

EACH = 20
_PLAIN = (
    "Please note: {}.",
    "{}",
    "The record says {}, as of last week.",
    "Bitte prüfen Sie {} noch einmal.",
    "Voici ce que j'ai reçu : {} — merci.",
    "He sent it in a text message ({}) and left.",
    "- first: {}\n- second: none",
    "Mi dato es {} y no cambia.",
    "| field | value |\n|---|---|\n| entry | {} |",
    "Ho scritto {} sul modulo.",
    "Вот данные: {}.",
    "记录：{}。",
    "That is **{}**, isn't it?",
    "Usei {} ontem.",
    'They wrote "{}" on the form.',
    "Dit is {} van gisteren.",
    "Jag fick {} i morse.",
    "Use {} for the booking; nothing else is needed.",
    "データは {} です。",
    "<p>{}</p>",
    "value={}",
    "To: {}; thanks!",
    "We know {} from the old system.",
    "Moje dane to {}, dziękuję.",
)


def _named(*names: str) -> tuple[str, ...]:
    forms = (
        "{} {{}}",
        "{}: {{}}",
        "My {} is {{}}.",
        "{} = {{}}",
        "({} {{}})",
        "{} no. {{}}",
        "The {} number {{}} is on file.",
        "{}:\n{{}}",
    )
    return tuple(form.format(name) for form in forms for name in names)


@dataclass(frozen=True)
class Kind:
    """What is to be found, by which detector, in which sentences."""

    name: str
    detector: str
    value: Value
    sentences: tuple[str, ...] = _PLAIN


def _token(form: str, letters: str = string.ascii_letters + string.digits) -> Value:
    """A key's form: each <n> stands for n random characters."""

    def make(rng: Random) -> str:
        parts = form.split("<")
        return parts[0] + "".join(
            mixed(rng, int(part.split(">")[0]), letters) + part.split(">")[1] for part in parts[1:]
        )

    return make


def _hex(form: str) -> Value:
    return lambda rng: "".join(pick(rng, "0123456789abcdef", 1) if c == "?" else c for c in form)


def _any(*makers: Value) -> Value:
    return lambda rng: rng.choice(makers)(rng)


KINDS = (
    Kind("email", "email", values.email),
    Kind("email_hidden", "email", values.hidden_email, tuple(s for s in _PLAIN if s.isascii() and "|" not in s)),
    Kind("email_unusual", "email", values.unusual_email),
    Kind("phone_foreign", "phone", values.foreign_phone),
    Kind("phone_dialled", "phone", values.dialled_phone),
    Kind("phone_national", "phone", values.national_phone),
    Kind("card", "credit_card", values.card),
    Kind("card_hidden", "credit_card", values.hidden_card),
    Kind("iban", "iban", values.iban),
    Kind("us_ssn", "national_id", lambda rng: grouped(values.ssn_digits(rng), 3, 2, 4, by=rng.choice("- "))),
    Kind("us_ssn_named", "national_id", values.ssn_digits, _named("SSN", "social security")),
    Kind("uk_nino", "national_id", values.nino),
    Kind("aadhaar", "national_id", lambda rng: grouped(values.aadhaar_digits(rng), 4, 4, 4)),
    Kind("aadhaar_named", "national_id", values.aadhaar_digits, _named("Aadhaar", "UIDAI")),
    Kind("nhs_named", "national_id", lambda rng: grouped(values.nhs_digits(rng), 3, 3, 4), _named("NHS")),
    Kind("passport_named", "passport", values.passport, _named("passport", "Reisepass", "passeport", "pasaporte")),
    Kind("es_dni", "national_id", values.dni),
    Kind("it_codice_fiscale", "national_id", values.codice_fiscale),
    Kind("fr_nir", "national_id", values.nir),
    Kind("cn_resident_id", "national_id", values.resident_id),
    Kind("br_cpf", "national_id", values.cpf),
    Kind("in_pan", "national_id", values.pan),
    Kind("ipv4", "ip_address", values.ipv4),
    Kind("ipv6", "ip_address", values.ipv6),
    Kind(
        "url_credentials",
        "url_credentials",
        lambda rng: f"{rng.choice(['https', 'postgres', 'redis', 'amqp'])}://app:{mixed(rng, 12)}@db.lindenhof.de/x",
    ),
    Kind(
        "aws_id", "secret", lambda rng: rng.choice(["AKIA", "ASIA"]) + pick(rng, string.ascii_uppercase + "234567", 16)
    ),
    Kind(
        "aws_secret",
        "secret",
        lambda rng: mixed(rng, 40),
        tuple(
            f"AKIAQWERTYUIOPASDFGH{by}{{}}{end}"
            for end in ("", ".", " ok", "\n")
            for by in (" ", ", ", "\n", " / ", " secret: ")
        ),
    ),
    Kind("github", "secret", _any(_token("ghp_<36>"), _token("gho_<36>"), _token("github_pat_<82>"))),
    Kind("gitlab", "secret", _any(_token("glpat-<20>"), _token("gldt-<20>"))),
    Kind("openai", "secret", _any(_token("sk-<48>"), _token("sk-proj-<120>"), _token("sk-svcacct-<80>"))),
    Kind("anthropic", "secret", _token("sk-ant-api03-<93>AA")),
    Kind("stripe", "secret", _any(_token("sk_live_<24>"), _token("rk_test_<24>"), _token("whsec_<32>"))),
    Kind("google", "secret", _any(_token("AIza<35>"), _token("GOCSPX-<28>"), _token("ya29.<60>"))),
    Kind(
        "slack",
        "secret",
        _any(_token("xoxb-123456789012-<24>"), _token("https://hooks.slack.com/services/T01/B02/<24>")),
    ),
    Kind("huggingface", "secret", _token("hf_<34>")),
    Kind(
        "packages", "secret", _any(_token("npm_<36>"), _token("pypi-AgEIcHlwaS5vcmc<70>"), _hex("rubygems_" + "?" * 48))
    ),
    Kind("azure", "secret", _any(_token("AccountKey=<86>=="), _token("a1b8Q~<34>"))),
    Kind(
        "services",
        "secret",
        _any(
            _token("SG.<22>.<43>"),
            _hex("dapi" + "?" * 32),
            _hex("shpat_" + "?" * 32),
            _token("dckr_pat_<27>"),
            _hex("dop_v1_" + "?" * 64),
        ),
    ),
    Kind("jwt", "secret", values.jwt),
    Kind("private_key", "secret", values.private_key),
    Kind("bearer", "secret", lambda rng: f"Bearer {mixed(rng, 40)}"),
    Kind(
        "password",
        "secret",
        values.password,
        tuple(
            f"{w}{s}{{}}{e}"
            for e in ("", " ok", "\nnext")
            for w, s in (
                ("password", "="),
                ("Password", ": "),
                ("the password is", " "),
                ("db_password", " = "),
                ("Passwort", ": "),
                ("mot de passe", " : "),
                ("passwd", ":"),
                ("contraseña", ": "),
            )
        ),
    ),
)


@dataclass(frozen=True)
class Case:
    """A text, and where in it the value stands; None where there is none."""

    kind: Kind
    text: str
    span: tuple[int, int] | None
    aside: bool = False


def cases(seed: int = 13) -> Iterator[Case]:
    """The whole set."""
    for kind in KINDS:
        rng = Random(f"{seed} {kind.name}")
        for number in range(EACH):
            sentence, value = kind.sentences[number % len(kind.sentences)], kind.value(rng)
            at = sentence.index("{}")
            yield Case(kind, sentence.replace("{}", value), (at, at + len(value)), number % 3 == 2)
        near = list(NEAR_MISSES[kind.detector])
        near += [near_numbers(kind.detector, rng) for _ in range(EACH - len(near))]
        for number, text in enumerate(near[:EACH]):
            yield Case(kind, text, None, number % 3 == 2)


def finder(detector: str) -> Callable[[str], list[tuple[int, int]]]:
    """What a shipped detector finds in a text."""
    detectors = [d for d in PERSONAL_DATA if d.name == detector]
    return lambda text: [(m.start, m.end) for _, m in TextScanner(detectors).feed(text, final=True)]


@dataclass(frozen=True)
class Figures:
    """The share found whole, the share of right finds, and the shares found of those tuned on and set aside."""

    recall: float
    precision: float
    tuned: float
    aside: float


def measure_kinds(seed: int = 13) -> dict[str, Figures]:
    """Recall and precision of each kind. What is found has to cover the value; any find in a near miss is wrong."""
    finders = {kind.detector: finder(kind.detector) for kind in KINDS}
    right: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    wrong: Counter[str] = Counter()
    for case in cases(seed):
        found = finders[case.kind.detector](case.text)
        if case.span is None:
            wrong[case.kind.name] += bool(found)
            continue
        covered = {place for start, end in found for place in range(start, end)}
        right[case.kind.name, case.aside].append(covered.issuperset(range(*case.span)))
    figures = {}
    for name in (kind.name for kind in KINDS):
        tuned, aside = right[name, False], right[name, True]
        hits = sum(aside) + sum(tuned)
        precision = hits / (hits + wrong[name]) if hits else 0.0
        shares = (hits / EACH, precision, sum(tuned) / len(tuned), sum(aside) / len(aside))
        figures[name] = Figures(*(round(share, 4) for share in shares))
    return figures
