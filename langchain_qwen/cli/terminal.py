"""Reading from and writing to the terminal: answers on stdout, everything about them on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import rich
from rich.console import Console, RenderableType
from rich.text import Text

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.regular_files import expanded

# An answer must not move the cursor, recolour the screen or set the clipboard; line ends and tabs may stay.
_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_CONTROLS[ord("\r")] = ""
# Nor turn round what comes after it. Right-to-left scripts do not need these; marks and joiners, which they do, stay.
_CONTROLS.update(dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), ""))


def write(text: str) -> None:
    """Print as it is, but for what would control the terminal."""
    sys.stdout.write(without_controls(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def without_controls(text: str) -> str:
    """A text that cannot move the cursor, recolour the screen, or turn round what comes after it."""
    return text.translate(_CONTROLS)


class Writer(Protocol):
    """Shows an answer while it arrives."""

    def write(self, piece: str) -> None:
        """Add a piece."""

    def close(self) -> None:
        """All has been shown, or no more will come."""


class _Plain:
    """For pipes, files and terminals without a cursor."""

    def __init__(self) -> None:
        self._last = "\n"

    def write(self, piece: str) -> None:
        write(piece)
        self._last = piece[-1:] or self._last

    def close(self) -> None:
        if self._last != "\n":
            write("\n")


class _Laid:
    """For terminals: Markdown, with lines broken between words."""

    def __init__(self, console: Console):
        from langchain_qwen.cli.markdown import MarkdownWriter

        self._writer = MarkdownWriter(console)

    def write(self, piece: str) -> None:
        self._writer.write(without_controls(piece))

    def close(self) -> None:
        self._writer.close()


@contextmanager
def answering(*, plain: bool = False, to_the_letter: bool = False) -> Iterator[Writer]:
    """What an answer is written to.

    Args:
        plain: Show it as it is, in a terminal too.
        to_the_letter: What is cut off in a pipe ends where it is cut off, without an end of line.
    """
    console = Console(highlight=False)
    laid = console.is_terminal and not console.is_dumb_terminal and not plain
    writer: Writer = _Laid(console) if laid else _Plain()
    try:
        yield writer
    except BaseException:
        if sys.stdout.isatty() or not to_the_letter:
            writer.close()
        raise
    writer.close()


def show(content: str | RenderableType) -> None:
    """Print what was asked for."""
    if isinstance(content, str):
        write(content + "\n")
    else:
        # Lines of text are the terminal's to break; tables are as wide as it is.
        Console(highlight=False).print(content, soft_wrap=isinstance(content, Text))


def say(text: str, *, style: str = "dim") -> None:
    """Tell the user something that is no part of an answer."""
    console = rich.get_console()
    console.print(Text(text, style=style), soft_wrap=not console.is_terminal)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A spinner while something takes seconds, where there is a terminal to show it."""
    console = rich.get_console()
    if not console.is_terminal:
        yield
        return
    with console.status(Text(text, style="dim")):
        yield


def read_text(path: Path) -> str:
    """A text file the user named.

    Raises:
        InvalidParameterError: It cannot be read.
    """
    try:
        return expanded(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidParameterError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidParameterError(f"{path} is not UTF-8 text (byte {error.start})") from error
