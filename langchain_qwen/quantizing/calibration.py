"""Rows of tokens from the user's text: most of them to calibrate with, some held out for the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.prompting import Tokenizer

ROW_TOKENS, SHORTEST_ROW = 512, 32
MOST_ROWS = 256
# Prose, code, tables, calls of tools and a dozen languages, in our own words.
BUILT_IN = Path(__file__).with_name("mix.jsonl")
HELD_OUT_EVERY, MOST_HELD_OUT = 8, 16


def calibration_texts(content: str, path: Path) -> Iterator[str]:
    """The texts of a file: a whole text file, or the field "text" of each line of a .jsonl file.

    Args:
        content: What the file holds.
        path: Its name, which says what kind it is.

    Raises:
        InvalidParameterError: A line has no such field.
    """
    if path.suffix != ".jsonl":
        yield content
        return
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InvalidParameterError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise InvalidParameterError(f'{path}, line {number}: each line is an object with a string "text"')
        yield row["text"]


def split_rows(
    texts: list[str], tokenizer: Tokenizer, path: Path, most: int | None = None
) -> tuple[list[list[int]], list[list[int]]]:
    """Rows of token ids for calibration, and others, held out, for the report.

    Args:
        texts: What they are cut from.
        tokenizer: The model's.
        path: Where the texts come from, for the error.
        most: Rows for calibration, taken from all over a longer text; None is `MOST_ROWS`.

    Raises:
        InvalidParameterError: The text is too short for both.
    """
    rows = []
    for text in texts:
        ids = tokenizer.encode(text)
        rows += [ids[start : start + ROW_TOKENS] for start in range(0, len(ids), ROW_TOKENS)]
    rows = [row for row in rows if len(row) >= SHORTEST_ROW]
    if len(rows) < 2:
        raise InvalidParameterError(
            f"{path} is too short: calibration needs at least {ROW_TOKENS + SHORTEST_ROW} tokens, better 50,000, of "
            "text like that which the model will see"
        )
    held_out = rows[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY] or rows[-1:]
    used = [row for i, row in enumerate(rows) if i % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
    if len(rows) < HELD_OUT_EVERY:
        used = rows[:-1]
    return _spread(used, most or MOST_ROWS), _spread(held_out, MOST_HELD_OUT)


def _spread(rows: list[list[int]], most: int) -> list[list[int]]:
    """At most so many of the rows, from all over the text."""
    return rows if len(rows) <= most else [rows[i * len(rows) // most] for i in range(most)]
