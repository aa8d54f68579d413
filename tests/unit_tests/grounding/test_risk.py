"""The risk model, and the command that makes one."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.grounding import GroundedAnswerer, features
from langchain_qwen.grounding.__main__ import app
from langchain_qwen.grounding.calibrating import (
    CalibrationRow,
    area,
    calibrate,
    judged_elsewhere,
    observe,
    read_rows,
    trade_offs,
)
from langchain_qwen.grounding.kinds import Kind, fits, wanted
from langchain_qwen.grounding.risk import calibration_of, fit, read_calibration
from tests.unit_tests.grounding.scripted import ScriptedModel


def test_a_fit_finds_the_odds_that_made_the_rows():
    rng = random.Random(1)
    rows = [{"a": rng.gauss(0, 1), "b": rng.gauss(5, 3), "noise": rng.random()} for _ in range(4000)]
    odds = [0.5 + 2 * row["a"] - 0.3 * row["b"] for row in rows]
    wrong = [rng.random() < 1 / (1 + math.exp(-one)) for one in odds]
    found = fit(rows, wrong, ["a", "b", "noise"], raises={"a"})
    assert found.weights == pytest.approx({"a": 2, "b": -0.3, "noise": 0}, abs=0.3)
    # What speaks the other way than it can is left out, even all of it.
    turned = fit(rows, wrong, ["a", "b"], raises={"b"})
    assert turned.weights == {"a": 0, "b": 0}
    assert turned.chance({"a": 9.0, "b": 9.0}) == pytest.approx(sum(wrong) / len(rows), abs=1e-3)
    assert found.intercept == pytest.approx(0.5, abs=0.4)
    chances = [found.chance(row) for row in rows]
    assert sum(chances) / len(rows) == pytest.approx(sum(wrong) / len(rows), abs=1e-3)  # calibrated
    with pytest.raises(InvalidParameterError, match="right and answers that are wrong"):
        fit(rows, [True] * len(rows), ["a"])
    assert fit([{"a": 1.0}, {"a": 1.0}], [True, False], ["a"]).chance({"a": 1.0}) == pytest.approx(0.5)


@given(st.lists(st.floats(0, 1), max_size=6), st.lists(st.floats(0, 1), max_size=6))
def test_the_area_is_a_share_of_pairs(right, wrong):
    found = area(right, wrong)
    assert math.isnan(found) if not right or not wrong else 0 <= found <= 1
    if right and wrong:
        assert found + area(wrong, right) == pytest.approx(1)


def test_what_is_shipped_knows_the_features_and_both_sizes(tmp_path):
    class Named:
        model = "coder-0.5b"

    small, large = calibration_of(Named()), calibration_of(None)
    assert small != large
    Named.model = str(tmp_path)
    (tmp_path / "config.json").write_text('{"hidden_size": 896}')
    assert calibration_of(Named()) == small
    (tmp_path / "config.json").write_text('{"hidden_size": 1536}')
    assert calibration_of(Named()) == large
    for one in (small, large):
        assert set(one.whole.weights) == set(features.WHOLE)
        assert set(one.words.weights) == set(features.WORDS)
        assert set(one.early.weights) == set(features.EARLY)
        assert set(one.glance.weights) == set(features.GLANCE)


@pytest.mark.parametrize(
    ("found", "answer", "share"),
    [
        (None, "It opened in 1820.", 0),
        ("1820", "It opened in 1820.", 1),
        ("1820", "It opened in 1931.", 0),
        ("15 minutes", "The delay is fifteen minutes.", 1),
        ("the Pike family", "It was built by the Pike brothers.", 2 / 3),
        ("yes", "Yes, both are described as genera.", 1),
        ("No", "Yes, both are.", 0),
        ("yes", "Both are described as genera.", 0.5),
        ("...", "It opened in 1820.", 0),
        ("1820", "", 0),
    ],
)
def test_two_answers_agree_as_far_as_the_one_holds_the_words_of_the_other(found, answer, share):
    assert features.agreed(found, answer) == pytest.approx(share)


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_agrees_is_a_share_and_whole_for_the_same_words(found, answer):
    assert 0 <= features.agreed(found, answer) <= 1
    if features.agreed(found, found):
        assert features.agreed(found, found) == 1


FACTS = {"Ulm": "1901", "Kiel": "1877", "Rome": "1955", "Oslo": "1820", "Bern": "1760"}


def rows():
    found = []
    for number in range(20):
        for place, year in FACTS.items():
            passages = [f"The bridge of {place} was opened in {year}.", "The mill is old."]
            question = f"When was the bridge of {place} opened, in line {number}?"
            found.append({"question": question, "passages": passages, "answer": year, "source": f"set {number % 2}"})
            found.append(
                {"question": question, "passages": passages[1:], "answer": None, "source": f"set {number % 2}"}
            )
    return found


class Reader(ScriptedModel):
    """Answers with the year of the passage, or with one of its own."""

    def _stream(self, messages, *args, **kwargs):
        self.answer = next((f"In {year}." for year in FACTS.values() if year in messages[-1].text), "In 1666.")
        yield from super()._stream(messages, *args, **kwargs)


def test_a_calibration_is_made_saved_and_used(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows())) + "\n\n")
    model = Reader(
        states=lambda text: 0.8 if any(year in text.split("\n\nQuestion")[0] for year in FACTS.values()) else 0.2
    )
    observed = list(observe(model, read_rows(file)[:160], at_once=3))
    assert [one.right for one in observed] == [one.row.answer is not None for one in observed]
    assert set(features.WHOLE) | set(features.EARLY) <= set(observed[0].features)
    made = calibrate(observed, model="reader", made="a test")
    risks = judged_elsewhere(observed)
    assert (
        area(
            [r for r, o in zip(risks, observed, strict=True) if o.right],
            [r for r, o in zip(risks, observed, strict=True) if not o.right],
        )
        == 1.0
    )
    (half, none) = trade_offs(observed, risks, [0.5, 0.0])
    assert none["right_of_given"] != none["right_of_given"]  # nothing is answered
    assert (half["kept"], half["abstained"], half["right_of_given"]) == (1.0, 1.0, 1.0)
    path = tmp_path / "mine.json"
    made.save(path)
    assert read_calibration(path) == made
    answerer = GroundedAnswerer(["The bridge of Ulm was opened in 1901."], model, calibration=path, abstain_above=0.5)
    answer = answerer.invoke("When was the bridge of Ulm opened, in line 3?")
    assert answer.text == "In 1901. [1]"
    assert answer.risk is not None
    assert answer.risk < 0.5
    with pytest.raises(InvalidParameterError, match="too few"):
        calibrate(observed[:10], model="", made="")
    file.write_text('{"question": "?"}')
    with pytest.raises(InvalidParameterError, match="line 1"):
        read_rows(file)


def test_what_a_right_answer_holds():
    def right(expected, answer):
        return CalibrationRow(question="?", passages=["x"], answer=expected).is_right(answer)

    assert right("1932", "It was opened in 1932.")
    assert not right("1932", "It was opened in 1933.")
    assert right("四月", "在4月举行。")
    assert not right("四月", "在5月举行。")
    assert right(["no one", "nobody"], "Nobody did.")
    assert right("yes", "Yes, it is.")
    assert not right("yes", "No, though some say yes.")
    assert not right(None, "1932")
    assert not right("know", "I don't know.")
    assert right("国民议会议员", "他担任法国国民议会议员。")


@pytest.mark.parametrize(
    ("question", "kind", "fit", "unfit"),
    [
        ("When was it built?", Kind.DATE, "in March", "in the town"),
        ("In what year did she win?", Kind.DATE, "1932", "last"),
        ("How many people came?", Kind.NUMBER, "about two million", "a lot"),
        ("What percent of people came?", Kind.PERCENT, "40 %", "about two million people"),
        ("Who built it?", Kind.PERSON, "Ann", "the state"),
        ("Is it open?", Kind.YES_NO, "Yes.", "In Kiel."),
        ("多少人来了？", Kind.NUMBER, "三百人", "很久"),
        ("Кто построил мост?", Kind.PERSON, "Иван", "да"),
        ("¿Cuándo abrió?", Kind.DATE, "en marzo", "en casa"),
        ("Wie viel Prozent kamen?", Kind.PERCENT, "40 Prozent", "40"),
    ],
)
def test_the_kind_of_an_answer(question, kind, fit, unfit):
    assert wanted(question) is kind
    assert fits(kind, fit) is True
    assert fits(kind, unfit) is False
    assert fits(Kind.OTHER, unfit) is None


def test_the_command_takes_up_what_was_observed_before(tmp_path):
    file, observed, output = tmp_path / "rows.jsonl", tmp_path / "observed.jsonl", tmp_path / "mine.json"
    file.write_text("\n".join(map(json.dumps, rows())))
    model = Reader(states=lambda text: 0.8 if "was opened" in text.split("\n\nQuestion")[0] else 0.2)
    observed.write_text("\n".join(one.model_dump_json() for one in observe(model, read_rows(file))) + "\n")
    command = ["calibrate", str(file), "--observed", str(observed), "--output", str(output)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "100 of 200 right; risk tells them apart with an AUC of 1.00" in result.output
    assert read_calibration(output).whole.rows == 200
    observed.write_text("no observation\n")
    failed = CliRunner().invoke(app, command)
    assert failed.exit_code == 1
    assert "holds no observations" in failed.output
