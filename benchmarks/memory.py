"""Questions without passages: how well does the risk of an answer from memory tell right ones from wrong ones?

The questions are our own (benchmarks/calibration/memory.jsonl): common knowledge, and news of before the model's
cutoff. Each risk is read off a fit on the other nine tenths. `--write FILE` puts the fit on all of them into a
calibration as `memory`, which is where those in the package come from.

    python -m benchmarks.memory --model coder-1.5b
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Row, argument_parser, print_environment, print_result, read_rows, run_all
from benchmarks.grounding_judging import abstains, contains_answer
from langchain_qwen import ChatQwen
from langchain_qwen.grounding import features, memory
from langchain_qwen.grounding.calibrating import area
from langchain_qwen.grounding.guard import news_odds, news_prompts
from langchain_qwen.grounding.risk import Logistic, fit, read_calibration
from langchain_qwen.yes_or_no import ONE_TOKEN

QUESTIONS = Path(__file__).parent / "calibration" / "memory.jsonl"
MAX_TOKENS = 160
FOLDS = 10
UNMARKED = 0.75
"""The share of right answers that the limit leaves without a note."""


def main() -> None:
    """Ask, fit and print."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--at-once", type=int, default=8, help="questions at the same time")
    parser.add_argument("--write", type=Path, help="a calibration to write the fit into")
    args = parser.parse_args()
    print_environment()
    model = ChatQwen(model=args.model, precision=args.precision, temperature=0)
    model.load()

    def asked(row: Row) -> Row:
        said = model.invoke(row["question"], max_tokens=MAX_TOKENS, logprobs=True)
        news = news_odds(model.bind(**ONE_TOKEN).batch([*news_prompts(row["question"])]))
        known = {**features.of_tokens([said]), "news": news}
        right = contains_answer(said.text, [row["answers"]])
        return {"features": known, "right": right, "declines": not right and abstains(said.text)}

    rows = [row for row in run_all("memory", asked, read_rows(QUESTIONS), at_once=args.at_once) if not row["declines"]]
    risks = np.zeros(len(rows))
    for fold in range(FOLDS):
        found = fitted([row for number, row in enumerate(rows) if number % FOLDS != fold])
        risks[fold::FOLDS] = [found.chance(row["features"]) for row in rows[fold::FOLDS]]
    right = [risk for risk, row in zip(risks, rows, strict=True) if row["right"]]
    wrong = [risk for risk, row in zip(risks, rows, strict=True) if not row["right"]]
    limit = round(float(np.quantile(right, UNMARKED)), 4)
    whole = fitted(rows).model_copy(update={"limit": limit})
    if args.write:
        read_calibration(args.write).model_copy(update={"memory": whole}).save(args.write)
    print_result(
        {
            "benchmark": "memory",
            "model": args.model,
            "answers": len(rows),
            "right": len(right),
            "auc": round(area(right, wrong), 3),
            "unsure_above": limit,
            "wrong_marked": round(sum(risk > limit for risk in wrong) / len(wrong), 3),
            "right_marked": round(sum(risk > limit for risk in right) / len(right), 3),
            "fit": whole.model_dump(),
        }
    )


def fitted(rows: Sequence[Row]) -> Logistic:
    """The risk as a function of what is known of an answer."""
    table: list[dict[str, Any]] = [row["features"] for row in rows]
    return fit(table, [not row["right"] for row in rows], memory.FEATURES, memory.RAISES)


if __name__ == "__main__":
    main()
