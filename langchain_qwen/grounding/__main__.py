"""`python -m langchain_qwen.grounding calibrate`: risks for another model, or for documents of one's own."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from langchain_qwen.chat_models import ChatQwen
from langchain_qwen.errors import QwenError
from langchain_qwen.grounding.calibrating import (
    area,
    calibrate,
    judged_elsewhere,
    observe,
    read_observations,
    read_rows,
    trade_offs,
)

app = typer.Typer(add_completion=False, help="Tools for grounded answers.")


@app.callback()
def _tools() -> None:
    """Tools for grounded answers."""


@app.command("calibrate")
def _calibrate(
    rows: Annotated[
        Path,
        typer.Argument(
            help='JSON Lines: {"question", "passages": [texts], "answer": text, alternatives, or null; "source"}',
            exists=True,
            dir_okay=False,
        ),
    ],
    output: Annotated[Path, typer.Option(help="Where to write the calibration.")] = Path("calibration.json"),
    model: Annotated[str, typer.Option(help="Hub id, folder or alias.")] = "coder-1.5b",
    precision: Annotated[str, typer.Option(help="How the weights are held.")] = "auto",
    at_once: Annotated[int, typer.Option(min=1, help="Questions at the same time.")] = 8,
    observed: Annotated[
        Path | None,
        typer.Option(help="Add each answer to this file as it comes; those that are in it are not asked again."),
    ] = None,
) -> None:
    """Answer the questions, fit the risk of being wrong, and write it for GroundedAnswerer(calibration=...)."""
    console = Console(stderr=True)
    try:
        read = read_rows(rows)
        found = read_observations(observed) if observed and observed.exists() else []
        open_rows = [row for row in read if row not in [one.row for one in found]]
        if open_rows:
            chat = ChatQwen(model=model, precision=precision, temperature=0)
            chat.load()
            done = observe(chat, open_rows, at_once=at_once)
            for one in track(done, "answering", total=len(open_rows), console=console, transient=True):
                found.append(one)
                if observed:
                    with observed.open("a", encoding="utf-8") as file:
                        file.write(one.model_dump_json() + "\n")
        sources = ", ".join(sorted({one.row.source for one in found} - {""})) or rows.name
        made = f"{len(found)} rows ({sources}), {date.today().isoformat()}"
        fitted = calibrate(found, model=model, made=made)
        risks = judged_elsewhere(found)
    except QwenError as error:
        console.print(f"[red]{error}")
        raise typer.Exit(1) from error
    fitted.save(output)
    right = [risk for one, risk in zip(found, risks, strict=True) if one.right]
    wrong = [risk for one, risk in zip(found, risks, strict=True) if not one.right]
    table = Table("abstain_above", "right answers kept", "unanswerable: abstains", "right of what is answered")
    limit = fitted.whole.limit
    for line in trade_offs(found, risks, sorted({limit, *(tenth / 10 for tenth in range(1, 10))})):
        shown = [f"{value:.2f}" if value == value else "-" for value in line.values()]
        table.add_row(*shown, style="bold" if line["abstain_above"] == limit else "")
    console.print(table)
    console.print(f"The limit that is used where none is given is {limit:.2f} (bold).")
    console.print(f"{len(right)} of {len(found)} right; risk tells them apart with an AUC of {area(right, wrong):.2f},")
    console.print(f"judged on what was not fitted. Written to {output}: GroundedAnswerer(..., calibration='{output}')")


if __name__ == "__main__":
    app()
