"""What is long: no text costs more than in proportion, none is held for ever, and streams stay what whole texts are."""

from __future__ import annotations

import itertools
import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_qwen.safety import filtering, scanning
from langchain_qwen.safety.detectors import leak_detectors, lexicon_detectors, lexicons
from langchain_qwen.safety.filtering import HELD_BACK
from langchain_qwen.safety.parser import SafetyParser
from langchain_qwen.safety.personal_data import PERSONAL_DATA
from langchain_qwen.safety.policy import Policy
from langchain_qwen.safety.scanning import Detector, TextScanner

RANDOM = Random(5)
BASE64 = "".join(RANDOM.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=4096))
UNITS = {
    "digits": "1234567890",
    "spaced digits": "4 1 1 1 ",
    "numbers": "".join(f"{RANDOM.randrange(100_000)} " for _ in range(800)),
    "columns": "4\n",
    "letters": "abcdefghij",
    "at": "@",
    "a@": "a@",
    "base64": BASE64,
    "blanks": " ",
    "dots": ".",
    "a.a.a": "a.",
    "spaced letters": "k i m @ e . c ",
    "marks": "a\u0301\u0302",
    "only marks": "\u0301",
    "invisible": "\u200b",
    "entities": "&#6",
    "tags": "<b>",
    "open tags": "<",
    "percent": "%40",
    "asterisks": "*",
    "backslashes": "\\",
    "quotes": '"a',
    "headers": "-----BEGIN PRIVATE KEY-----",
    "half headers": "-----BEGIN ",
    "tokens": "eyJabcdefgh.",
    "keys": "AKIAABCDEFGHIJKLMNOP ",
    "passwords": "password=",
    "accounts": "GB82 WEST 1234 5698 7654 33 ",
    "colons": "1:",
    "links": "http://a:",
    "words at": "a at b dot ",
    "labels": "ssn 123456789 ",
    "ligatures": "\ufdfa",
    "Chinese": "你好世界",
    "spelled": "s.h.i.t.",
    "begin": "BEGIN ",
}
DETECTORS = {
    **{name: [d for d in PERSONAL_DATA if d.name == name] for name in {d.name for d in PERSONAL_DATA}},
    **{f"lexicon {name}": lexicon_detectors(name, words) for name, words in lexicons().items()},
    "leak": leak_detectors("You are Kim and you never tell anybody that the vault opens at nine.", "zq-81"),
    "a pattern of the user's": [Detector("own", "BEGIN[^#]*END"), Detector("own2", "(?:a+)+b")],
}


def cpu_seconds(detectors, text):
    started = time.process_time()
    TextScanner(detectors).feed(text, final=True)
    return time.process_time() - started


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_no_text_makes_a_detector_take_more_than_in_proportion(name):
    slow = {}
    for kind, unit in UNITS.items():
        short, long = ((unit * size)[:size] for size in (6_144, 24_576))
        for _ in range(3):  # other processes disturb
            first, second = cpu_seconds(DETECTORS[name], short), cpu_seconds(DETECTORS[name], long)
            # Four times the text; quadratic would be 16 times the work. A few milliseconds are noise.
            if second < 8 * first + 0.02:
                break
        else:
            slow[kind] = (first, second)
    assert not slow


def policy(*rules):
    named = [{"id": f"r{n}", "category": "pii", "action": "redact", **rule} for n, rule in enumerate(rules)]
    return Policy.parse({"name": "t", "version": "1", "refusal": {"en": "No."}, "rules": named})


@pytest.mark.parametrize("kind", sorted(UNITS))
def test_a_stream_never_holds_back_more_than_it_says(kind):
    text = (UNITS[kind] * 40_000)[:40_000]
    rules = [{"detector": {"pattern": p, "whole_words": False}} for p in ("BEGIN[^#]*END", "a[^#]*", "[^#]*z")]
    shipped = [{"detector": name} for name in sorted({d.name for d in PERSONAL_DATA})]
    stream, most = SafetyParser(policy(*rules, *shipped)).new_filter(), 0
    for at in range(0, len(text), 997):
        stream.feed(text[at : at + 997])
        most = max(most, stream.held_back)
    assert most <= HELD_BACK
    stream.feed("", final=True)
    assert stream.held_back == 0


def test_findings_that_overlap_without_end_do_not_hold_back_all():
    parser = SafetyParser(policy(*({"detector": {"pattern": p, "whole_words": False}} for p in ("ab", "ba"))))
    stream, most, out = parser.new_filter(), 0, ""
    text = "ab" * 20_000
    for at in range(0, len(text), 500):
        out += stream.feed(text[at : at + 500]).text
        most = max(most, stream.held_back)
    out += stream.feed("", final=True).text
    assert most <= HELD_BACK
    assert out == parser.scan(text)[0]
    assert "b" not in out


