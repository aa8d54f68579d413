"""Lark definitions for scalars: JSON strings and numbers with their constraints."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

from llguidance import LLMatcher

from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.schema.documents import Budget
from langchain_qwen.output.schema.formats import FORBIDDEN, FORMATS
from langchain_qwen.output.schema.numbers import closed_bound, decimals, integers, writable
from langchain_qwen.output.schema.patterns import LIMITS, byte_tokenizer, translate, translate_forbidden
from langchain_qwen.output.schema.shapes import Number, String

# Without \uXXXX, so that a string has one spelling only: a name that is taken could be written again with another.
_ESCAPES = 'nrbtf\\"'
_PLAIN = r'[^"\\\x00-\x1F\x7F]'
_MULTIPLES_BELOW = 10**15
_MAX_LISTED = 1000
_LARGEST_STEP = 1000
MOST_KINDS = 63  # bits of a rule's parameter, all of which can be counted
# Longer strings and arrays are not written, and refused where a schema asks for them.
MAX_LENGTH, MAX_LEAST_LENGTH = 100_000, 10_000
# The cost of an intersection of regular expressions grows exponentially with their number.
_MAX_CONDITIONS = 8


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


class Lexemes:
    """The lexemes of one grammar."""

    def __init__(self, budget: Budget):
        self._budget = budget
        self._known: dict[String | Number, Lexeme | None] = {}
        self._distinct: dict[String | Number, list[Lexeme]] = {}

    def of(self, shape: String | Number) -> Lexeme | None:
        """The values of a shape; None where there are none that can be written.

        Formats are annotations: one that does not go with the rest is left out.

        Raises:
            InvalidSchemaError: For a pattern or `multipleOf` that cannot be enforced.
        """
        if shape not in self._known:
            if shape.values is not None:
                self._known[shape] = self._listed(shape.values)
            elif isinstance(shape, Number):
                self._known[shape] = self._number(shape)
            else:
                self._known[shape] = self._string(shape)
        return self._known[shape]

    def distinct(self, shape: String | Number) -> list[Lexeme]:
        """Lexemes none of which can write a value that another one can write: up to 63.

        An array with one item of each at most has no item twice. For strings they differ in the kind of the first
        character and in the length modulo 4, for numbers in the last digit before the point and the count of digits.
        """
        if shape not in self._distinct:
            self._distinct[shape] = [lexeme for lexeme in self._kinds(shape) if lexeme is not None]
        return self._distinct[shape]

    def _kinds(self, shape: String | Number) -> list[Lexeme | None]:
        if shape.values is not None:
            values = list(dict.fromkeys(shape.values))
            return [self._listed(values[bit::MOST_KINDS]) for bit in range(min(MOST_KINDS, len(values)))]
        if isinstance(shape, String):
            kinds = [f"[{kind}]{_PLAIN}{{{rest}}}(?:{_PLAIN}{{4}})*" for kind in _FIRST_CHARACTERS for rest in range(4)]
            return [self._possible(_plain_text(shape, kind), 3) for kind in kinds]
        everything = self.of(shape)
        if everything is None or not everything.terminal:
            return []
        kinds = [rf"-?(?:[0-9]{{6}})*[0-9]{{{rest}}}{last}(?:\.[0-9]+)?" for last in range(10) for rest in range(6)]
        return [self._possible(Lexeme(f"{everything.body} & /{kind}/"), 2) for kind in kinds]

    def _string(self, shape: String) -> Lexeme | None:
        if shape == String():
            return ANY_STRING
        if shape.max_length is not None and shape.min_length > shape.max_length:
            return None
        conditions = 1 + len(shape.patterns) + len(shape.forbidden_patterns) + len(shape.formats)
        if conditions > _MAX_CONDITIONS:
            raise InvalidSchemaError(
                f"a string with {conditions - 1} patterns and formats cannot be enforced; {_MAX_CONDITIONS - 1} "
                "are the most, so combine them"
            )
        if shape.min_length > (MAX_LEAST_LENGTH // 10 if conditions > 1 else MAX_LEAST_LENGTH):
            raise InvalidSchemaError(f"minLength {shape.min_length:,} is too much to be enforced; lower it")
        if shape.max_length is not None and shape.max_length > MAX_LENGTH:
            shape = replace(shape, max_length=MAX_LENGTH)
        lexeme = self._possible(_constrained(shape), conditions)
        return lexeme or (self.of(replace(shape, formats=())) if shape.formats else None)

    def _number(self, shape: Number) -> Lexeme | None:
        if shape.multiple_of is not None:
            return self._multiples(shape, shape.multiple_of)
        bounds = writable(shape.low and shape.low[0], shape.high and shape.high[0])
        if bounds is None:
            return None
        low, high = bounds
        open_low, open_high = bool(shape.low and shape.low[1]), bool(shape.high and not shape.high[1])
        if shape.integer:
            least = None if low is None else floor(low) + 1 if open_low else ceil(low)
            pattern = integers(least, None if high is None else ceil(high) - 1 if open_high else floor(high))
        else:
            pattern = decimals(
                None if low is None else closed_bound(low, exclusive=open_low, upper=False),
                None if high is None else closed_bound(high, exclusive=open_high, upper=True),
            )
        return None if pattern is None else Lexeme(f"/{pattern}/")

    def _listed(self, values: Iterable[object]) -> Lexeme:
        # 1 and 1.0 are the same value, but to draft 4 only the first is an integer.
        texts = [json_text(int(v) if isinstance(v, float) and v.is_integer() and abs(v) < 2**53 else v) for v in values]
        self._budget.spend(sum(2 + len(text) // 10 for text in texts))
        return Lexeme(" | ".join(map(literal, texts)))

    def _multiples(self, shape: Number, multiple_of: Fraction) -> Lexeme | None:
        """A few multiples are listed; so are those next to zero where the step is too large for an automaton."""
        # For integers, the smallest whole multiple of a reduced fraction.
        step = Fraction(multiple_of.numerator) if shape.integer else multiple_of
        first, last = ceil(-_MULTIPLES_BELOW / step), floor(_MULTIPLES_BELOW / step)
        if shape.low is not None:
            is_open, in_steps = shape.low[1], Fraction(shape.low[0]) / step
            first = max(first, floor(in_steps) + 1 if is_open else ceil(in_steps))
        if shape.high is not None:
            is_closed, in_steps = shape.high[1], Fraction(shape.high[0]) / step
            last = min(last, floor(in_steps) if is_closed else ceil(in_steps) - 1)
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
            return self._listed(values) if values else None
        # Below zero the sign is written here: llguidance 1.7, which vLLM has, knows no negative multiples.
        below = [_in_steps(shape, step, max(1, -last), -first)] if first < 0 else []
        above = [_in_steps(shape, step, max(0, first), last)] if last >= 0 else []
        body = " | ".join([*(f'"-" {rule}' for rule in below), *above])
        return self._possible(Lexeme(body, terminal=False), 4)

    def _possible(self, lexeme: Lexeme, conditions: int) -> Lexeme | None:
        """The lexeme, unless no text matches it."""
        self._budget.spend(300 + len(lexeme.body) // 10 + 4**conditions // 2)
        message = _problem(f"start: LEXEME\nLEXEME: {lexeme.body}" if lexeme.terminal else f"start: {lexeme.body}")
        if not message:
            return lexeme
        if "Unsatisfiable schema" in message or "NoExtensionBias" in message:
            return None
        reason = message.splitlines()[0][:200]
        raise InvalidSchemaError(
            f"the constraints on a value cannot be enforced ({reason}); simplify pattern, format or lengths"
        )


@lru_cache(maxsize=512)
def _problem(grammar: str) -> str:
    """What llguidance says against a grammar; nothing where some text matches it."""
    matcher = LLMatcher(byte_tokenizer(), grammar, limits=LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher.get_error()


def _in_steps(shape: Number, step: Fraction, first: int, last: int) -> str:
    """A rule for the multiples of `step` from the `first` to the `last`, which are no negative ones."""
    schema = {
        "type": "integer" if shape.integer else "number",
        "multipleOf": _as_number(step),
        "minimum": _as_number(first * step),
        "maximum": _as_number(last * step),
    }
    return f"%json {json.dumps(schema)}"


_FIRST_CHARACTERS = (
    *("ABab", "CDcd", "E-Ge-g", "H-Kh-k", "LMlm", "N-Pn-p", "QRqr", "Ss", "T-Zt-z", "0-4", "5-9"),
    *(r"\x{4E00}-\x{5FFF}", r"\x{6000}-\x{73FF}", r"\x{7400}-\x{87FF}", r"\x{8800}-\x{9FFF}"),
    r'^"\\\x00-\x1F\x7FA-Za-z0-9\x{4E00}-\x{9FFF}',
)


def _constrained(shape: String) -> Lexeme:
    translations = [translate(pattern) for pattern in shape.patterns]
    forbidden = shape.excluded or shape.forbidden_patterns or any(translation.forbidden for translation in translations)
    required = [pattern for translation in translations for pattern in translation.required]
    if forbidden or shape.formats:
        return _plain_text(shape)
    if not required:
        return Lexeme(rf'/"(?:{_PLAIN}|\\["\\bfnrt]){_length(shape)}"/')
    limits: dict[str, object] = {"minLength": shape.min_length}
    if shape.max_length is not None:
        limits["maxLength"] = shape.max_length
    options = {"json_allowed_escapes": _ESCAPES}
    parts = [{"pattern": f"^(?:{pattern})$"} for pattern in required]
    schema = {"type": "string", **limits, "allOf": parts, "x-guidance": options}
    return Lexeme(f"%json {json.dumps(schema)}", terminal=False)


def _plain_text(shape: String, kind: str | None = None) -> Lexeme:
    """Strings that need no escapes; these can be intersected and excluded freely."""
    translations = [translate(pattern) for pattern in shape.patterns]
    required = [pattern for translation in translations for pattern in translation.required]
    required += [f"{_PLAIN}{_length(shape)}", *([] if kind is None else [kind])]
    required += [FORMATS[name] for name in shape.formats if name in FORMATS]
    forbidden = [f"/{pattern}/" for translation in translations for pattern in translation.forbidden]
    forbidden += [f"/{translate_forbidden(pattern)}/" for pattern in shape.forbidden_patterns]
    forbidden += [f"/{FORBIDDEN[name]}/" for name in shape.formats if name in FORBIDDEN]
    forbidden += [literal(value) for value in shape.excluded]
    conditions = [f"/{pattern}/" for pattern in required] + ([f"~({' | '.join(forbidden)})"] if forbidden else [])
    quote = literal('"')
    return Lexeme(f"{quote} ({' & '.join(conditions)}) {quote}")


def _length(shape: String) -> str:
    return f"{{{shape.min_length},{'' if shape.max_length is None else shape.max_length}}}"


def _as_number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)
