"""Hashes that nobody finds the value of, and unions of findings that end."""

from __future__ import annotations

import hashlib
import pickle
import re
import subprocess
import sys

import pytest
from pydantic import SecretStr

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.safety import Policy, SafetyParser
from langchain_qwen.safety.filtering import HELD_BACK

KEY = b"0123456789abcdef-of-a-deployment"
SSN = "536-22-8726"


def parser(key=None, action="hash", rules=None):
    rule = {"id": "id", "category": "pii", "detector": {"pattern": r"\d{3}-\d\d-\d{4}"}, "action": action}
    policy = {"name": "t", "version": "1", "refusal": {"en": "No."}, "rules": rules or [rule]}
    return SafetyParser(Policy.parse(policy), hash_key=key)


def tag(parser, text=SSN):
    return parser.scan(f"is {text}.")[0].removeprefix("is [ID:").removesuffix("].")


@pytest.fixture(autouse=True)
def _no_key_of_the_environment(monkeypatch):
    monkeypatch.delenv("LANGCHAIN_QWEN_HASH_KEY", raising=False)


def test_a_hash_is_not_found_again_by_trying_all_numbers():
    """As it was: 48 bits of a plain SHA-256, of which all of the 10**9 SSNs were tried in seconds."""
    shown = tag(parser())
    assert re.fullmatch("[A-Z2-7]{16}", shown)
    assert hashlib.sha256(SSN.encode()).hexdigest()[:12].upper() not in shown
    assert shown != tag(parser(KEY)) != tag(parser(KEY + b"2"))


def test_the_key_of_the_deployment_makes_the_same_tag_everywhere(monkeypatch):
    expected = tag(parser(KEY))
    assert expected == tag(parser(SecretStr(KEY.decode())))
    monkeypatch.setenv("LANGCHAIN_QWEN_HASH_KEY", KEY.decode())
    assert expected == tag(parser())
    assert tag(parser(), "536-22-8727") != expected


def test_without_a_key_tags_are_those_of_one_process():
    assert tag(parser()) == tag(parser())
    code = "from tests.unit_tests.safety.test_pseudonyms import *; print(tag(parser()))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() != tag(parser())


@pytest.mark.parametrize("key", [b"", b"short", SecretStr("secret")])
def test_a_key_that_is_none_is_refused(key):
    with pytest.raises(InvalidParameterError, match="16"):
        parser(key)


def test_the_key_is_never_shown(caplog):
    caplog.set_level("DEBUG")
    filtering = parser(KEY)
    text, events = filtering.scan(f"is {SSN}")
    shown = f"{caplog.text}{text}{events}{filtering!r}{vars(filtering)}{filtering.new_filter().__dict__}"
    assert KEY.decode() not in shown


def test_a_pickle_keeps_the_tags():
    assert tag(pickle.loads(pickle.dumps(parser(KEY)))) == tag(parser(KEY))


def chain_of_overlaps(length):
    rules = [
        {"id": name, "category": "pii", "detector": {"pattern": pattern, "whole_words": False}, "action": "redact"}
        for name, pattern in (("a", "abbba"), ("b", "babbba"))
    ]
    return parser(rules=rules), "abbb" * length + "a"


def test_a_chain_of_overlapping_findings_does_not_hold_a_stream_without_end():
    """As it was: the whole chain, however long, waited for its end."""
    filtering, text = chain_of_overlaps(3000)
    stream, held, out = filtering.new_filter(), 0, ""
    for at in range(0, len(text), 100):
        out += stream.feed(text[at : at + 100]).text
        held = max(held, stream.held_back)
    out += stream.feed("", final=True).text
    assert held <= HELD_BACK
    assert out == filtering.scan(text)[0]
    assert "b" not in out


@pytest.mark.parametrize("size", [1, 7, 2048, 5000])
def test_the_parts_of_a_long_chain_are_the_same_however_it_is_cut(size):
    filtering, text = chain_of_overlaps(1500)
    stream = filtering.new_filter()
    steps = [stream.feed(text[at : at + size]) for at in range(0, len(text), size)] + [stream.feed("", final=True)]
    whole = filtering.new_filter().feed(text, final=True)
    assert "".join(step.text for step in steps) == whole.text
    assert [finding for step in steps for finding in step.findings] == whole.findings
