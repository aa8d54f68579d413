"""What the user types: a terminal with line editing, or lines from a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from langchain_qwen.checkpoints.aliases import cache_root
from langchain_qwen.errors import InvalidMessagesError

if TYPE_CHECKING:
    from prompt_toolkit.history import History

PROMPT, CONTINUED = ">>> ", "... "
HISTORY = "chat_history"


def interactive() -> bool:
    """Whether a person sits at both ends."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def line_reader(completions: Callable[[str], Iterable[str]] = lambda _: ()) -> Callable[[], str]:
    """A function that gives the next message, of several lines where they end with a backslash.

    In a terminal, Alt-Enter begins a new line too, and all of them can be edited; what was typed in earlier chats is
    found with the arrow keys, and Tab completes.

    The function raises EOFError at the end, KeyboardInterrupt at Ctrl-C, InvalidMessagesError for bytes that are not
    UTF-8.

    Args:
        completions: What a text may become.
    """
    return _editor(completions) if interactive() else lambda: joined(lambda _: _piped_line())


def _editor(completions: Callable[[str], Iterable[str]]) -> Callable[[], str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    class Completions(Completer):
        def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
            typed = document.text_before_cursor
            for text in completions(typed):
                yield Completion(text, start_position=-len(typed))

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    session: PromptSession[str] = PromptSession(
        PROMPT,
        multiline=True,
        prompt_continuation=CONTINUED,
        history=_history(),
        completer=Completions(),
        key_bindings=keys,
        reserve_space_for_menu=5,
    )
    return session.prompt


def _history() -> History:
    """What was typed in earlier chats, in a file that only its owner can read."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    file = cache_root() / HISTORY
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError:  # a chat does without
        return InMemoryHistory()
    return FileHistory(str(file))


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


def _piped_line() -> str:
    line = sys.stdin.buffer.readline() if sys.stdin else b""
    if not line:
        raise EOFError
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InvalidMessagesError("a line is not UTF-8 text; convert it first, for instance with iconv") from error
