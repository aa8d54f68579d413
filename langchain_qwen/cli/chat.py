"""`langchain-qwen chat`: a conversation in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_qwen.cli import model as models
from langchain_qwen.cli.commands import Leave, completions, find_command
from langchain_qwen.cli.conversation import Conversation
from langchain_qwen.cli.lines import interactive, line_reader
from langchain_qwen.cli.session import Session
from langchain_qwen.cli.terminal import say, write
from langchain_qwen.errors import QwenError

if TYPE_CHECKING:
    from langchain_qwen.personas import Persona


def chat(
    options: models.ModelOptions, *, system: str | None, load: Path | None, persona: Persona | None = None
) -> None:
    """Talk until the user leaves.

    Args:
        options: The model.
        system: The system message; None keeps that of the loaded conversation.
        load: A conversation to go on with.
        persona: Who answers; None for the bare model.

    Raises:
        QwenError: The model or the conversation cannot be had.
    """
    conversation = Conversation.load(load) if load else Conversation()
    if system:
        conversation = replace(conversation, system=system)
    session = Session(options, conversation, persona)
    if interactive():
        say(f"{options.model}: /help shows what there is, Ctrl-C stops an answer, Ctrl-D leaves.\n")
    read = line_reader(completions)
    while _turn(session, read):
        pass


def _turn(session: Session, read: Callable[[], str]) -> bool:
    """Read and handle one message or command; whether to go on. No error of ours ends the chat."""
    try:
        _handle(session, read())
    except Leave:
        return False
    except EOFError:
        if interactive():
            write("\n")
        return False
    except KeyboardInterrupt:
        write("\n")
        say("(/exit or Ctrl-D leaves)")
    except QwenError as error:
        say(str(error), style="red")
    return True


def _handle(session: Session, text: str) -> None:
    if text.startswith("/"):
        name, _, argument = text.partition(" ")
        find_command(name).run(session, argument.strip())
    elif text.strip():
        session.answer(text)
