"""Options, data and output that all benchmarks share."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.runnables import RunnableLambda
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PACKAGES = ("langchain-qwen", "langchain-core", "torch", "transformers", "llguidance")

Row = dict[str, Any]
T = TypeVar("T")
R = TypeVar("R")


def argument_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="coder-1.5b", help="hub id, folder or alias")
    parser.add_argument("--precision", default="auto", help="how the weights are held")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the evaluation sets")
    return parser


def read_rows(path: Path, limit: int | None = None) -> list[Row]:
    """The rows of a JSON Lines file, the first `limit` of them."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines][:limit]


def run_all(title: str, work: Callable[[T], R], items: Sequence[T], *, at_once: int) -> list[R]:
    """Do the work for all items, `at_once` at the same time, with a progress bar on stderr; results in order."""
    results: dict[int, R] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=len(items))
        running: Iterable[tuple[int, Any]] = RunnableLambda(work).batch_as_completed(
            list(items), config={"max_concurrency": at_once}
        )
        for index, result in running:
            results[index] = result
            progress.advance(task)
    return [results[index] for index in range(len(items))]


def environment(*peers: str) -> dict[str, Any]:
    """The machine, and the versions that a figure depends on."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in (*PACKAGES, *peers)},
    }


def print_environment(*peers: str) -> None:
    """One line on the machine and the versions, and the command."""
    print(", ".join(f"{name} {value}" for name, value in environment(*peers).items()))
    print("python -m " + " ".join([f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]), flush=True)


def print_result(result: dict[str, Any], *peers: str) -> None:
    """The last line of a benchmark."""
    print(json.dumps({**result, "environment": environment(*peers)}, ensure_ascii=False), flush=True)


def share(right: Iterable[bool]) -> float | None:
    """The share of true ones; None where there are none at all."""
    values = list(right)
    return round(sum(values) / len(values), 4) if values else None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
