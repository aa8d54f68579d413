"""Prompts and scores for rows of GSM8K and HumanEval, given the text of an answer.

GSM8K: Cobbe et al. 2021, arXiv:2110.14168. HumanEval: Chen et al. 2021, arXiv:2107.03374. What an answer says is
read leniently (a boxed number, "the answer is", or the last number; a fenced block, a whole function, or a bare
body), so that only being wrong counts as wrong.
"""

from __future__ import annotations

import ast
import re
from decimal import Decimal

from benchmarks.common import Row
from benchmarks.sandbox import runs

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_SAID = re.compile(r"(?:####|(?:final\s+)?answer\s*(?:is|:|=))\s*(.+)", re.IGNORECASE)
_FENCED = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)


def gsm8k_prompt(row: Row) -> str:
    """The question, with the request for steps that Qwen's own model cards give for mathematics."""
    return f"{row['question']}\nPlease reason step by step, and put your final answer within \\boxed{{}}."


def gsm8k_right(row: Row, answer: str) -> bool:
    """Whether the number that the answer ends in is the row's."""
    return final_number(answer) == Decimal(row["answer"].replace(",", ""))


def final_number(answer: str) -> Decimal | None:
    """The number an answer settles on: the last boxed one, else the last after "answer is", else the last of all."""
    for pattern in (_BOXED, _SAID):
        for said in reversed(pattern.findall(answer)):
            # "The answer is 5 + 3 = 8" means 8.
            if numbers := _numbers(said.split("=")[-1]):
                return numbers[0]
    numbers = _numbers(answer)
    return numbers[-1] if numbers else None


def _numbers(text: str) -> list[Decimal]:
    return [Decimal(match.replace(",", "")) for match in _NUMBER.findall(text)]


def humaneval_prompt(row: Row) -> str:
    """The function to complete, as a question to a chat model."""
    task = "Complete this Python function. Answer with the whole function in one code block."
    return f"{task}\n\n```python\n{row['prompt']}```"


def humaneval_right(row: Row, answer: str, *, seconds: float = 10) -> bool:
    """Whether the code of the answer passes the row's tests, run in a process of its own with limits."""
    program = humaneval_program(row, answer)
    return program is not None and runs(program, seconds=seconds)


def humaneval_program(row: Row, answer: str) -> str | None:
    """The answer's function with the row's tests behind it; None where the answer holds none."""
    name = row["entry_point"]
    for code in (*_FENCED.findall(answer), answer):
        if name in _functions(code):
            # Imports and helpers of the task stay, whether or not the answer repeats them.
            preamble = row["prompt"].split(f"def {name}")[0]
            break
    else:
        code, preamble = next(iter(_FENCED.findall(answer)), answer), row["prompt"]
        if name not in _functions(preamble + code):
            return None
    return "\n\n".join([preamble + code, row["test"], f"check({name})"])


def _functions(code: str) -> set[str]:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return set()
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