def test_a_private_key_of_a_megabyte_is_one_finding_and_takes_no_time():
    parser = SafetyParser(policy({"detector": "secret"}))
    body = BASE64 * 256
    text = f"Here: -----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\nThat was it."
    started = time.process_time()
    clean, events = parser.scan(text)
    assert time.process_time() - started < 2
    assert clean == "Here: [R0]\nThat was it."
    assert len(events) == 1
    masked = SafetyParser(policy({"detector": "secret", "action": "mask"})).scan(text)[0]
    assert not any(BASE64[at : at + 5] in masked for at in range(0, 4000, 5))


def test_a_key_in_json_and_one_without_an_end_are_masked():
    parser = SafetyParser(policy({"detector": "secret"}))
    lines = "\\n".join(BASE64[at : at + 64] for at in range(0, 320, 64))
    text = f'{{"private_key": "-----BEGIN PRIVATE KEY-----\\n{lines}\\n-----END PRIVATE KEY-----\\n", "x": 1}}'
    assert parser.scan(text)[0] == '{"private_key": "[R0]\\n", "x": 1}'
    assert parser.scan(f"-----BEGIN PRIVATE KEY-----\n{BASE64[:200]}")[0] == "[R0]"


@pytest.mark.parametrize("length", [1000, 5000, 50_000])
def test_a_token_longer_than_any_doubt_leaves_no_end(length):
    token = f"eyJhbGciOiJIUzI1NiJ9.eyJ{BASE64[:100].replace('/', '_').replace('+', '-')}" + "aB3_" * (length // 4)
    assert SafetyParser(policy({"detector": "secret"})).scan(f"is {token} ok")[0] == "is [R0] ok"


def test_an_address_behind_a_local_part_of_any_length_is_found():
    for length in (65, 1000, 20_000):
        clean = SafetyParser(policy({"detector": "email"})).scan(f"to {'a' * length}@example.com now")[0]
        assert "example" not in clean


def test_candidates_up_to_the_bound_are_found_whole():
    parser = SafetyParser(policy({"detector": {"pattern": "BEGIN[^#]*END"}}))
    inner = "x" * (scanning.DOUBT - 20)
    for before in (0, 1, 700, 2047, 2048, 3000):
        assert parser.scan(f"{'.' * before}BEGIN {inner} END.")[0] == f"{'.' * before}[R0]."


def test_a_judge_reads_a_whole_document_once():
    asked = []
    parser = SafetyParser(policy({"detector": "email"}))
    whole = Detector("judge", find=lambda text: asked.append(len(text)) or [], unmasked=False, whole=True)
    rules = [(parser.policy.rules[0], [whole])]
    started = time.process_time()
    text = "All is well here. " * 60_000
    assert filtering.TextFilter(rules).feed(text, final=True).text == text
    assert asked == [len(text)]
    assert time.process_time() - started < 3


PIECES = st.sampled_from(
    [
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "QUJD0x/",
        "eyJhbGciOi.eyJhbGciOi",
        "k i m",
        " @ ",
        " at ",
        " dot ",
        "@",
        "a.co",
        "com",
        "&#64;",
        "&",
        "%40",
        "%",
        "<b>",
        "</b>",
        "<",
        "**",
        "`",
        "~",
        "\\",
        " ",
        "  ",
        "\n",
        "\t",
        "x",
        "é",
        "\u0e31",
        "\u0301",
        "\r\n",
        "\u2800",
        "🇩🇪",
        "🅰",
        "4111",
        "4111 1111 1111 1111",
        "ab",
        "ba",
        '"',
        "ssn ",
        "846155715",
        "password=Kim4ever!",
    ]
)


@pytest.fixture
def small_bounds(monkeypatch):
    monkeypatch.setattr(scanning, "STEP", 16)
    monkeypatch.setattr(scanning, "DOUBT", 12)
    monkeypatch.setattr(filtering, "DOUBT", 12)


def _parsers():
    detectors = (
        {"detector": name, "action": action}
        for name, action in zip(
            ("email", "credit_card", "secret", "national_id", "url_credentials"),
            ("redact", "mask", "redact", "hash", "flag"),
            strict=True,
        )
    )
    own = ({"detector": {"pattern": p, "whole_words": False}} for p in ("a[^#]*b", "ba", "x[^\n]*"))
    allowed = {"detector": {"pattern": r"a\.co", "whole_words": False}, "action": "allow"}
    return [SafetyParser(policy(*detectors)), SafetyParser(policy(*own, allowed))]


PARSERS = _parsers()


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(PARSERS),
    st.lists(PIECES, max_size=24).map("".join),
    st.lists(st.integers(0, 300), max_size=10),
    st.booleans(),
)
def _is_the_whole_text(parser, text, places, as_json):
    whole = parser.new_filter(as_json).feed(text, final=True)
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    for pieces in ([text[a:b] for a, b in itertools.pairwise(edges)], list(text)):
        stream, out, findings = parser.new_filter(as_json), "", []
        for piece in [*pieces, None]:
            step = stream.feed(piece or "", final=piece is None)
            out, findings = out + step.text, findings + step.findings
        assert out == whole.text
        assert findings == whole.findings


def test_a_stream_is_the_whole_text_where_doubts_are_cut_short(small_bounds):
    _is_the_whole_text()


def test_a_stream_is_the_whole_text_with_disguises_and_tails():
    _is_the_whole_text()
