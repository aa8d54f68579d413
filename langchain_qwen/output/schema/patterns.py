r"""Regular expressions of JSON Schemas, translated from Python's dialect to that of llguidance.

JSON Schema means ECMAScript's dialect, validators in Python use Python's, and llguidance has Rust's. Where the three
disagree (is an Arabic digit a `\d`?), a translation is narrow: it matches only what all of them match. Of an
expression that must not match, it is wide: it matches whatever one of them matches.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from langchain_qwen.errors import InvalidSchemaError

# Python's own parser, so that a pattern means here what it means to a validator in Python.
if sys.version_info >= (3, 11):
    from re import _constants as op  # type: ignore[attr-defined]
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_constants as op
    import sre_parse as parser

ANYTHING = "(?s:.*)"
MATCHING = 50  # what it costs to match a short text, in units of `Budget`
_STARTS = (op.AT_BEGINNING, op.AT_BEGINNING_STRING)
_ENDS = (op.AT_END, op.AT_END_STRING)
# As part of a character class: (narrow, wide).
_CATEGORIES = {
    op.CATEGORY_DIGIT: ("0-9", r"\p{Nd}"),
    op.CATEGORY_NOT_DIGIT: (r"\P{Nd}", "[^0-9]"),
    op.CATEGORY_WORD: ("0-9A-Za-z_", r"\w\p{L}\p{N}"),
    op.CATEGORY_NOT_WORD: (r"[^\w\p{L}\p{N}]", "[^0-9A-Za-z_]"),
    op.CATEGORY_SPACE: (r" \t-\r", r"\s\x1c-\x1f"),
    op.CATEGORY_NOT_SPACE: (r"[^\s\x1c-\x1f]", r"[^ \t-\r]"),
}
_Item = tuple[Any, Any]
_MAX_CHARACTERS = 5_000
_MAX_COPIES = 50_000  # of characters, when counted repetitions are written out
# Of the work on one lexeme, far below what llguidance allows: a schema may have hundreds.
LIMITS = LLParserLimits(initial_lexer_fuel=100_000, step_lexer_fuel=50_000, max_lexer_states=20_000)


@dataclass(frozen=True, slots=True)
class Translation:
    """The pattern holds for strings that, as a whole, match all of `required` and none of `forbidden`."""

    required: tuple[str, ...]
    forbidden: tuple[str, ...] = ()


@lru_cache(maxsize=256)
def translate(pattern: str) -> Translation:
    """What a string must match so that `re.search` finds `pattern` in it.

    Lookaheads at the beginning become patterns of their own.

    Raises:
        InvalidSchemaError: For other lookarounds, back references, word boundaries, most flags, and syntax errors.
    """
    return _Translator(pattern, wide=False).translate()


@lru_cache(maxsize=256)
def translate_forbidden(pattern: str) -> str:
    """What a string must not match so that `re.search` does not find `pattern` in it.

    Raises:
        InvalidSchemaError: As `translate`, and for any lookahead.
    """
    return _Translator(pattern, wide=True).translate().required[0]


def check(pattern: str) -> str:
    """The pattern, if it is a regular expression that can be enforced.

    Raises:
        InvalidSchemaError: As `translate`.
    """
    translate(pattern)
    return pattern


@lru_cache(maxsize=512)
def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found in the text, in time that is linear in its length (Python's `re` can take ages).

    Raises:
        InvalidSchemaError: As `translate`, and where dialects disagree.
    """
    translation = translate(pattern)
    required = all(_fully_matches(p, text) for p in translation.required)
    if required and not any(_fully_matches(p, text) for p in translation.forbidden):
        return True
    # Of plain ASCII, narrow translations are exact.
    if not (text.isascii() and "\n" not in text) and _fully_matches(translate_forbidden(pattern), text):
        raise InvalidSchemaError(
            f"validators disagree on whether {text[:100]!r} matches the pattern {pattern!r}; use classes like [0-9]"
        )
    return False


