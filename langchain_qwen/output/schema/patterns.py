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
from typing import Any

from langchain_qwen.errors import InvalidSchemaError

# Python's own parser, so that a pattern means here what it means to a validator in Python.
if sys.version_info >= (3, 11):
    from re import _constants as op  # type: ignore[attr-defined]
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_constants as op
    import sre_parse as parser

ANYTHING = "(?s:.*)"
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


@dataclass(frozen=True, slots=True)
class Translation:
    """The pattern holds for strings that, as a whole, match all of `required` and none of `forbidden`."""

    required: tuple[str, ...]
    forbidden: tuple[str, ...] = ()


def translate(pattern: str) -> Translation:
    """What a string must match so that `re.search` finds `pattern` in it.

    Lookaheads at the beginning become patterns of their own.

    Raises:
        InvalidSchemaError: For other lookarounds, back references, word boundaries, most flags, and syntax errors.
    """
    return _Translator(pattern, wide=False).translate()


def translate_forbidden(pattern: str) -> str:
    """What a string must not match so that `re.search` does not find `pattern` in it.

    Raises:
        InvalidSchemaError: As `translate`, and for any lookahead.
    """
    return _Translator(pattern, wide=True).translate().required[0]


def verbatim(text: str) -> str:
    """A pattern that matches `text` itself, safe within the slashes of a Lark regex."""
    return "".join(c if c.isascii() and c.isalnum() else rf"\x{{{ord(c):X}}}" for c in text)


class _Translator:
    def __init__(self, pattern: str, *, wide: bool):
        self._pattern = pattern
        self._wide = wide

    def translate(self) -> Translation:
        try:
            parsed = parser.parse(self._pattern)
        except re.error as error:
            raise self._unsupported(f"its syntax ({error})") from error
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
            return f"(?:{self._sequence(repeated)}){{{low},{'' if high is op.MAXREPEAT else high}}}"
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

    def _unsupported(self, what: str) -> InvalidSchemaError:
        return InvalidSchemaError(
            f"the pattern {self._pattern!r} cannot be enforced: {what} is not supported; write the pattern without it, "
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
