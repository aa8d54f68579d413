"""Forms of output: what their grammars let through is what their checks accept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_qwen.engine import Constraint
from langchain_qwen.output.plan import plan_output
from langchain_qwen.personas import BulletsForm, JsonForm, LabelsForm, SentencesForm, TableForm
from langchain_qwen.personas.sentences import count_sentences, split_sentences
from langchain_qwen.prompting import Tokenizer

TABLE = "| a | b |\n|---|---|\n| 1 | x y |\n| 2 | é |"
EXAMPLES = [
    (JsonForm(), '{"a": 1}', ["[1]", '{"a": 1} and', "Sure: {}", '{"a": ']),
    (
        JsonForm(json_schema={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}),
        '{"a": 1}',
        ['{"a": "1"}', "{}"],
    ),
    (TableForm(), TABLE, [TABLE + "\nDone.", "| a | b |", TABLE + "\n| 3 |", "Here:\n" + TABLE]),
    (TableForm(columns=("a", "b")), TABLE, [TABLE.replace("| b", "| c"), "| a |\n|---|\n| 1 |"]),
    (TableForm(columns=("é 😀",)), "| é 😀 |\n| --- |\n| 1 |", ["| e |\n| --- |\n| 1 |"]),
    (TableForm(max_rows=2), TABLE, [TABLE + "\n| 3 | z |"]),
    (BulletsForm(at_most=2), "- one\n- two - 3", ["- a\n- b\n- c", "one", "- a\nb", "* a", "- a\n  - b"]),
    (BulletsForm(at_most=1), "- one", ["- a\n- b"]),
    (BulletsForm(at_least=2, at_most=3), "- a\n- b", ["- a"]),
    (SentencesForm(at_most=1), "It is 3.14, says Dr. Smith.", ["One. Two.", "一。二。", "One.\nTwo.", "One.\x1fTwo."]),
    (SentencesForm(at_most=2), "George W. Bush came! He left (soon).", ["A b. C d. E f.", "Wer? Ich! Du?"]),
    (SentencesForm(at_most=2), "天是蓝的。草是绿的。", ["天是蓝的。草是绿的。水。"]),
    (LabelsForm(labels=("good", "bad", "très bien 😀")), "très bien 😀", ["goo", "good.", "the good", "très"]),
]
CASES = [pytest.param(form, right, wrong, id=f"{form.kind}-{n}") for n, (form, right, wrong) in enumerate(EXAMPLES)]


END = {264, 266}  # the two tokens that end an answer of the tiny checkpoint


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint):
    return Tokenizer.from_folder(tiny_checkpoint, 320, sorted(END))


def takes(tokenizer, form, text):
    """Whether the form's grammar takes the text as a whole answer."""
    constraint = Constraint(tokenizer.llguidance, plan_output(response_format=form.response_format()).grammar)
    constraint.check()
    matcher = constraint.matcher()
    for token in tokenizer.encode(text):
        if not matcher.allowed()[token]:
            return False
        matcher.accept(token)
    return matcher.complete or any(matcher.allowed()[token] for token in END)


@pytest.mark.parametrize(("form", "right", "wrong"), CASES)
def test_grammar_and_check_agree(tokenizer, form, right, wrong):
    assert form.problem(right) is None
    assert takes(tokenizer, form, right)
    for text in wrong:
        assert form.problem(text), text
        assert not takes(tokenizer, form, text), text


@pytest.mark.parametrize(("form", "right", "wrong"), CASES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=2)
def test_whatever_the_grammar_lets_through_passes_the_check(tokenizer, form, right, wrong, seed):
    """Random tokens, as from a model that knows nothing."""
    constraint = Constraint(tokenizer.llguidance, plan_output(response_format=form.response_format()).grammar)
    matcher, random, ids = constraint.matcher(), np.random.default_rng(seed), []
    # Ends soon where it may, so that the walk is short.
    while not matcher.complete and len(ids) < 1500:
        allowed = np.flatnonzero(matcher.allowed())
        if END & set(allowed) and random.random() < 0.5:
            break
        token = int(random.choice([token for token in allowed if token not in END]))
        matcher.accept(token)
        ids.append(token)
    if len(ids) < 1500:
        text = b"".join(tokenizer.token_bytes(token) for token in ids).decode()
        assert form.problem(text) is None, text


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("Hello", ["Hello"]),
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said "Go." Then he went.', ['He said "Go."', "Then he went."]),
        ("Pi is 3.14. It is irrational...", ["Pi is 3.14.", "It is irrational..."]),
        ("See example.org, e.g. today. Bye.", ["See example.org, e.g. today.", "Bye."]),
        ("J. R. R. Tolkien wrote it. Mr. Bilbo read it.", ["J. R. R. Tolkien wrote it.", "Mr. Bilbo read it."]),
        ("1. Go. 2. Come.", ["1. Go.", "2. Come."]),
        ("今天天气好。明天呢？", ["今天天气好。", "明天呢？"]),
        ("यह सच है। वह नहीं।", ["यह सच है।", "वह नहीं।"]),
        ("كيف حالك؟ بخير.", ["كيف حالك؟", "بخير."]),
        ("A line\nanother\n\n- third", ["A line", "another", "- third"]),
    ],
)
def test_sentences(text, sentences):
    assert split_sentences(text) == sentences
    assert count_sentences(text) == len(sentences)


PIECES = [
    "Dr. ",
    "A",
    "W. ",
    "e.g. ",
    "3.",
    "14",
    ". ",
    "! ",
    "。",
    "word",
    " ",
    "George ",
    "1. ",
    ".) ",
    "?",
    "\n",
    '"',
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.integers(1, 4))
@settings(deadline=None, max_examples=150)
def test_the_grammar_never_lets_more_sentences_through(tokenizer, text, limit):
    form = SentencesForm(at_most=limit)
    if takes(tokenizer, form, text):
        assert count_sentences(text) <= limit


def test_json_that_no_other_reader_takes_is_none():
    assert "NaN" in JsonForm().problem('{"a": NaN}')
    assert "deeply" in JsonForm().problem('{"a": ' + "[" * 100_000)


def test_labels_have_no_white_space_around_them():
    with pytest.raises(ValueError, match="white space"):
        LabelsForm(labels=("yes ", "no"))
