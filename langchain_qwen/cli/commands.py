"""The slash commands of a chat."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.table import Table

from langchain_qwen.checkpoints.aliases import RELEASES, cache_root
from langchain_qwen.cli.conversation import Conversation
from langchain_qwen.cli.lines import HISTORY
from langchain_qwen.cli.persona import choose, list_personas, persona_names
from langchain_qwen.cli.session import Session
from langchain_qwen.cli.terminal import say, show
from langchain_qwen.errors import InvalidParameterError


class Leave(Exception):  # noqa: N818  no error
    """The user wants to go."""


@dataclass(frozen=True, slots=True)
class Command:
    """A slash command: how it is typed, what it does."""

    usage: str
    does: str
    run: Callable[[Session, str], None]


def find_command(name: str) -> Command:
    """The command with this name.

    Raises:
        InvalidParameterError: There is none; names the nearest.
    """
    if name in COMMANDS:
        return COMMANDS[name]
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else "/help lists what there is."
    raise InvalidParameterError(f"there is no {name}; {hint} (A message that begins with / needs a space before it.)")


def _system(session: Session, text: str) -> None:
    if text:
        session.conversation.system = text
        say("(the next answers follow it)")
    else:
        show(session.conversation.system or "There is no system message; /system TEXT sets one.")


def _persona(session: Session, name: str) -> None:
    if name:
        session.persona = None if name == "none" else choose(name, None)
        say("(the next answers come from it)" if session.persona else "(the bare model answers)")
    else:
        show(f"{list_personas()}\n\nNow: {session.persona.name if session.persona else 'none'}")


def _language(session: Session, name: str) -> None:
    if name:
        session.persona = session.persona.replace(language=name) if session.persona else choose(None, name)
        say(f"(language of the next answers: {session.persona.language if session.persona else name})")
    else:
        show((session.persona.language if session.persona else None) or "No rule; /language auto, or /language de.")


def _reset(session: Session, _: str) -> None:
    session.conversation.turns.clear()
    session.last_answer = None
    kept = "; the system message stays" if session.conversation.system else ""
    waits = "; /retry sends your last message" if session.conversation.unanswered else ""
    say(f"(a new conversation{kept}{waits})")


def _retry(session: Session, _: str) -> None:
    if session.conversation.unanswered is None:
        raise InvalidParameterError("every message has been answered; there is nothing to send again")
    session.answer(session.conversation.unanswered)


def _stats(session: Session, _: str) -> None:
    messages = session.conversation.messages
    if session.persona and messages:
        messages = session.persona.messages(messages)
    used = session.model.get_num_tokens_from_messages(messages) if messages else 0
    window = (session.model.profile or {})["max_input_tokens"]
    show(f"conversation: {used:,} of {window:,} tokens, {max(0, window - used):,} left")
    if session.last_answer is None or session.last_answer.usage_metadata is None:
        return
    usage = session.last_answer.usage_metadata
    read, cached = usage["input_tokens"], usage.get("input_token_details", {}).get("cache_read", 0)
    timings = session.last_answer.response_metadata["timings"]
    show(f"last prompt: {read:,} tokens, {cached:,} of them cached; read in {timings['prefill_s']:.1f} s")
    speed = timings["tokens_per_second"]
    show(f"last answer: {usage['output_tokens']:,} tokens" + ("" if speed is None else f", {speed:.1f} tokens/s"))


def _model(session: Session, name: str) -> None:
    if name:
        session.change(model=name)
        say("(the next answers come from it; the conversation stays)")
    else:
        show(session.options.model)


def _temperature(session: Session, text: str) -> None:
    if not text:
        now = session.options.temperature
        show("that of the checkpoint" if now is None else f"{now:g}")
        return
    try:
        temperature = float(text)
    except ValueError:
        raise InvalidParameterError(f"{text} is no number; /temperature 0 gives the most likely answer") from None
    session.change(temperature=temperature)
    say(f"(temperature of the next answers: {temperature:g})")


def _save(session: Session, name: str, *, overwrite: bool = False) -> None:
    if not name:
        raise InvalidParameterError("where to? /save FILE")
    session.conversation.save(Path(name), overwrite=overwrite)
    say(f"(saved; /load {name} or --load {name} goes on with it)")


def _load(session: Session, name: str) -> None:
    if not name:
        raise InvalidParameterError("which? /load FILE")
    session.conversation = Conversation.load(Path(name))
    session.last_answer = None
    say(f"({len(session.conversation.messages)} messages)")


def _help(_: Session, __: str) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for command in COMMANDS.values():
        table.add_row(command.usage, command.does)
    show(table)
    show(
        "Alt-Enter, or a \\ at the end of a line, begins a new line. Tab completes. Ctrl-C stops an answer.\n"
        f"What you type is kept for the arrow keys in {cache_root() / HISTORY}."
    )


def _leave(_: Session, __: str) -> None:
    raise Leave


_LISTED = (
    Command("/system [TEXT]", "show or set the system message", _system),
    Command("/persona [NAME]", "list the personas, or change to one, to one in a file, or to none", _persona),
    Command("/language [CODE]", "show or set the language of the answers: auto, de, ja...", _language),
    Command("/reset", "forget the conversation", _reset),
    Command("/retry", "send the last message again if it got no answer", _retry),
    Command("/stats", "how full the window is, what was cached, and how fast the last answer was", _stats),
    Command("/model [NAME]", "show the model, or go on with another one", _model),
    Command("/temperature [NUMBER]", "show or set how random answers are; 0 is not at all", _temperature),
    Command("/save FILE", "write the conversation", _save),
    Command("/save! FILE", "the same over a file that exists", partial(_save, overwrite=True)),
    Command("/load FILE", "go on with a conversation that was saved", _load),
    Command("/help", "this list", _help),
    Command("/exit", "leave", _leave),
)
COMMANDS = {command.usage.split()[0]: command for command in _LISTED}


def completions(typed: str) -> Iterator[str]:
    """What a command may become, its argument included where the choices are known."""
    if not typed.startswith("/"):
        return
    name, space, _ = typed.partition(" ")
    choices = [f"{name} {one}" for one in _arguments(name)] if space else sorted(COMMANDS)
    yield from (choice for choice in choices if choice.startswith(typed) and choice != typed)


def _arguments(name: str) -> list[str]:
    if name == "/persona":
        return [*persona_names(), "none"]
    return list(RELEASES) if name == "/model" else []