def _fully_matches(pattern: str, text: str) -> bool:
    try:
        data = list(f"<{text}>".encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which no translation matches
        return False
    matcher = _matcher(pattern).deep_copy()
    found = matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()
    if matcher.is_error():
        raise InvalidSchemaError(f"the pattern {pattern[:100]!r} is too intricate to be enforced; simplify it")
    return found


@lru_cache(maxsize=64)
def _matcher(pattern: str) -> LLMatcher:
    return LLMatcher(byte_tokenizer(), f'start: T\nT: "<" /{pattern}/ ">"', limits=LIMITS)


@lru_cache(maxsize=1)
def byte_tokenizer() -> LLTokenizer:
    """A vocabulary of single bytes, enough to try a lexeme."""
    return LLTokenizer("byte")


def verbatim(text: str) -> str:
    """A pattern that matches `text` itself, safe within the slashes of a Lark regex."""
    return "".join(c if c.isascii() and c.isalnum() else rf"\x{{{ord(c):X}}}" for c in text)


class _Translator:
    def __init__(self, pattern: str, *, wide: bool):
        self._pattern = pattern
        self._wide = wide
        self._copies, self._nested = 0, 1

    def translate(self) -> Translation:
        if len(self._pattern) > _MAX_CHARACTERS:
            raise self._unsupported(f"so long a pattern (of more than {_MAX_CHARACTERS:,} characters)")
        try:
            return self._translate()
        except RecursionError as error:
            raise self._unsupported("so deep a nesting") from error

    def _translate(self) -> Translation:
        try:
            parsed = parser.parse(self._pattern)
        except (re.error, OverflowError) as error:
            raise InvalidSchemaError(
                f"the pattern {self._shown} is not a regular expression: {error}; correct it, or leave it out"
            ) from error
        flags = parsed.state.flags & ~(re.UNICODE | re.VERBOSE)
        if flags & ~re.IGNORECASE:
            raise self._unsupported("a flag other than (?i)")
        found = self._search(list(parsed))
        if not flags:
            return found
        return Translation(
            tuple(f"(?i:{part})" for part in found.required), tuple(f"(?i:{part})" for part in found.forbidden)
        )

    def _search(self, items: list[_Item]) -> Translation:
        """Take lookaheads off the beginning.

        An expression that begins with one may match anywhere; that it matches at the beginning is the narrow reading.
        """
        required: list[str] = []
        forbidden: list[str] = []
        anchored = False
        while items and not self._wide and (_is_at(items[0], _STARTS) or _is_lookahead(items[0])):
            code, argument = items.pop(0)
            anchored = True
            if code is op.ASSERT:
                required.append(self._whole(list(argument[1]), starts=True, ends=False))
            elif code is op.ASSERT_NOT:
                opposite = _Translator(self._pattern, wide=True)
                forbidden.append(opposite._whole(list(argument[1]), starts=True, ends=False))
        required.insert(0, self._whole(items, starts=anchored, ends=False))
        return Translation(tuple(required), tuple(forbidden))

    def _whole(self, items: list[_Item], *, starts: bool, ends: bool) -> str:
        """The strings in which a match is found: `starts` and `ends` say that it must touch that end."""
        while items and _is_at(items[0], _STARTS):
            items, starts = items[1:], True
        while items and _is_at(items[-1], _ENDS):
            items, ends = items[:-1], True
        if len(items) == 1 and items[0][0] is op.BRANCH:
            return _either([self._whole(list(branch), starts=starts, ends=ends) for branch in items[0][1][1]])
        if len(items) == 1 and items[0][0] is op.SUBPATTERN:
            return self._whole(self._group(items[0][1]), starts=starts, ends=ends)
        # In Python, `$` also matches before a line break at the end.
        closing = ("\\n?" if self._wide else "") if ends else ANYTHING
        return ("" if starts else ANYTHING) + self._sequence(items) + closing

    def _sequence(self, items: Sequence[_Item]) -> str:
        return "".join(self._item(code, argument) for code, argument in items)

    def _item(self, code: Any, argument: Any) -> str:
        self._copies += self._nested
        if self._copies > _MAX_COPIES:
            raise self._unsupported("a pattern with so many counted repetitions within each other")
        if code is op.LITERAL:
            return self._character(argument)
        if code is op.NOT_LITERAL:
            return f"[^{self._character(argument)}]"
        if code is op.ANY:
            return r"[^\n]"
        if code is op.IN:
            return self._set(argument)
        if code is op.BRANCH:
            return _either([self._sequence(branch) for branch in argument[1]])
        if code is op.SUBPATTERN:
            return f"(?:{self._sequence(self._group(argument))})"
        if code in (op.MAX_REPEAT, op.MIN_REPEAT):
            low, high, repeated = argument
            outside = self._nested
            self._nested *= max(1, int(low), 1 if high is op.MAXREPEAT else int(high))
            body = self._sequence(repeated)
            self._nested = outside
            return f"(?:{body}){{{low},{'' if high is op.MAXREPEAT else high}}}"
        raise self._unsupported(_NAMES.get(code, f"the construct {str(code).lower()}"))

    def _group(self, argument: Any) -> list[_Item]:
        _, added_flags, removed_flags, items = argument
        if added_flags or removed_flags:
            raise self._unsupported("a flag on a group")
        return list(items)

    def _set(self, items: Sequence[_Item]) -> str:
        negated = items[0][0] is op.NEGATE
        wide = self._wide != negated
        return f"[{'^' if negated else ''}{''.join(self._member(*item, wide=wide) for item in items[negated:])}]"

    def _member(self, code: Any, argument: Any, *, wide: bool) -> str:
        if code is op.CATEGORY:
            return _CATEGORIES[argument][wide]
        if code is op.RANGE:
            return "-".join(self._character(end) for end in argument)
        return self._character(argument)

    def _character(self, code_point: int) -> str:
        if 0xD800 <= code_point <= 0xDFFF:
            raise self._unsupported("half a surrogate pair")
        return verbatim(chr(code_point))

    @property
    def _shown(self) -> str:
        return repr(self._pattern if len(self._pattern) <= 200 else f"{self._pattern[:200]}...")

    def _unsupported(self, what: str) -> InvalidSchemaError:
        return InvalidSchemaError(
            f"the pattern {self._shown} cannot be enforced: {what} is not supported; write the pattern without it, "
            "or leave `pattern` out and describe what is wanted in `description`"
        )


_NAMES = {
    op.ASSERT: "a lookaround that is not at the beginning",
    op.ASSERT_NOT: "a lookaround that is not at the beginning",
    op.AT: "an anchor or word boundary inside the pattern",
    op.GROUPREF: "a back reference",
    op.GROUPREF_EXISTS: "a conditional group",
}


def _is_at(item: _Item, places: tuple[Any, ...]) -> bool:
    return item[0] is op.AT and item[1] in places


def _is_lookahead(item: _Item) -> bool:
    return item[0] in (op.ASSERT, op.ASSERT_NOT) and item[1][0] > 0


def _either(options: list[str]) -> str:
    return f"(?:{'|'.join(options)})"
