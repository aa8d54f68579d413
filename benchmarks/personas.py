"""Do personas follow instructions, and do their forms hold?

(a) ifeval.jsonl answered by the plain model and by the built-in assistant, with those of a row's instructions enforced
that a form or a language can enforce: the share of rows whose instructions are all followed (strict). (b) Each row once
more with a form that its prompt does not ask for, by turns JSON, a table, bullet points, at most two sentences, labels.
`formats_held` is the share of answers in an enforced form, of (a) and (b), that are in it. (c) With --tasks,
gsm8k.jsonl and humaneval.jsonl through `solve` and `write_code`, and through plain prompts.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage
from rich.console import Console
from rich.table import Table

from benchmarks.common import Row, argument_parser, print_environment, print_result, read_rows, run_all, share
from benchmarks.ifeval import enforceable, follows
from benchmarks.scoring import gsm8k_prompt, gsm8k_right, humaneval_prompt, humaneval_right
from langchain_qwen import ChatQwen
from langchain_qwen.errors import OutputTruncatedError
from langchain_qwen.personas import (
    BulletsForm,
    JsonForm,
    LabelsForm,
    Persona,
    SentencesForm,
    TableForm,
    builtin,
)
from langchain_qwen.personas.formats import Form
from langchain_qwen.personas.tasks import solve, write_code

FORMS: tuple[Form, ...] = (
    JsonForm(),
    TableForm(max_rows=4),
    BulletsForm(at_most=4),
    SentencesForm(at_most=2),
    LabelsForm(labels=("serious", "funny", "practical")),
)


@dataclass(frozen=True)
class Answer:
    """An answer to a row.

    Attributes:
        text: What was said; None where `max_tokens` ended it within its form.
        form: The form it had to have.
    """

    text: str | None
    form: Form | None

    @property
    def held(self) -> bool:
        """Whether it is in its form."""
        return self.text is not None and (self.form is None or self.form.problem(self.text) is None)


def ask(job: tuple[Persona | None, Any], model: ChatQwen) -> Answer:
    """The answer of a persona, or of the plain model."""
    persona, prompt = job
    if persona is None:
        return Answer(model.invoke(prompt).text, None)
    try:
        answer: AIMessage = persona.with_model(model).invoke(prompt)
    except OutputTruncatedError:
        return Answer(None, persona.output)
    return Answer(answer.text, persona.output)


def followed(rows: list[Row], answers: list[Answer]) -> list[list[bool]]:
    """For each row, which of its instructions were followed."""
    return [follows(row, answer.text or "") for row, answer in zip(rows, answers, strict=True)]


def print_kinds(rows: list[Row], columns: dict[str, list[list[bool]]]) -> None:
    """A table of followed instructions by their kinds."""
    table = Table("kind", "rows", *columns, title="Instructions followed")
    kinds = sorted({kind for row in rows for kind in row["instruction_id_list"]})
    for kind in kinds:
        cells = []
        for results in columns.values():
            right = [ok for row, oks in zip(rows, results, strict=True) for ok in _of_kind(row, oks, kind)]
            cells.append(f"{sum(right)}")
        count = sum(row["instruction_id_list"].count(kind) for row in rows)
        table.add_row(kind, str(count), *cells)
    Console().print(table)


def _of_kind(row: Row, oks: list[bool], kind: str) -> list[bool]:
    return [ok for name, ok in zip(row["instruction_id_list"], oks, strict=True) if name == kind]


def run_tasks(model: ChatQwen, maths: list[Row], code: list[Row], at_once: int) -> dict[str, float | None]:
    """Shares of right answers, by tasks and by plain prompts."""
    solver, programmer = solve(model), write_code(model)
    together = partial(run_all, at_once=at_once)

    def solved(row: Row) -> bool:
        solution = solver.invoke(row["question"])
        return gsm8k_right(row, f"\\boxed{{{solution.answer}}}")

    def written(row: Row) -> bool:
        return humaneval_right(row, f"```python\n{programmer.invoke(humaneval_prompt(row)).code}\n```")

    def solved_plainly(row: Row) -> bool:
        return gsm8k_right(row, model.invoke(gsm8k_prompt(row)).text)

    def written_plainly(row: Row) -> bool:
        return humaneval_right(row, model.invoke(humaneval_prompt(row)).text)

    return {
        "gsm8k": share(together("gsm8k, solve", solved, maths)),
        "gsm8k_plain": share(together("gsm8k, plain", solved_plainly, maths)),
        "humaneval": share(together("humaneval, write_code", written, code)),
        "humaneval_plain": share(together("humaneval, plain", written_plainly, code)),
    }


def main() -> None:
    """Run all parts and print their results."""
    parser = argument_parser("Instruction following and forms of output with personas.")
    parser.add_argument("--limit", type=int, help="only so many rows of each set")
    parser.add_argument("--max-tokens", type=int, default=768, help="the longest answer")
    parser.add_argument("--concurrency", type=int, default=4, help="requests at the same time")
    parser.add_argument("--tasks", action="store_true", help="also GSM8K and HumanEval")
    options = parser.parse_args()
    print_environment()
    rows = read_rows(options.data / "ifeval.jsonl", options.limit)
    prompts = [row["prompt"] for row in rows]
    assistant = builtin("assistant")
    with ChatQwen(
        model=options.model, precision=options.precision, temperature=0, max_tokens=options.max_tokens
    ) as model:
        together = partial(run_all, work=partial(ask, model=model), at_once=options.concurrency)
        enforced = [assistant.replace(**enforceable(row)) for row in rows]
        answers = {
            "ifeval": together("persona, enforced", items=list(zip(enforced, prompts, strict=True))),
            "ifeval_free": together("persona, not enforced", items=[(assistant, prompt) for prompt in prompts]),
            "ifeval_plain": together("plain", items=[(None, prompt) for prompt in prompts]),
        }
        shaped = [assistant.replace(output=FORMS[n % len(FORMS)]) for n in range(len(rows))]
        in_form = together("any form", items=list(zip(shaped, prompts, strict=True)))
        tasks: dict[str, float | None] = {}
        if options.tasks:
            maths = read_rows(options.data / "gsm8k.jsonl", options.limit)
            code = read_rows(options.data / "humaneval.jsonl", options.limit)
            tasks = run_tasks(model, maths, code, options.concurrency)
    results = {name: followed(rows, given) for name, given in answers.items()}
    print_kinds(rows, results)
    formed = [answer for answer in (*answers["ifeval"], *in_form) if answer.form is not None]
    held = defaultdict(list)
    for answer in formed:
        held[answer.form.kind if answer.form else ""].append(answer.held)
        if not answer.held:
            print(f"not held: {answer.form}: {answer.text!r:.200}")
    print_result(
        {
            "benchmark": "personas",
            "formats_held": share(answer.held for answer in formed),
            **{name: share(all(oks) for oks in given) for name, given in results.items()},
            "formats_held_by_kind": {kind: f"{sum(oks)}/{len(oks)}" for kind, oks in held.items()},
            "instructions_followed": {
                name: share(ok for oks in given for ok in oks) for name, given in results.items()
            },
            **tasks,
            "rows": len(rows),
            "answers_in_forms": len(formed),
            "model": options.model,
            "precision": options.precision,
            "max_tokens": options.max_tokens,
        }
    )


if __name__ == "__main__":
    main()
