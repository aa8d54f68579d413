"""The law of the filter: what leaves a stream is what leaves for the whole text, and no character waits in vain."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.safety.filtering import TextFilter
from langchain_qwen.safety.parser import SafetyParser
from langchain_qwen.safety.policy import Policy
from langchain_qwen.safety.prefixes import compile_pattern
from langchain_qwen.safety.scanning import Detector, TextScanner

# Patterns over a, b, c: short enough to list all texts.
PATTERNS = ["ab", "a+b", "a(?:bc)*c", "a{2,3}|bc", "[ab]c?a", "(?:ab|abcab)", "a.c", "c[^a]{1,2}a", "aa|a[^b]c"]
PIECES = st.sampled_from(
    [
        "a@b.co",
        "kim.lee@example.com",
        "4111 1111 1111 1111",
        "4111111111111112",
        "GB82 WEST 1234 5698 7654 32",
        "+1 650-253-0000",
        "http://u:pw@h.io/x",
        "192.168.0.1",
        "sk-abcdefghijklmnopqrstuv",
        "shit",
        "s.h.i.t",
        "ѕhіt",
        "\u200b",
        "é",
        "ﬁ",
        "@",
        ".",
        " ",
        "\n",
        "1",
        "a",
        "word",
        "秘密",
        "😀",
        "�",
        "846-15-5715",
        "you are my",
        "canary-7",
    ]
)
TEXTS = st.lists(PIECES, max_size=14).map("".join)


def naive_matches(pattern: str, guard: str, text: str) -> list[tuple[int, int]]:
    """Leftmost longest matches that do not overlap, by trying every pair of places."""
    compiled, found, start = re.compile(pattern, re.IGNORECASE), [], 0
    while start < len(text):
        ends = [
            end
            for end in range(len(text), start, -1)
            if compiled.fullmatch(text, start, end)
            and not (guard and re.match(f"[{guard}]", text[start - 1 : start]))
            and not (guard and re.match(f"[{guard}]", text[end : end + 1]))
        ]
        if ends:
            found.append((start, ends[0]))
        start = ends[0] if ends else start + 1
    return found


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(PATTERNS), st.sampled_from(["", "c", "ab"]), st.text("abc", max_size=12), st.data())
def test_a_detector_finds_in_pieces_what_trying_every_place_finds(pattern, guard, text, data):
    detector = Detector("x", pattern, guard=guard)
    scanner, found = TextScanner([detector]), []
    for piece in cut(text, data.draw(st.lists(st.integers(0, 12), max_size=6))):
        found += scanner.feed(piece)
    found += scanner.feed("", final=True)
    assert [(m.start, m.end) for _, m in found] == naive_matches(pattern, guard, text)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(PATTERNS), st.sampled_from(["", "b"]), st.text("abc", max_size=7))
def test_what_is_held_back_could_still_become_a_match(pattern, guard, text):
    """Exhaustively: the place of doubt begins a match that some continuation completes or changes."""
    scanner = TextScanner([Detector("x", pattern, guard=guard)])
    found = [(m.start, m.end) for _, m in scanner.feed(text)]
    if scanner.certain == len(text):
        return
    endings = [""]
    for _ in range(5):
        endings += [e + c for e in endings for c in "abcd" if len(e + c) <= 5]
    endings = list(dict.fromkeys(endings))
    begins = [naive_matches(pattern, guard, text + ending) for ending in endings]
    assert any(scanner.certain in [start for start, _ in matches] for matches in begins)
    assert all(matches[: len(found)] == found for matches in begins)


@pytest.fixture(scope="module")
def parser():
    rules = [
        *({"id": n, "category": "pii", "detector": n, "action": "redact"} for n in ("email", "credit_card", "iban")),
        {"id": "phone", "category": "pii", "detector": "phone", "action": "mask"},
        {"id": "ip", "category": "pii", "detector": "ip_address", "action": "hash"},
        {"id": "ours", "category": "pii", "detector": {"pattern": r"kim\.lee@example\.com"}, "action": "allow"},
        {"id": "secret", "category": "secrets", "detector": "secret", "action": "rewrite", "replacement": "(a key)"},
        {"id": "rude", "category": "profanity", "detector": {"lexicon": "profanity"}, "action": "flag"},
        {"id": "url", "category": "pii", "detector": "url_credentials", "action": "stop"},
        {"id": "leak", "category": "prompt_leakage", "detector": "prompt_leak", "action": "block"},
    ]
    policy = Policy.parse({"name": "t", "version": "1", "refusal": {"en": "No."}, "rules": rules})
    return SafetyParser(policy, system_prompt="秘密 word a", canary="canary-7")


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.lists(st.integers(0, 200), max_size=12), st.booleans())
def test_a_stream_is_the_whole_text(parser, text, places, as_json):
    whole = parser.new_filter(as_json).feed(text, final=True)
    for pieces in (cut(text, places), list(text)):
        stream, out, findings = parser.new_filter(as_json), "", []
        for piece in [*pieces, None]:
            step = stream.feed(piece or "", final=piece is None)
            out, findings = out + step.text, findings + step.findings
            assert whole.text.startswith(out)  # nothing is taken back
            if step.ended_by:
                break
        assert out == whole.text
        assert findings == whole.findings
        assert stream.ended_by == whole.ended_by


@settings(deadline=None, max_examples=200)
@given(st.lists(PIECES, max_size=14).map(" ; ".join))
def test_nothing_forbidden_leaves_and_nothing_allowed_is_lost(parser, text):
    place = 0
    filtered = parser.new_filter().feed(text, final=True)
    left, at = [], 0
    for finding in [f for f in filtered.findings if f.rule.action.value != "flag"]:
        left.append(text[at : finding.start])
        at = max(at, finding.end)
    for part in left:
        place = filtered.text.find(part, place)
        assert place >= 0  # in its order
        place += len(part)
    for forbidden in ("4111 1111 1111 1111", "canary-7", "a@b.co", "pw@h.io", "sk-abcdefghijklmnopqrstuv"):
        assert forbidden not in filtered.text


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text("xyz ,\n", max_size=5), max_size=8))
def test_text_without_findings_passes_unchanged(parser, pieces):
    stream = parser.new_filter()
    out = "".join(stream.feed(piece).text for piece in pieces) + stream.feed("", final=True).text
    assert out == "".join(pieces)


def test_overlapping_findings_are_one_under_the_strongest_rule():
    rules = [
        {"id": "a", "category": "pii", "detector": {"pattern": "one two"}, "action": "redact"},
        {"id": "b", "category": "pii", "detector": {"pattern": "two three"}, "action": "rewrite", "replacement": "B"},
    ]
    policy = Policy.parse({"name": "t", "version": "1", "refusal": {"en": "No."}, "rules": rules})
    assert SafetyParser(policy).scan("x one two three y")[0] == "x B y"


def test_a_long_text_takes_linear_time_with_a_pattern_that_would_hang_others():
    stream = TextFilter([])
    assert stream.feed("a" * 10).text == "a" * 10
    detector = Detector("evil", "(?:a+)+b")
    assert TextScanner([detector]).feed("a" * 20_000, final=True) == []


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?=a)b", r"\bword", "^a", "a*", "a(", "(?i:a)"])
def test_patterns_that_cannot_be_followed_are_refused_by_name(pattern):
    with pytest.raises(InvalidParameterError, match="pattern"):
        compile_pattern(pattern)
