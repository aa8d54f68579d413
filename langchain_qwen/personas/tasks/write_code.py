"""Code for a task, taken out of the answer's fences."""

from __future__ import annotations

import ast
import json
import re
import sqlite3
from contextlib import closing
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable

from langchain_qwen.personas.persona import builtin
from langchain_qwen.personas.tasks.steps import Ask, Result, Steps, task

_BLOCK = re.compile(r"```[^\n]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
# What SQLite says of a statement that is none, rather than of tables it does not have.
_SQL_SYNTAX = re.compile("syntax error|unrecognized token|incomplete input")


class Code(Result):
    """A piece of code.

    Attributes:
        code: The code, without the fence around it.
        language: What it is written in.
        problem: Why it does not parse; None where it does, or where nobody looked.
    """

    code: str
    language: str
    problem: str | None


def write_code(model: Runnable[Any, Any], language: str = "python") -> Runnable[str, Code]:
    """Write code for a task. Python, JSON and SQL (SQLite's) that do not parse are asked for once more.

    Args:
        model: A chat model.
        language: The programming language.
    """
    assistant = builtin("assistant")
    form = f"Answer with complete, working {language} code in one code block."
    chain = assistant.replace(instructions=f"{assistant.instructions} {form}", language=None).with_model(model)

    def steps(asked: str) -> Steps[Code]:
        (answer,) = yield Ask(chain, [asked])
        code = code_of(answer.text)
        problem = syntax_problem(code, language)
        if problem:
            wrong = f"That code does not parse: {problem}. Write it again, complete, in one code block."
            (answer,) = yield Ask(chain, [[HumanMessage(asked), answer, HumanMessage(wrong)]])
            code = code_of(answer.text)
            problem = syntax_problem(code, language)
        return Code(code=code, language=language, problem=problem)

    return task("write_code", steps)


def code_of(text: str) -> str:
    """The longest fenced block of a text, or all of it where there is none."""
    blocks = _BLOCK.findall(text)
    return max(blocks, key=len) if blocks else text.strip("\n")


def syntax_problem(code: str, language: str) -> str | None:
    """Why code does not parse; None where it does, or for a language that is not checked."""
    try:
        match language.lower():
            case "python" | "python3" | "py":
                return _python_problem(code)
            case "json":
                return _json_problem(code)
            case "sql" | "sqlite":
                return _sql_problem(code)
    except (RecursionError, MemoryError):  # what the parsers say of it
        return "it nests too deeply"
    except ValueError as error:  # characters that no source holds
        return str(error)
    return None


def _python_problem(code: str) -> str | None:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        return f"{getattr(error, 'msg', error)}{f' (line {line})' if line else ''}"
    return None if code.strip() else "there is no code"


def _json_problem(code: str) -> str | None:
    try:
        json.loads(code)
    except ValueError as error:
        return str(error)
    return None


def _sql_problem(code: str) -> str | None:
    # Nothing runs: EXPLAIN compiles a statement only, against an empty database.
    statements = [part for part in _statements(code) if part.strip(" \n\t;")]
    if not statements:
        return "there is no statement"
    with closing(sqlite3.connect(":memory:")) as database:
        return next(filter(None, (_refusal(database, statement) for statement in statements)), None)


def _refusal(database: sqlite3.Connection, statement: str) -> str | None:
    try:
        database.execute(f"EXPLAIN {statement}")
    except sqlite3.Error as error:
        return str(error) if _SQL_SYNTAX.search(str(error)) else None
    except sqlite3.Warning as error:  # Python 3.10's for characters that no statement holds
        return str(error)
    return None


def _statements(code: str) -> list[str]:
    statements, start = [], 0
    for end in re.finditer(";", code):
        if sqlite3.complete_statement(code[start : end.end()]):
            statements.append(code[start : end.end()])
            start = end.end()
    return [*statements, code[start:]]
