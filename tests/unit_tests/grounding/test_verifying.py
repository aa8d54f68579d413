"""Facts are compared in every format."""

from __future__ import annotations

from datetime import date

import pytest

from langchain_qwen.grounding.cutoff import named_years
from langchain_qwen.grounding.verifying import declines, numbers, support, years


@pytest.mark.parametrize(
    ("statement", "evidence"),
    [
        ("It was released on 10 December 2020.", "released on Dec. 10, 2020"),
        ("Er erschien am 10. Dezember 2020.", "erschien am 2020-12-10"),
        ("发布于2020年12月10日", "2020年12月10日发布"),
        ("It cost 1,234,567 euros.", "es kostete 1.234.567 euros, it cost"),
        ("It cost 1.5 million.", "it cost 1,5 million"),
        ("There are 7 gates.", "there are seven gates"),
        ("Seven gates were built.", "7 gates were built"),
        ("٤٧ people died", "47 people died"),
        ("It is 12.50 high", "it is 12.5 high"),
        ("Ana Ferreira built it.", "built by Ana FERREIRA"),
        ("The prize went to François Englert.", "the prize: Francois Englert"),
        ("The sign says 'keep out'.", "the sign says “Keep out”"),
        ("The towers' builders", "the tower builder"),
    ],
)
def test_supported(statement, evidence):
    found = support(statement, evidence)
    assert found.missing == ()
    assert found.coverage >= 0.5


@pytest.mark.parametrize(
    ("statement", "evidence", "missing"),
    [
        ("It was released in 2019.", "released in 2020", ("2019",)),
        ("It was released on 10 November 2020.", "released on 2020-12-10", ("November",)),
        ("It costs 15 euros.", "it costs 1.5 euros", ("15",)),
        ("It was built by Ana Ferreira.", "built by Ana Costa", ("Ferreira",)),
        ("The sign says “keep off”.", "the sign says keep out", ("keep off",)),
        ("It has 112 rooms.", "it has 11 or 12 rooms", ("112",)),
    ],
)
def test_missing_facts(statement, evidence, missing):
    assert support(statement, evidence).missing == missing


def test_numbers_within_names():
    evidence = "Revenue of the third quarter was 6.3 billion dollars, said the maker of the A320."
    assert support("In Q3 revenue was $6.3 billion.", evidence, "What was the revenue in Q3?").missing == ()
    assert support("It makes the A320.", evidence).missing == ()
    assert support("It makes the A380.", evidence).missing == ("380", "A380")
    assert support("MU5735航班在广西坠毁。", "客机在广西坠毁", "MU5735航班在哪里坠毁？").missing == ()
    assert support("2022年有189例。", "有189例。", "2022年有多少例？").missing == ("2022",)
    assert support("MU5736航班在广西坠毁。", "客机在广西坠毁", "MU5735航班在哪里坠毁？").missing == ("5736",)
    assert support("In the fourth quarter, 4 fell.", evidence).missing == ("4",)


def test_what_the_prompt_calls_passages_is_no_fact():
    assert support("According to Passage 1, it is red.", "It is red.").missing == ()
    assert support("Passages 2 and 3 say that it is red.", "It is red.").missing == ()
    assert support("It is on page 12.", "It is red.").missing == ("12",)


def test_names_of_the_question_may_be_repeated_but_not_its_numbers():
    question = "When did the Marlinda sink in 1988?"
    assert support("The ship Marlinda sank in May.", "the ship sank in May", question).missing == ()
    assert support("The ship sank in 1988.", "the ship sank", question).missing == ("1988",)


def test_coverage_is_the_share_of_words_found():
    assert support("photosynthesis turns light into sugar", "the mill makes sugar").coverage == pytest.approx(0.2)
    assert support("植物吸收阳光", "磨坊生产糖").coverage == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,000", {"1000", "1"}),
        ("1.000,5", {"1000.5"}),
        ("3 May", {"3", "5"}),
        ("2020-01-05", {"2020", "1", "5"}),
        ("007", {"7"}),
    ],
)
def test_numbers(text, expected):
    assert numbers(text) >= expected


def test_years():
    assert years("In 1998 and 2031, 20,000 people paid 1999.50 for 12345") == ["1998", "2031"]
    assert years("据公报，2023年五一，2024.5.1") == ["2023", "2024"]
    assert named_years("Who won last year and this year?", date(2026, 3, 1)) == ["2026", "2025"]
    assert named_years("今年的冠军", date(2026, 3, 1)) == ["2026"]


@pytest.mark.parametrize(
    "statement",
    [
        "The CEO of Tesla in 2021 was not specified in the given passage.",
        "The passages don't mention who won.",
        "There is no information on this in the text; the context does not provide the year.",
        "文中没有提到他的年龄。",
        "Das Jahr wird nicht genannt.",
        "Год не указан.",
    ],
)
def test_what_says_that_it_is_not_said(statement):
    assert declines(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "The bridge was not opened in 1932.",
        "No passage through the strait was found before 1906.",
        "He did not give up.",
        "The text was not written by Homer.",
        "他没有去北京。",
    ],
)
def test_what_says_something(statement):
    assert not declines(statement)


def test_a_capital_within_a_word_begins_no_name():
    assert support("The iPod was sold on eBay.", "the ipod, sold on eBay").missing == ()
    assert support("He met Ann.", "He met Ben.").missing == ("Ann",)
    # A name ends where a script without spaces goes on; an era is none.
    assert support("它可在Mac OS X等平台运行。", "它可在 Mac OS X 平台上运行。").missing == ()
    assert support("它可在 Solaris等平台运行。", "它可在 Mac OS X 平台上运行。").missing == ("Solaris",)
    assert support("She was born in 780 AD.", "born in 780").missing == ()
