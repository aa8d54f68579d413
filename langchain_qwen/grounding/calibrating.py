"""Makes a calibration of one's own: answers questions whose answers are known, and fits the risk of being wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.runnables import Runnable
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.grounding import features, prompts
from langchain_qwen.grounding.passages import read_passages
from langchain_qwen.grounding.quoting import Quoter
from langchain_qwen.grounding.risk import KEPT, Calibration, Logistic, fit
from langchain_qwen.grounding.verifying import declines, numbers
from langchain_qwen.grounding.words import words
from langchain_qwen.yes_or_no import ONE_TOKEN

_ANSWER_TOKENS = 80
_FOLDS = 5
_HELD = 0.75  # of the words of an expected answer that a right one holds
LEAST_ROWS = 60


class CalibrationRow(BaseModel):
    """A question whose answer is known.

    Attributes:
        question: As a user would ask it.
        passages: Texts, as a retriever would find them.
        answer: What a right answer holds: one of these; None where the passages do not answer.
        source: Which set it is from: quality is judged on sets that were not fitted on.
    """

    model_config = ConfigDict(extra="ignore")

    question: str = Field(min_length=1)
    passages: list[str] = Field(min_length=1)
    answer: str | list[str] | None
    source: str = ""

    def is_right(self, answer: str) -> bool:
        """Whether an answer holds what is expected, or most of its words; Yes and No have to come first."""
        if self.answer is None or declines(answer):
            return False
        said, told = words(answer), numbers(answer)

        def holds(word: str) -> bool:
            return word in said or (bool(numbers(word)) and numbers(word) <= told)

        for expected in [self.answer] if isinstance(self.answer, str) else self.answer:
            wanted = words(expected)
            if wanted in (["yes"], ["no"]):
                if said[:1] == wanted:
                    return True
            elif wanted and sum(map(holds, wanted)) >= _HELD * len(wanted):
                return True
        return False


class Observation(BaseModel):
    """What came of a row."""

    row: CalibrationRow
    answer: str
    declined: bool
    right: bool
    features: dict[str, float]


def read_rows(path: Path) -> list[CalibrationRow]:
    """The rows of a JSON Lines file.

    Raises:
        InvalidParameterError: A line is no such row.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                rows.append(CalibrationRow.model_validate(json.loads(line)))
            except (ValueError, ValidationError) as error:
                raise InvalidParameterError(
                    f'{path}, line {number}: need {{"question": ..., "passages": [...], "answer": ... or null}}; '
                    f"{error}"
                ) from error
    return rows


