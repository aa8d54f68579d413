"""Problems that take steps."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable

from langchain_qwen.personas.formats import SentencesForm
from langchain_qwen.personas.persona import builtin
from langchain_qwen.personas.tasks.steps import Ask, Result, Steps, task

_ASKED = "Please reason step by step, and put your final answer within \\boxed{}."
_ONLY = "State your final answer again, and nothing else."
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_TEXT = re.compile(r"\\(?:text|mathrm)\s*\{([^{}]*)\}")
# Commas stand between thousands, also Indian ones; other commas are those of a list.
_NUMBER = re.compile(r"-?(?:(?:\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d+)(?:\.\d+)?|\.\d+)")


class Solution(Result):
    """How a problem was solved.

    Attributes:
        steps: The whole way to the answer.
        answer: The final answer.
        number: The answer's number where it holds exactly one.
    """

    steps: str
    answer: str
    number: Decimal | None


def solve(model: Runnable[Any, Any]) -> Runnable[str, Solution]:
    """Solve a problem step by step and read the final answer off; where it is not marked, the model is asked for it."""
    persona = builtin("assistant")
    chain = persona.with_model(model)
    short = persona.replace(output=SentencesForm(at_most=1)).with_model(model)

    def steps(problem: str) -> Steps[Solution]:
        asked = f"{problem}\n{_ASKED}"
        (answer,) = yield Ask(chain, [asked])
        boxed = _BOXED.findall(answer.text)
        if boxed:
            final = _TEXT.sub(r"\1", boxed[-1]).strip()
        else:
            (again,) = yield Ask(short, [[HumanMessage(asked), answer, HumanMessage(_ONLY)]])
            final = again.text.strip()
        return Solution(steps=answer.text, answer=final, number=only_number(final))

    return task("solve", steps)


def only_number(text: str) -> Decimal | None:
    """The number in a text that holds exactly one."""
    plain = re.sub(r"\\[!,]", "", text).replace("{,}", ",").replace("\u2212", "-")
    found = _NUMBER.findall(plain)
    return Decimal(found[0].replace(",", "")) if len(found) == 1 else None
