"""`langchain-qwen chat`."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    message_chunk_to_message,
    messages_from_dict,
    messages_to_dict,
)
from rich.console import Console

from langchain_qwen.chat_models import ChatQwen
from langchain_qwen.cli.models import make_model
from langchain_qwen.errors import ConfigurationError, QwenError

HELP = """/system [text]  show or set the system prompt
/reset          forget the conversation
/tokens         how much of the window is used
/save FILE      write the conversation as JSON (--load goes on with it)
/exit           leave (Ctrl-D too)
A line that ends with \\ goes on in the next one. Ctrl-C stops an answer."""


class Chat:
    """A conversation in the terminal.

    Args:
        model: Answers.
        console: Where everything is shown.
        read_line: Gives the next line for a prompt; EOFError ends the chat.
    """

    def __init__(self, model: ChatQwen, console: Console, read_line: Callable[[str], str]):
        self.messages: list[BaseMessage] = []
        self._model = model
        self._console = console
        self._read_line = read_line
        self._commands: dict[str, Callable[[str], None]] = {
            "/system": self._system,
            "/reset": self._reset,
            "/tokens": self._tokens,
            "/save": self.save,
            "/help": lambda _: self._say(HELP),
        }

    def loop(self) -> None:
        """Read, answer, and so on."""
        while True:
            try:
                text = self._read()
            except EOFError:
                return
            except KeyboardInterrupt:
                self._say("/exit or Ctrl-D leaves")
                continue
            if text == "/exit":
                return
            if text.startswith("/"):
                self._command(text)
            elif text.strip():
                self.answer(text)

    def answer(self, text: str) -> None:
        """Stream an answer; what came before an interruption stays in the conversation."""
        conversation = [*self.messages, HumanMessage(text)]
        answer: AIMessageChunk = AIMessageChunk(content="")
        try:
            stream = self._model.stream(conversation)
            # Written as it comes: laying out again what is there already garbles wide and right-to-left scripts.
            for chunk in stream:
                self._console.file.write(chunk.text)
                self._console.file.flush()
                answer += chunk
        except KeyboardInterrupt:
            self._console.file.write(" [stopped]")
        except QwenError as error:
            self._say(f"{error}\nYour message was not added; /reset begins anew.", style="red")
            return
        self._console.file.write("\n")
        self.messages = [*conversation, message_chunk_to_message(answer)]

    def save(self, argument: str) -> None:
        """Write the conversation, not over a file that is there."""
        try:
            with Path(argument).expanduser().open("x", encoding="utf-8") as file:
                json.dump(messages_to_dict(self.messages), file, ensure_ascii=False, indent=1)
        except OSError as error:
            self._say(f"not saved: {error}", style="red")
        else:
            self._say(f"saved {len(self.messages)} messages in {argument}")

    def load(self, path: str) -> None:
        """Go on with a conversation that `save` wrote."""
        try:
            self.messages = messages_from_dict(json.loads(Path(path).expanduser().read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{path} is no saved chat: {error}") from error

    def _read(self) -> str:
        lines = [self._read_line("> ")]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(self._read_line(". "))
        return "\n".join(lines)

    def _command(self, text: str) -> None:
        name, _, argument = text.partition(" ")
        command = self._commands.get(name)
        if command is None:
            near = difflib.get_close_matches(name, [*self._commands, "/exit"], n=1)
            self._say(f"there is no {name}; " + (f"did you mean {near[0]}?" if near else "/help lists the commands"))
        elif name == "/save" and not argument:
            self._say("/save needs a file name")
        else:
            command(argument.strip())

    def _system(self, text: str) -> None:
        rest = [m for m in self.messages if not isinstance(m, SystemMessage)]
        if text:
            self.messages = [SystemMessage(text), *rest]
            self._say("set")
        else:
            shown = [m.text for m in self.messages if isinstance(m, SystemMessage)]
            self._say("\n".join(shown) or "none of ours: the checkpoint's own")

    def _reset(self, _: str) -> None:
        self.messages = [m for m in self.messages if isinstance(m, SystemMessage)]
        self._say("the conversation begins anew")

    def _tokens(self, _: str) -> None:
        window = (self._model.profile or {}).get("max_input_tokens", 0)
        used = self._model.get_num_tokens_from_messages(self.messages)
        self._say(f"{used:,} of {window:,} tokens; {window - used:,} left")
        last = next((m for m in reversed(self.messages) if isinstance(m, AIMessage)), None)
        if last is not None and last.usage_metadata and "timings" in last.response_metadata:
            cached = last.usage_metadata.get("input_token_details", {}).get("cache_read", 0)
            speed = last.response_metadata["timings"]["tokens_per_second"] or 0
            self._say(f"last answer: {cached:,} tokens from the cache, {speed:.1f} tokens a second")

    def _say(self, text: str, style: str = "dim") -> None:
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def run(system: str | None, load: str | None, **settings: Any) -> None:
    """The command."""
    interactive = sys.stdin.isatty()
    if interactive:
        with suppress(ImportError):  # not on every system
            import readline  # noqa: F401  makes `input` a line editor; nothing is written to the disk
    console = Console(highlight=False)
    with make_model(**settings) as model:
        chat = Chat(model, console, input if interactive else lambda _: input())
        if load:
            chat.load(load)
        if system:
            chat.messages = [SystemMessage(system), *chat.messages]
        if interactive:
            console.print(f"{model.model}; /help lists the commands", style="dim")
        chat.loop()
