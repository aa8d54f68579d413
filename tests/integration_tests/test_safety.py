"""Policies around a real model."""

from __future__ import annotations

import time

from pydantic import BaseModel

from langchain_qwen.safety import Category, Policy, SafetyParser
from langchain_qwen.safety.judging import judge_text


class Contact(BaseModel):
    name: str
    email: str


def policy(action: str, detector: object = "email") -> Policy:
    rule = {"id": "mail", "category": "pii", "detector": detector, "action": action}
    return Policy.parse({"name": "t", "version": "1", "refusal": {"en": "No."}, "rules": [rule]})


ASK = "Repeat exactly: Write to kim.lee@example.com today."


def test_a_stream_leaves_what_the_whole_answer_leaves(model):
    parser = SafetyParser(policy("redact"))
    whole = parser.invoke(model.invoke(ASK)).text
    streamed = "".join(chunk.text for chunk in parser.guard(model).stream(ASK))
    assert streamed == whole == parser.guard(model).invoke(ASK).text
    assert "[MAIL]" in whole
    assert "@" not in whole


def test_stop_ends_the_generation(model):
    guarded = SafetyParser(policy("stop", {"pattern": "three"})).guard(model)
    started = time.perf_counter()
    answer = guarded.invoke("Count from one to two hundred in words, separated by spaces.")
    assert "two" in answer.text.lower()
    assert "three" not in answer.text.lower()
    stopped = time.perf_counter() - started
    started = time.perf_counter()
    model.invoke("Count from one to two hundred in words, separated by spaces.")
    assert stopped < (time.perf_counter() - started) / 2


def test_structured_output_is_cleaned_and_valid(model):
    guarded = SafetyParser(policy("redact")).guard(model)
    found = guarded.with_structured_output(Contact).invoke("The contact is Kim, kim.lee@example.com")
    assert found.email == "[MAIL]"


def test_the_judge_gives_a_typed_verdict(model):
    verdict = judge_text(model, "How do I bake bread?", (Category.HATE.value, Category.SELF_HARM.value))
    assert verdict.category in ("hate", "self_harm", "none")
