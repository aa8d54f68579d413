"""What the user types: a terminal with line editing, or lines from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from langchain_qwen.errors import InvalidMessagesError

PROMPT, CONTINUED = ">>> ", "... "


def interactive() -> bool:
    """Whether a person sits at both ends."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def line_reader() -> Callable[[], str]:
    """A function that gives the next message, of several lines where they end with a backslash.

    It raises EOFError at the end, KeyboardInterrupt at Ctrl-C, InvalidMessagesError for bytes that are not UTF-8.
    """
    if not interactive():
        return lambda: joined(lambda _: _piped_line())
    with suppress(ImportError):  # not on Windows; the terminal's own editing has to do there
        import readline  # gives `input` editing and a history, kept in memory only

        # A pasted text of several lines is one message then. Python turns it off, for its own prompt.
        readline.parse_and_bind("set enable-bracketed-paste on")
    return lambda: joined(_typed_line)


def joined(read: Callable[[str], str]) -> str:
    """One message: a line, and further ones while a backslash ends them. `read` takes the prompt to show."""
    lines = [read(PROMPT)]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        try:
            lines.append(read(CONTINUED))
        except EOFError:
            break
    return "\n".join(lines)


def _typed_line(prompt: str) -> str:
    try:
        return input(prompt)
    except UnicodeDecodeError as error:
        raise InvalidMessagesError("that was not UTF-8; set the terminal's encoding to UTF-8") from error


def _piped_line() -> str:
    line = sys.stdin.buffer.readline() if sys.stdin else b""
    if not line:
        raise EOFError
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InvalidMessagesError("a line is not UTF-8 text; convert it first, for instance with iconv") from error
