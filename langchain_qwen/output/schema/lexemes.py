"""Lark definitions for scalars: JSON strings and numbers with their constraints."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

from llguidance import LLMatcher, LLTokenizer

from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.schema.numbers import decimals, integers
from langchain_qwen.output.schema.patterns import translate, translate_forbidden
from langchain_qwen.output.schema.shapes import Number, String

# Without \uXXXX, so that a string has one spelling only: a name that is taken could be written again with another.
_ESCAPES = 'nrbtf\\"'
_PLAIN = r'[^"\\\x00-\x1F\x7F]'
_MULTIPLES_BELOW = 10**15
_MAX_LISTED = 1000
_LARGEST_STEP = 10_000

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
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# Stricter than llguidance's own: what pydantic and Python's datetime accept too (no February 30th, no second 60).
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "email": rf"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@(?:{_LABEL}\.)+[A-Za-z]{{2,24}}",
}
_FORMATS_OF_LLGUIDANCE = ("duration", "hostname", "ipv4", "ipv6", "uuid", "uri")


@dataclass(frozen=True, slots=True)
class Lexeme:
    """The right-hand side of a Lark definition: of a terminal, or else of a rule."""

    body: str
    terminal: bool = True


def literal(text: str) -> str:
    """A Lark string literal."""
    return json.dumps(text)


def json_text(value: object) -> str:
    """JSON as it is written everywhere here: json.dumps with its default separators, and readable Unicode."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(value)
    return text


ANY_STRING = Lexeme(rf'/"(?:{_PLAIN}|\\["\\bfnrt])*"/')


@lru_cache(maxsize=1024)
def string(shape: String) -> Lexeme | None:
    """The strings of a shape; None where there are none.

    Formats are annotations: one that does not go with the rest is left out.

    Raises:
        InvalidSchemaError: For a pattern that cannot be enforced.
    """
    if shape == String():
        return ANY_STRING
    if shape.values is not None:
        return _listed(shape.values)
    if shape.formats:
        lexeme = _possible(_constrained(shape))
        return lexeme or string(replace(shape, formats=()))
    return _possible(_constrained(shape))


@lru_cache(maxsize=1024)
def number(shape: Number) -> Lexeme | None:
    """The numbers of a shape; None where there are none that can be written.

    Raises:
        InvalidSchemaError: For a `multipleOf` that cannot be enforced.
    """
    if shape.values is not None:
        # 1 and 1.0 are the same value, but to draft 4 only the first is an integer.
        return _listed(int(value) if value == int(value) and abs(value) < 2**53 else value for value in shape.values)
    if shape.multiple_of is not None:
        return _multiples(shape, shape.multiple_of)
    if shape.integer:
        low = None if shape.low is None else ceil(shape.low)
        pattern = integers(low, None if shape.high is None else floor(shape.high))
    else:
        pattern = decimals(shape.low, shape.high)
    return None if pattern is None else Lexeme(f"/{pattern}/")


@lru_cache(maxsize=256)
def distinct(shape: String | Number) -> tuple[Lexeme, ...]:
    """Lexemes none of which can write a value that another one can write: one for each listed value, or up to 64.

    An array with one item of each at most has no item twice. For strings they differ in the kind of the first character
    and in the length modulo 4, for numbers in the last digit before the point and in the count of such digits.
    """
    lexemes: Iterable[Lexeme | None]
    if isinstance(shape, String) and shape.values is not None:
        lexemes = [string(String(values=(value,))) for value in shape.values]
    elif isinstance(shape, Number) and shape.values is not None:
        lexemes = [number(Number(values=(value,))) for value in shape.values]
    elif isinstance(shape, String):
        kinds = [f"[{kind}]{_PLAIN}{{{rest}}}(?:{_PLAIN}{{4}})*" for kind in _FIRST_CHARACTERS for rest in range(4)]
        lexemes = [_possible(_plain_text(shape, kind)) for kind in kinds]
    else:
        everything = number(shape)
        if everything is None or not everything.terminal:
            return ()
        kinds = [rf"-?(?:[0-9]{{6}})*[0-9]{{{rest}}}{last}(?:\.[0-9]+)?" for last in range(10) for rest in range(6)]
        lexemes = [_possible(Lexeme(f"{everything.body} & /{kind}/")) for kind in kinds]
    return tuple(lexeme for lexeme in lexemes if lexeme is not None)


_FIRST_CHARACTERS = (
    *("ABab", "CDcd", "E-Ge-g", "H-Kh-k", "LMlm", "N-Pn-p", "QRqr", "Ss", "T-Zt-z", "0-4", "5-9"),
    *(r"\x{4E00}-\x{5FFF}", r"\x{6000}-\x{73FF}", r"\x{7400}-\x{87FF}", r"\x{8800}-\x{9FFF}"),
    r'^"\\\x00-\x1F\x7FA-Za-z0-9\x{4E00}-\x{9FFF}',
)