def read_observations(path: Path) -> list[Observation]:
    """What was observed before, of a file to which each was added as it came.

    Raises:
        InvalidParameterError: A line is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [Observation.model_validate_json(line) for line in lines if line.strip()]
    except (ValueError, ValidationError) as error:
        raise InvalidParameterError(
            f"{path} holds no observations; remove it, or name another file ({error})"
        ) from error


def observe(model: Runnable[Any, Any], rows: Sequence[CalibrationRow], *, at_once: int = 8) -> Iterator[Observation]:
    """Answer the rows as `GroundedAnswerer` does, and keep what is known of each answer.

    Args:
        model: A `ChatQwen`, or one that is bound.
        rows: Questions with known answers.
        at_once: How many share the model's steps.
    """
    today = date.today()
    writing = model.bind(max_tokens=_ANSWER_TOKENS, logprobs=True)
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        passages = [read_passages([Document(page_content=text) for text in row.passages]) for row in some]
        asked = [
            prompts.answer(shown, row.question, today, prompts.asked_language(shown, row.question))
            for shown, row in zip(passages, some, strict=True)
        ]
        answers = writing.batch(asked)
        quoters = [Quoter(shown, row.question) for shown, row in zip(passages, some, strict=True)]
        rated = list(zip(some, answers, quoters, strict=True))
        replies = model.bind(**prompts.STATED).batch(
            [prompts.stated(quoter.excerpt(answer.text), row.question) for row, answer, quoter in rated]
        )
        early = [prompts.stated(quoter.excerpt(), row.question) for row, _, quoter in rated]
        confirmed = [prompts.confirmed(prompt, answer.text) for prompt, answer in zip(asked, answers, strict=True)]
        odds = [prompts.log_odds(message) for message in model.bind(**ONE_TOKEN).batch([*early, *confirmed])]
        told = zip(replies, odds[: len(some)], odds[len(some) :], strict=True)
        for (row, answer, quoter), shown, (reply, before, after) in zip(rated, passages, told, strict=True):
            known = features.of_question(row.question, shown, quoter) | features.of_tokens([answer])
            known |= features.of_statement(answer.text, reply) | {"early": before, "confirmed": after}
            known |= features.of_answer(row.question, answer.text, shown, quoter)
            yield Observation(
                row=row,
                answer=answer.text,
                declined=declines(answer.text),
                right=row.is_right(answer.text),
                features=known,
            )


def calibrate(observations: Sequence[Observation], *, model: str, made: str) -> Calibration:
    """Fit the risks. Answers that say themselves that there is none need no odds and are left out.

    Raises:
        InvalidParameterError: There are too few, or all are right, or all wrong.
    """
    used = [one for one in observations if not one.declined]
    if len(used) < LEAST_ROWS:
        raise InvalidParameterError(
            f"{len(used)} answers are too few to calibrate on; give at least {LEAST_ROWS} rows, a third of them "
            "unanswerable"
        )
    found = _fitted(used, model, made)
    limits = {name: _limit(observations, judged_elsewhere(observations, name)) for name in ("early", "whole", "words")}
    limits["glance"] = round(median(found.glance.chance(one.features) for one in observations), 4)
    return found.model_copy(
        update={name: getattr(found, name).model_copy(update={"limit": limit}) for name, limit in limits.items()}
    )


def _limit(observations: Sequence[Observation], risks: Sequence[float]) -> float:
    """The risk below which most right answers are."""
    right = sorted(risk for one, risk in zip(observations, risks, strict=True) if one.right)
    return round(right[min(len(right) - 1, int(KEPT * len(right)))], 4)


def _fitted(used: Sequence[Observation], model: str, made: str) -> Calibration:
    def fitted(names: Sequence[str]) -> Logistic:
        return fit([one.features for one in used], [not one.right for one in used], names, features.RAISES)

    return Calibration(
        model=model,
        made=made,
        glance=fitted(features.GLANCE),
        early=fitted(features.EARLY),
        whole=fitted(features.WHOLE),
        words=fitted(features.WORDS),
    )


def judged_elsewhere(
    observations: Sequence[Observation], name: Literal["early", "whole", "words"] = "whole"
) -> list[float]:
    """The risk of each answer, by a fit on the other sources (on other rows, where all are of one source).

    Answers that decline have the risk 1.

    Args:
        observations: At least two sources, or rows, with right and wrong answers.
        name: Which of the models of a `Calibration`.
    """
    sources = sorted({one.row.source for one in observations})
    folds = [sources.index(one.row.source) if len(sources) > 1 else i % _FOLDS for i, one in enumerate(observations)]
    risks = [1.0] * len(observations)
    for fold in set(folds):
        others = [one for one, other in zip(observations, folds, strict=True) if other != fold]
        found = _fitted([one for one in others if not one.declined], "", "")
        for place, one in enumerate(observations):
            if folds[place] == fold and not one.declined:
                risks[place] = getattr(found, name).chance(one.features)
    return risks


def area(right: Sequence[float], wrong: Sequence[float]) -> float:
    """The chance that a wrong answer has the higher risk (the area under the ROC curve)."""
    pairs = [(a < b) + (a == b) / 2 for a in right for b in wrong]
    return sum(pairs) / len(pairs) if pairs else float("nan")


def trade_offs(
    observations: Sequence[Observation], risks: Sequence[float], limits: Sequence[float]
) -> list[dict[str, float]]:
    """What some limits would do.

    For each: the share of right answers kept, of unanswerable questions abstained from, and of what is answered that is
    right (not a number where nothing is answered).
    """
    table = []
    for limit in limits:
        kept = [risk <= limit for one, risk in zip(observations, risks, strict=True) if one.right]
        abstained = [risk > limit for one, risk in zip(observations, risks, strict=True) if one.row.answer is None]
        given = [one.right for one, risk in zip(observations, risks, strict=True) if risk <= limit]
        table.append(
            {
                "abstain_above": limit,
                "kept": round(sum(kept) / max(1, len(kept)), 3),
                "abstained": round(sum(abstained) / max(1, len(abstained)), 3),
                "right_of_given": round(sum(given) / len(given), 3) if given else float("nan"),
            }
        )
    return table
