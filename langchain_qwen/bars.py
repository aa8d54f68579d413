"""A bar for what takes seconds: in a terminal by rich, in a notebook as HTML, nowhere else.

A notebook's bar needs no widgets, and is emptied at its end. `TTY_INTERACTIVE=0` in the environment turns those of a
terminal off, for programs that draw on it themselves.
"""

from __future__ import annotations

import sys
import time
from html import escape
from typing import Any

import rich
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

REDRAW_S = 0.2  # notebooks


class Bar:
    """One bar; `update` and `close` may be called from any thread, and `close` more than once."""

    def __init__(self, title: str, total: float, *, done: float = 0, unit: str = ""):
        self._shown: _Terminal | _Notebook | None = None
        shell = _notebook()
        if shell is not None:
            self._shown = _Notebook(title, total, done, unit)
        elif (console := _console()).is_terminal and console.is_interactive:
            self._shown = _Terminal(console, title, total, done, unit)
        self._done = done

    def update(self, done: float) -> None:
        """Show that so much is done."""
        self._done = done
        if self._shown:
            self._shown.update(done)

    def advance(self, count: float) -> None:
        """Show that so much more is done."""
        self.update(self._done + count)

    def close(self) -> None:
        """Take the bar away."""
        if self._shown:
            self._shown.close()
            self._shown = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Terminal:
    def __init__(self, console: Console, title: str, total: float, done: float, unit: str):
        counts = TextColumn("{task.completed:,.0f} of {task.total:,.0f} " + unit) if unit else TextColumn("")
        columns = (TextColumn("{task.description}", style="dim"), BarColumn(), counts, TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task(title, total=total, completed=int(done))
        self._progress.start()

    def update(self, done: float) -> None:
        self._progress.update(self._task, completed=done)

    def close(self) -> None:
        self._progress.stop()


class _Notebook:
    def __init__(self, title: str, total: float, done: float, unit: str):
        from IPython.core.display_functions import display

        self._title, self._total, self._unit = title, total, unit
        self._first, self._started, self._drawn = done, time.monotonic(), 0.0
        self._handle: Any = display(  # type: ignore[no-untyped-call]
            {"text/html": self._html(done)}, raw=True, display_id=True
        )

    def update(self, done: float) -> None:
        if time.monotonic() - self._drawn > REDRAW_S:
            self._drawn = time.monotonic()
            self._handle.update({"text/html": self._html(done)}, raw=True)

    def close(self) -> None:
        self._handle.update({"text/html": ""}, raw=True)

    def _html(self, done: float) -> str:
        counts = f" {done:,.0f} of {self._total:,.0f} {self._unit}" if self._unit else ""
        new = done - self._first
        left = (time.monotonic() - self._started) / new * (self._total - done) if new > 0 else None
        wait = "" if left is None else f", {left:.0f} s left"
        bar = f'<progress value="{done}" max="{self._total}"></progress>'
        return f"<small>{escape(self._title)} {bar}{escape(counts + wait)}</small>"


def _console() -> Console:
    """The one on stderr that the command line shows its own progress on, or a new one: stdout is for answers."""
    console = rich.get_console()
    return console if console.stderr else Console(stderr=True)


def _notebook() -> Any:
    """The shell of a notebook; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if hasattr(shell, "kernel") else None