def _listed(values: Iterable[object]) -> Lexeme:
    return Lexeme(" | ".join(literal(json_text(value)) for value in values))


def _constrained(shape: String) -> Lexeme:
    translations = [translate(pattern) for pattern in shape.patterns]
    if shape.excluded or shape.forbidden_patterns or any(translation.forbidden for translation in translations):
        return _plain_text(shape)
    required = [pattern for translation in translations for pattern in translation.required]
    limits: dict[str, object] = {"minLength": shape.min_length}
    if shape.max_length is not None:
        limits["maxLength"] = shape.max_length
    parts: list[object] = [{"pattern": f"^(?:{p})$"} for p in required + _patterns_of_formats(shape)]
    parts += [{"format": name} for name in shape.formats if name in _FORMATS_OF_LLGUIDANCE]
    options = {"json_allowed_escapes": _ESCAPES}
    schema = {"type": "string", **limits, "allOf": parts, "x-guidance": options}
    return Lexeme(f"%json {json.dumps(schema)}", terminal=False)


def _plain_text(shape: String, kind: str | None = None) -> Lexeme:
    """Strings that need no escapes; these can be intersected and excluded freely."""
    translations = [translate(pattern) for pattern in shape.patterns]
    required = [pattern for translation in translations for pattern in translation.required]
    length = f"{{{shape.min_length},{'' if shape.max_length is None else shape.max_length}}}"
    required += [f"{_PLAIN}{length}", *_patterns_of_formats(shape), *([] if kind is None else [kind])]
    forbidden = [f"/{pattern}/" for translation in translations for pattern in translation.forbidden]
    forbidden += [f"/{translate_forbidden(pattern)}/" for pattern in shape.forbidden_patterns]
    forbidden += [literal(value) for value in shape.excluded]
    conditions = [f"/{pattern}/" for pattern in required] + ([f"~({' | '.join(forbidden)})"] if forbidden else [])
    quote = literal('"')
    return Lexeme(f"{quote} ({' & '.join(conditions)}) {quote}")


def _patterns_of_formats(shape: String) -> list[str]:
    return [_FORMATS[name] for name in shape.formats if name in _FORMATS]


def _multiples(shape: Number, multiple_of: Fraction) -> Lexeme | None:
    """A few multiples are listed; so are those next to zero where the step is too large for an automaton."""
    # For integers, the smallest whole multiple of a reduced fraction.
    step = Fraction(multiple_of.numerator) if shape.integer else multiple_of
    low, high = -_MULTIPLES_BELOW / step, _MULTIPLES_BELOW / step
    first = ceil(low if shape.low is None else max(low, Fraction(shape.low) / step))
    last = floor(high if shape.high is None else min(high, Fraction(shape.high) / step))
    if last - first >= _MAX_LISTED and multiple_of.denominator & (multiple_of.denominator - 1):
        raise InvalidSchemaError(
            f"multipleOf {float(multiple_of)} cannot be enforced: floats are no exact multiples of it; "
            "count in whole units of it (an integer), or leave it out"
        )
    if step.numerator > _LARGEST_STEP:
        first = max(first, min(last, _MAX_LISTED // 2) - _MAX_LISTED)
        last = min(last, first + _MAX_LISTED)
    if last - first <= _MAX_LISTED:
        values = [_as_number(count * step) for count in range(first, last + 1)]
        values = [value for value in values if shape.accepts(value)]
        return _listed(values) if values else None
    schema = {
        "type": "integer" if shape.integer else "number",
        "multipleOf": _as_number(step),
        "minimum": _as_number(first * step),
        "maximum": _as_number(last * step),
    }
    return _possible(Lexeme(f"%json {json.dumps(schema)}", terminal=False))


def _as_number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)


def _possible(lexeme: Lexeme) -> Lexeme | None:
    """The lexeme, unless no text matches it."""
    grammar = f"start: LEXEME\nLEXEME: {lexeme.body}" if lexeme.terminal else f"start: {lexeme.body}"
    matcher = LLMatcher(_bytes(), grammar)
    if not matcher.is_error():
        matcher.compute_bitmask()
        if not matcher.is_error():
            return lexeme
    message = matcher.get_error()
    if "Unsatisfiable schema" in message or "NoExtensionBias" in message:
        return None
    reason = message.splitlines()[0]
    raise InvalidSchemaError(f"the constraints on a value cannot be enforced ({reason}); simplify pattern or format")


@lru_cache(maxsize=1)
def _bytes() -> LLTokenizer:
    """A vocabulary of single bytes, enough to try a lexeme."""
    return LLTokenizer("byte")
