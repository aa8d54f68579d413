"""Loops of answers under a grammar end; what is no loop is not touched."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLTokenizer
from transformers import AutoModelForCausalLM

from langchain_qwen.engine import Constraint, Finished, Request, SamplingParams, Token
from langchain_qwen.engine.local import LocalEngine
from langchain_qwen.engine.runners.torch.runner import ATTENTION, TransformersRunner
from langchain_qwen.engine.sampling import Loop
from langchain_qwen.engine.sequence import Sequence
from tests.tiny import tiny_tokenizer

STOP = frozenset([264, 266])
TOKENIZER = tiny_tokenizer()
ZEROS = np.zeros(10, np.float32)


@pytest.fixture(scope="module")
def engine(tiny_checkpoint):
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, attn_implementation=ATTENTION).float()
    engine = LocalEngine(TransformersRunner(model, "fp32"), model="tiny", context_window=1024, num_blocks=128)
    yield engine
    engine.close()


def answer(engine, grammar, max_tokens, favourite=()):
    """The answer of a model that likes some tokens best."""
    bias = {TOKENIZER.token_to_id(token): 12.0 for token in favourite}
    vocabulary = LLTokenizer(TOKENIZER.to_str(), n_vocab=320, eos_token=sorted(STOP))
    events = list(
        engine.stream(
            Request(
                (5, 6), max_tokens, STOP, SamplingParams(logit_bias=bias), constraint=Constraint(vocabulary, grammar)
            )
        )
    )
    assert isinstance(events[-1], Finished)
    return TOKENIZER.decode([e.id for e in events if isinstance(e, Token)]), events[-1].reason


@pytest.mark.parametrize(
    ("grammar", "favourite"),
    [
        (r'start: "{\"a\": \"" /x*/ "\", \"b\": 1}"', ["x"]),  # within a string
        (r'start: "[" item ("," item)* "]"' "\n" 'item: "1"', [","]),  # within a list
    ],
)
def test_a_loop_ends_and_what_must_follow_it_is_written(engine, monkeypatch, grammar, favourite):
    text, reason = answer(engine, grammar, 300, favourite)
    assert reason == "stop"
    json.loads(text)
    assert len(text) > 64
    monkeypatch.setattr(Loop, "add", lambda _self, _token: None)
    endless, reason = answer(engine, grammar, 300, favourite)
    assert reason == "length"
    assert text[:150] == endless[:150]  # the first half is as it was


def test_rows_of_zeros_within_the_first_half_are_copied():
    rows = ",".join(["[" + ",".join("0" * 8) + "]"] * 10)
    assert len(rows) > Loop.LATE * 2
    loop = Loop(max_tokens=1000)
    for character in rows:
        loop.add(ord(character))
    logits = np.zeros(128, np.float32)
    assert loop.lower(logits) is logits


def test_a_loop_of_a_long_answer_ends_before_half_of_it():
    loop = Loop(max_tokens=8192)
    lowered_after = next(n for n in range(1, 8192) if (loop.add(n % 7), loop.lower(ZEROS).any())[1])
    assert lowered_after == Loop.ANYWHERE + 7
    for _ in range(40):
        loop.add(3)
    assert loop.lower(ZEROS)[3] <= -0.25
    assert not loop.lower(ZEROS)[7:].any()  # what is no part of the loop


@settings(max_examples=60, deadline=None)
@given(
    before=st.lists(st.integers(0, 9), max_size=150),
    period=st.lists(st.integers(0, 9), min_size=1, max_size=130),
    times=st.integers(1, 12),
    max_tokens=st.integers(1, 400),
)
def test_equals_the_naive_way(before, period, times, max_tokens):
    """The definition, looked up anew at each token."""
    tokens, loop, lowered = [*before, *period * times], Loop(max_tokens), np.zeros(10, np.float32)
    for end, token in enumerate(tokens, 1):
        loop.add(token)
        seen = tokens[:end]
        least = 64 if end > max_tokens // 2 else 512
        for length in range(1, 129):
            run = 0
            while run + length < end and seen[end - 1 - run] == seen[end - 1 - run - length]:
                run += 1
            if run >= max(2 * length, least):
                lowered[sorted(set(seen[-length:]))] -= np.float32(0.25)
                break
        assert (loop.lower(ZEROS) == lowered).all()


def test_text_without_a_grammar_is_left_alone():
    request = Request((1,), 10, STOP, SamplingParams())
    assert Sequence(request, lambda _event: None)._loop is None
