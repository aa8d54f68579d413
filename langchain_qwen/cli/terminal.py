"""Reading from and writing to the terminal: answers on stdout, everything about them on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rich
from rich.console import Console, RenderableType
from rich.text import Text

from langchain_qwen.errors import InvalidParameterError

# An answer must not move the cursor, recolour the screen or set the clipboard; line ends and tabs may stay.
_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_CONTROLS[ord("\r")] = ""
# Nor turn round what comes after it. Right-to-left scripts do not need these; marks and joiners, which they do, stay.
_CONTROLS.update(dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), ""))


def write(text: str) -> None:
    """Show a piece of an answer at once.

    It goes out as it is: laying out text that is still growing breaks wide and right-to-left scripts, which the
    terminal itself handles.
    """
    sys.stdout.write(text.translate(_CONTROLS) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def show(content: str | RenderableType) -> None:
    """Print what was asked for."""
    if isinstance(content, str):
        write(content + "\n")
    else:
        # Lines of text are the terminal's to break; tables are as wide as it is.
        Console(highlight=False).print(content, soft_wrap=isinstance(content, Text))


def say(text: str, *, style: str = "dim") -> None:
    """Tell the user something that is no part of an answer."""
    rich.get_console().print(Text(text, style=style), soft_wrap=True)


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
        return path.expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidParameterError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidParameterError(f"{path} is not UTF-8 text (byte {error.start})") from error
