"""Is the answer in the right language?

The rows of xquad.jsonl, five passages with a question in each of 12 languages; all instructions are in English. `auto`:
the answer has to be in the language of the question; `auto_mixed`: the same where the passage is in another language;
`forced`: another language is asked for, the next of the twelve. `plain` and `plain_mixed`: the model with the same
instructions and no persona. fastText judges (see judging.py); an answer without letters is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage
from rich.console import Console
from rich.table import Table

from benchmarks.common import Row, argument_parser, print_environment, print_result, read_rows, run_all, share
from benchmarks.judging import language_of_text
from langchain_qwen import ChatQwen
from langchain_qwen.personas import Persona

INSTRUCTIONS = "You are a helpful assistant. Answer the question from the text, in one full sentence."
PARTS = ("auto", "auto_mixed", "forced", "plain", "plain_mixed")
READER = Persona(name="reader", instructions=INSTRUCTIONS, retry_language=True)


@dataclass(frozen=True)
class Job:
    """A row to answer.

    Attributes:
        prompt: Passage and question.
        wanted: The language of a right answer.
        persona: Who answers; None for the plain model.
    """

    prompt: str
    wanted: str
    persona: Persona | None


@dataclass(frozen=True)
class Result:
    """The languages of an answer."""

    wanted: str
    answered: str | None
    text: str

    @property
    def right(self) -> bool:
        """Whether it is the one that was wanted."""
        return self.answered == self.wanted


def answer(job: Job, model: ChatQwen) -> Result:
    """Ask and judge."""
    if job.persona is None:
        text = model.invoke([SystemMessage(INSTRUCTIONS), HumanMessage(job.prompt)]).text
    else:
        text = job.persona.with_model(model).invoke(job.prompt).text
    return Result(job.wanted, language_of_text(text), text)


def jobs_of(rows: Sequence[Row]) -> dict[str, list[Job]]:
    """The jobs of each part."""
    languages = list(dict.fromkeys(row["lang"] for row in rows))
    passages = {(row["question_id"], row["lang"]): row["context"] for row in rows}
    jobs: dict[str, list[Job]] = {name: [] for name in PARTS}
    for row in rows:
        asked, following = row["lang"], languages[(languages.index(row["lang"]) + 1) % len(languages)]
        own = f"{row['context']}\n\n{row['question']}"
        # English passages are the commonest ones; English questions get one in the next language.
        foreign = passages.get((row["question_id"], "en" if asked != "en" else following), row["context"])
        mixed = f"{foreign}\n\n{row['question']}"
        jobs["auto"].append(Job(own, asked, READER))
        jobs["auto_mixed"].append(Job(mixed, asked, READER))
        jobs["forced"].append(Job(own, following, READER.replace(language=following)))
        jobs["plain"].append(Job(own, asked, None))
        jobs["plain_mixed"].append(Job(mixed, asked, None))
    return jobs


def print_languages(results: dict[str, list[Result]]) -> None:
    """A table of right answers by the language that was wanted."""
    table = Table("language", *results, title="Answers in the right language")
    for language in dict.fromkeys(result.wanted for given in results.values() for result in given):
        cells = []
        for given in results.values():
            judged = [r.right for r in given if r.wanted == language and r.answered is not None]
            cells.append(f"{sum(judged)}/{len(judged)}")
        table.add_row(language, *cells)
    Console().print(table)


def main() -> None:
    """Run all parts and print their results."""
    parser = argument_parser("The language of answers with and without a persona.")
    parser.add_argument("--limit", type=int, help="only so many rows, taken evenly over the languages")
    parser.add_argument("--max-tokens", type=int, default=96, help="the longest answer")
    parser.add_argument("--concurrency", type=int, default=4, help="requests at the same time")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these")
    options = parser.parse_args()
    print_environment()
    rows = read_rows(options.data / "xquad.jsonl")
    # One question in all languages, then the next.
    given = list(dict.fromkeys(row["question_id"] for row in rows))
    rows.sort(key=lambda row: given.index(row["question_id"]))
    rows = rows[: options.limit]
    questions = list(dict.fromkeys(row["question_id"] for row in rows))
    places = {q: [n for n, row in enumerate(rows) if row["question_id"] == q] for q in questions}
    with ChatQwen(
        model=options.model, precision=options.precision, temperature=0, max_tokens=options.max_tokens
    ) as model:
        jobs = {name: jobs for name, jobs in jobs_of(rows).items() if name in options.parts}
        # All parts of a question together, so that its passages come from the engine's cache.
        order = [(question, name, n) for question in questions for name in jobs for n in places[question]]
        answers = run_all(
            "all parts",
            partial(answer, model=model),
            [jobs[name][n] for _, name, n in order],
            at_once=options.concurrency,
        )
        results = {name: [a for a, (_, part, _) in zip(answers, order, strict=True) if part == name] for name in jobs}
    for name, given in results.items():
        for result in given:
            if result.answered not in (None, result.wanted):
                print(f"{name}: {result.answered} for {result.wanted}: {result.text!r:.120}")
    print_languages(results)
    shares: dict[str, Any] = {
        name: share(result.right for result in given if result.answered is not None) for name, given in results.items()
    }
    not_judged = {name: sum(r.answered is None for r in given) for name, given in results.items()}
    print_result(
        {
            "benchmark": "languages",
            **shares,
            "rows": len(rows),
            "not_judged": not_judged,
            "model": options.model,
            "precision": options.precision,
            "max_tokens": options.max_tokens,
        }
    )


if __name__ == "__main__":
    main()
