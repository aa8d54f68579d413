"""The checkers of IFEval's instructions."""

from __future__ import annotations

import pytest

from benchmarks.ifeval import CHECKS, enforceable, follows
from benchmarks.judging import language_of_text

BULLETS = "* one\n* two"
SECTIONS = {"section_spliter": "Part", "num_sections": 2}
CAPITALS = {"capital_frequency": 2, "capital_relation": "at least"}
CASES = [
    ("keywords:existence", {"keywords": ["sun", "moon"]}, "The Sun and the moons", "The sun"),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": "at least"}, "sun Sunday", "sun"),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": "less than"}, "sun", "sun sun"),
    ("keywords:forbidden_words", {"forbidden_words": ["sun"]}, "sunny", "The Sun."),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 2, "let_relation": "at least"}, "Qq", "q"),
    ("keywords:letter_frequency", {"letter": "i", "let_frequency": 2, "let_relation": "less than"}, "I am", "I will"),
    (
        "language:response_language",
        {"language": "de"},
        "Das ist eine schöne alte Mühle.",
        "This is a fine old mill by the river.",
    ),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "One.", "One. Two."),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "One. Two!", "One."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb\n***", "a***\n***b"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "one two three", "one two"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
        'a\n\n"So, b',
        "so\n\nb",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S. x", "P.S. x"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. x", "Bye."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, BULLETS, BULLETS + "\n- three"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* **b**", "*a* b"),
    (
        "detectable_format:multiple_sections",
        SECTIONS,
        "Part 1\nx\nPart 2",
        "Part 1",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "a: 1"),
    ("detectable_format:title", {}, "<<Song>>\nla", "<< >>"),
    ("combination:two_responses", {}, "a\n******\nb", "a\n******\na"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. It!", "It! Say it."),
    ("startend:end_checker", {"end_phrase": "The end."}, 'So. "the end."', "The end. No."),
    ("startend:quotation", {}, '"All of it."', '"All" of it.'),
    (
        "change_case:capital_word_frequency",
        CAPITALS,
        "A BIG cat",
        "A cat",
    ),
    ("change_case:english_capital", {}, "THIS IS ALL IN CAPITAL LETTERS.", "This is NOT."),
    ("change_case:english_lowercase", {}, "this is all in small letters.", "This is not."),
    ("punctuation:no_comma", {}, "a and b", "a, b"),
]


def row(kind, kwargs):
    return {"instruction_id_list": [kind], "kwargs": [kwargs]}


@pytest.mark.parametrize(("kind", "kwargs", "right", "wrong"), CASES)
def test_checkers(kind, kwargs, right, wrong):
    assert follows(row(kind, kwargs), right) == [True]
    assert follows(row(kind, kwargs), wrong) == [False]
    assert follows(row(kind, kwargs), " ") == [False]


def test_every_kind_is_tested():
    assert {case[0] for case in CASES} == set(CHECKS)
    assert len(CHECKS) == 25


def test_what_can_be_enforced():
    assert enforceable(row("detectable_format:json_format", {})) == {"output": {"kind": "json"}}
    assert enforceable(row("language:response_language", {"language": "hi"})) == {"language": "hi"}
    assert enforceable(row("punctuation:no_comma", {})) == {}
    both = {
        "instruction_id_list": ["detectable_format:number_bullet_lists", "length_constraints:number_paragraphs"],
        "kwargs": [{"num_bullets": 2}, {"num_paragraphs": 2}],
    }
    assert enforceable(both) == {}
    both["instruction_id_list"][1] = "keywords:existence"
    assert enforceable(both)["output"]["at_most"] == 2


def test_the_judge():
    assert language_of_text("Ceci est un vieux moulin.") == "fr"
    assert language_of_text("1742!") is None
