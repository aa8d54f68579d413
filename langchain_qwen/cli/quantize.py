"""`langchain-qwen quantize`: a quantised checkpoint, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress

from langchain_qwen.cli.terminal import read_text, say, show, waiting
from langchain_qwen.errors import InvalidParameterError

if TYPE_CHECKING:
    from langchain_qwen.checkpoints import Checkpoint
    from langchain_qwen.engine.quality import Quality
    from langchain_qwen.prompting import Tokenizer

ROW_TOKENS, SHORTEST_ROW = 512, 32
MOST_ROWS = 256
HELD_OUT_EVERY, MOST_HELD_OUT = 8, 16


def quantize(
    source: str, target: Path, *, calibration: Path, bits: int, group_size: int, act_order: bool, device: str
) -> None:
    """Quantise a model with GPTQ, print the folder, and report on the quality.

    Raises:
        QwenError: The model, the text or the settings cannot be used, or GPTQModel is missing.
    """
    texts = list(read_calibration(calibration))
    with waiting("Starting"):
        from langchain_qwen.checkpoints import resolve
        from langchain_qwen.checkpoints.gptq import check_quantisation, quantise
        from langchain_qwen.prompting import Tokenizer
    checkpoint = resolve(source)
    check_quantisation(checkpoint, target, bits=bits, group_size=group_size)
    tokenizer = Tokenizer.from_folder(checkpoint.path, checkpoint.vocab_size, checkpoint.eos_token_ids)
    used, held_out = split_rows(texts, tokenizer, calibration)
    say(f"{sum(map(len, used)):,} tokens for calibration, {sum(map(len, held_out)):,} held out for the report")
    made = quantise(checkpoint, target, used, bits=bits, group_size=group_size, act_order=act_order, device=device)
    show(str(target))
    say(_report(_measure(checkpoint, made, held_out, device), checkpoint, made), style="")


def read_calibration(path: Path) -> Iterator[str]:
    """The texts of a file: a whole text file, or the field "text" of each line of a .jsonl file.

    Raises:
        InvalidParameterError: The file cannot be read, or a line has no such field.
    """
    content = read_text(path)
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


def split_rows(texts: list[str], tokenizer: Tokenizer, path: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Rows of token ids for calibration, and others, held out, for the report.

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
    return _spread(used, MOST_ROWS), _spread(held_out, MOST_HELD_OUT)


def _spread(rows: list[list[int]], most: int) -> list[list[int]]:
    """At most so many of the rows, from all over the text."""
    return rows if len(rows) <= most else [rows[i * len(rows) // most] for i in range(most)]


def _measure(source: Checkpoint, made: Checkpoint, rows: list[list[int]], device: str) -> Quality:
    from langchain_qwen.engine.loading import load_runner
    from langchain_qwen.engine.quality import compare

    before = load_runner(source, precision="bf16", device=device)
    after = load_runner(made, precision="auto", device=device)
    try:
        with Progress(transient=True) as progress:
            task = progress.add_task("Comparing", total=sum(len(row) - 1 for row in rows))
            return compare(before, after, rows, lambda count: progress.advance(task, count))
    finally:
        before.close()
        after.close()


def _report(quality: Quality, source: Checkpoint, made: Checkpoint) -> str:
    return (
        f"On {quality.tokens:,} tokens of the calibration text that were held out:\n"
        f"perplexity {quality.perplexity_before:.3f} in bf16, {quality.perplexity_after:.3f} quantised; "
        f"KL divergence {quality.kl:.4f}; the same most likely token for {quality.same_top:.1%}\n"
        f"{source.parameter_bytes / 1e9:.2f} GB became {made.parameter_bytes / 1e9:.2f} GB\n"
        f'Use it: langchain-qwen chat --model {made.path}, or ChatQwen(model="{made.path}").'
    )
