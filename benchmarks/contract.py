"""Does output keep to its schema, and are tool calls right?

(a) Each schema of json_schemas.jsonl, asked for through `with_structured_output`: the share of answers whose raw text
validates against the original schema. (b) tool_calling.jsonl with the tools bound, the model free to call (auto) or
made to (forced): the share of right answers. Where no tool fits, only auto counts, and right is to make no call.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import jsonschema  # type: ignore[import-untyped]
from langchain_core.messages import AIMessage
from rich.console import Console
from rich.table import Table

from benchmarks import bfcl
from benchmarks.common import Row, argument_parser, print_environment, print_result, read_rows, run_all, share
from langchain_qwen import ChatQwen
from langchain_qwen.errors import InvalidSchemaError


@dataclass(frozen=True)
class Document:
    """An answer to (a)."""

    id: str
    valid: bool
    finish_reason: str
    tokens: int
    problem: str | None


@dataclass(frozen=True)
class Calls:
    """An answer to (b)."""

    id: str
    category: str
    right: bool
    finish_reason: str
    calls: int


def write_document(row: Row, model: ChatQwen) -> Document:
    """Ask for an example document of a schema and validate it."""
    schema = row["schema"]
    subject = schema.get("title") or schema.get("description") or "the schema"
    try:
        structured = model.with_structured_output(schema, method="json_schema", include_raw=True)
        answer = structured.invoke(f"Write a short, realistic example document for: {subject}")
    except InvalidSchemaError as error:
        return Document(row["id"], False, "refused", 0, str(error))
    assert isinstance(answer, dict)
    raw: AIMessage = answer["raw"]
    problem = invalid(raw.text, schema)
    tokens = raw.usage_metadata["output_tokens"] if raw.usage_metadata else 0
    return Document(row["id"], problem is None, raw.response_metadata["finish_reason"], tokens, problem)


def invalid(text: str, schema: Any) -> str | None:
    """Why a text is no document of a schema; None if it is."""
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        validator(schema).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError) as error:
        return str(error).splitlines()[0]
    return None


def call_tools(row: Row, model: ChatQwen, *, forced: bool) -> Calls:
    """Answer a row with its tools bound and compare the calls."""
    bound = model.bind_tools(row["tools"], tool_choice="any" if forced else None)
    answer = bound.invoke([(message["role"], message["content"]) for message in row["messages"]])
    calls = [(call["name"], call["args"]) for call in answer.tool_calls]
    right = bfcl.right(calls, row["ground_truth"], row["tools"]) and not answer.invalid_tool_calls
    return Calls(row["id"], row["category"], right, answer.response_metadata["finish_reason"], len(calls))


def print_categories(auto: list[Calls], forced: list[Calls]) -> None:
    """A table of the share of right answers by category."""
    table = Table("category", "rows", "auto", "forced", title="Right tool calls")
    for category in dict.fromkeys(calls.category for calls in auto):
        columns = [share(c.right for c in answers if c.category == category) for answers in (auto, forced)]
        rows = sum(calls.category == category for calls in auto)
        table.add_row(category, str(rows), *("-" if value is None else f"{value:.2f}" for value in columns))
    Console().print(table)


def main() -> None:
    """Run both parts and print their results."""
    parser = argument_parser("Schema validity of structured output, and right tool calls.")
    parser.add_argument("--limit", type=int, help="only so many rows of each set")
    parser.add_argument("--max-tokens", type=int, default=1024, help="the longest answer")
    parser.add_argument("--concurrency", type=int, default=4, help="requests at the same time")
    options = parser.parse_args()
    print_environment()
    started = time.perf_counter()
    with ChatQwen(
        model=options.model, precision=options.precision, temperature=0, max_tokens=options.max_tokens
    ) as model:
        schemas = read_rows(options.data / "json_schemas.jsonl", options.limit)
        rows = read_rows(options.data / "tool_calling.jsonl", options.limit)
        callable_rows = [row for row in rows if row["should_call"]]
        together = partial(run_all, at_once=options.concurrency)
        documents = together("schemas", partial(write_document, model=model), schemas)
        schema_seconds = time.perf_counter() - started
        auto = together("tools, auto", partial(call_tools, model=model, forced=False), rows)
        forced = together("tools, forced", partial(call_tools, model=model, forced=True), callable_rows)
    seconds = {"seconds": time.perf_counter() - started, "schemas_seconds": schema_seconds}
    report(options, documents, auto, forced, seconds)


def report(
    options: argparse.Namespace,
    documents: list[Document],
    auto: list[Calls],
    forced: list[Calls],
    seconds: dict[str, float],
) -> None:
    """Print what failed, the table, and the result line."""
    for document in documents:
        if not document.valid:
            print(f"not valid: {document.id} ({document.finish_reason}, {document.tokens} tokens): {document.problem}")
    print_categories(auto, forced)
    print_result(
        {
            "benchmark": "contract",
            "schemas_valid": share(document.valid for document in documents),
            "tool_calls_auto": share(calls.right for calls in auto),
            "tool_calls_forced": share(calls.right for calls in forced),
            "schemas": len(documents),
            "schemas_finish_reasons": Counter(document.finish_reason for document in documents),
            "tool_rows_auto": len(auto),
            "tool_rows_forced": len(forced),
            "model": options.model,
            "precision": options.precision,
            "max_tokens": options.max_tokens,
            **{name: round(value, 1) for name, value in seconds.items()},
        }
    )


if __name__ == "__main__":
    main()
