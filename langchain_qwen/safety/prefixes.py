r"""Patterns in RE2, and beside each the language of its prefixes.

A stream has to know where a match that is not finished yet could begin. For a pattern P this is the leftmost i such
that text[i:] is a prefix of a word of P. Prefixes of a regular language are a regular language:

    prefix(a)      = a?                        for one character
    prefix(AB)     = prefix(A) | A prefix(B)
    prefix(A|B)    = prefix(A) | prefix(B)
    prefix(A{m,n}) = A{0,n-1} prefix(A)        (A* prefix(A) without an upper bound)

so one search for `prefix(P)\z` answers the question exactly, and RE2 does it in linear time, whoever wrote P.
Both read UTF-8, since RE2 would otherwise encode a text anew for every search.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import re2

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.safety.letters import fold

# Python's own parser of patterns: sre_parse in 3.10, a part of re since.
_HOME = "re._" if sys.version_info >= (3, 11) else "sre_"
codes: Any = importlib.import_module(f"{_HOME}constants")
parser: Any = importlib.import_module(f"{_HOME}{'parser' if _HOME == 're._' else 'parse'}")

# Letters, digits and _ with what is beyond Latin-1, but for blocks of punctuation and symbols: the exact \p{L} makes
# automata some hundred times as large.
WORD = r"0-9A-Za-z_\x{aa}\x{b5}\x{ba}\x{c0}-\x{1fff}\x{2c00}-\x{2dff}\x{3040}-\x{d7ff}\x{f900}-\x{10ffff}"
ASCII_WORD = "0-9A-Za-z_"
_CATEGORIES = {
    codes.CATEGORY_DIGIT: "0-9",
    codes.CATEGORY_SPACE: r"\s\p{Z}",
    codes.CATEGORY_WORD: WORD,
}
_NEGATED = {
    codes.CATEGORY_NOT_DIGIT: "0-9",
    codes.CATEGORY_NOT_SPACE: r"\s\p{Z}",
    codes.CATEGORY_NOT_WORD: WORD,
}
_MEMORY = 64 << 20


class CompiledPattern(NamedTuple):
    """Searches of UTF-8 for whole matches and for unfinished ones.

    Both want one character before the match, and `matches` one behind it; these belong to the span that RE2 gives.
    """

    matches: Any
    unfinished: Any


@lru_cache(maxsize=256)
def compile_pattern(pattern: str, guard: str = "", before: str | None = None) -> CompiledPattern:
    r"""Compile a pattern for whole-text and streaming search.

    Args:
        pattern: Python syntax, without lookaround, backreferences and anchors. Letters match in either case.
        guard: A set of characters, as inside [...], that may stand neither before nor after a match.
        before: Such a set for the place before a match, where it differs.

    Raises:
        InvalidParameterError: For what RE2 cannot match in linear time, and for patterns that match nothing at all.
    """
    try:
        tree = parser.parse(pattern)
    except re.error as error:
        raise InvalidParameterError(f"the pattern {pattern!r} is no regular expression: {error}") from error
    whole, prefix = _sequence(list(tree), pattern)
    left, right = _outside(guard if before is None else before), _outside(guard)
    options = re2.Options()
    options.longest_match = True
    options.case_sensitive = False
    options.max_mem = _MEMORY
    options.log_errors = False
    try:
        compiled = CompiledPattern(
            re2.compile(f"{left}(?:{whole}){right}", options), re2.compile(f"{left}(?:{prefix})\\z", options)
        )
        empty = re2.compile(whole, options).fullmatch("")
    except re2.error as error:
        raise InvalidParameterError(f"the pattern {pattern!r} is too large or not supported: {error}") from error
    if empty:
        raise InvalidParameterError(f"the pattern {pattern!r} matches the empty text; ask for at least one character")
    return compiled


def python_set(characters: str) -> str:
    """A set of characters in RE2's notation in Python's."""
    return re.sub(r"\\x\{([0-9a-f]+)\}", lambda code: f"\\U{int(code[1], 16):08x}", characters)


def words_pattern(words: Iterable[str]) -> str:
    """A pattern for any of these words, also with one separator between all letters ("b.o.m.b")."""
    alternatives = []
    for word in sorted(set(words)):
        alternatives.append(r"[\s_-]{1,3}".join(re.escape(part) for part in word.split()))
        letters = word.replace(" ", "")
        if len(letters) > 2 and letters.isalpha():
            alternatives.append(r"[\s._*-]{1,2}".join(re.escape(letter) for letter in letters))
    return "|".join(alternatives)


def _outside(guard: str) -> str:
    return f"[^{guard}]" if guard else "(?s:.)"


def _sequence(nodes: list[Any], pattern: str) -> tuple[str, str]:
    whole, prefix = "", ""
    for node in reversed(nodes):
        node_whole, node_prefix = _node(node, pattern)
        prefix = f"(?:{node_prefix}|{node_whole}{prefix})" if prefix else node_prefix
        whole = node_whole + whole
    return whole, prefix


def _node(node: Any, pattern: str) -> tuple[str, str]:
    """RE2's notation of one node, and of its prefixes."""
    op, value = node
    if op is codes.LITERAL:
        # Texts are folded, so "é" of a pattern has to be looked for as "e".
        letters = [(codes.LITERAL, ord(letter)) for letter in fold(chr(value))]
        return _sequence(letters, pattern) if len(letters) > 1 else _one(_literal(value))
    if op is codes.NOT_LITERAL:
        return _one(f"[^{_literal(value)}]")
    if op is codes.ANY:
        return _one(r"[^\n]")
    if op is codes.IN:
        return _one(_set(value))
    if op is codes.BRANCH:
        both = [_sequence(list(branch), pattern) for branch in value[1]]
        return f"(?:{'|'.join(w for w, _ in both)})", f"(?:{'|'.join(p for _, p in both)})"
    if op is codes.SUBPATTERN and not value[1] and not value[2]:
        whole, prefix = _sequence(list(value[3]), pattern)
        return f"(?:{whole})", f"(?:{prefix})"
    if op in (codes.MAX_REPEAT, codes.MIN_REPEAT):
        low, high, inner = value
        whole, prefix = _sequence(list(inner), pattern)
        if high is codes.MAXREPEAT:
            return f"(?:{whole}){{{low},}}", f"(?:(?:{whole})*(?:{prefix}))"
        return f"(?:{whole}){{{low},{high}}}", f"(?:(?:{whole}){{0,{max(high - 1, 0)}}}(?:{prefix}))"
    raise InvalidParameterError(
        f"the pattern {pattern!r} uses {str(op).lower().replace('_', ' ')}, which has no linear-time match; leave out "
        r"lookaround, backreferences, inline flags and anchors (use whole_words instead of \b)"
    )


def _one(character: str) -> tuple[str, str]:
    return character, f"{character}?"


def _literal(code: int) -> str:
    folded = fold(chr(code))
    return f"\\x{{{ord(folded) if len(folded) == 1 else code:x}}}"


def _set(items: list[Any]) -> str:
    negated = items[0][0] is codes.NEGATE
    parts = []
    for op, value in items[1 if negated else 0 :]:
        if op is codes.LITERAL:
            parts.append(_literal(value))
        elif op is codes.RANGE:
            parts.append(f"\\x{{{value[0]:x}}}-\\x{{{value[1]:x}}}")
        elif value in _CATEGORIES:
            parts.append(_CATEGORIES[value])
        elif len(items) == 1:
            return f"[^{_NEGATED[value]}]"
        else:
            raise InvalidParameterError(r"\D, \S and \W cannot stand inside [...]; write the set without them")
    return f"[{'^' if negated else ''}{''.join(parts)}]"
