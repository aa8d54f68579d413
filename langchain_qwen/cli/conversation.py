"""The state of a chat, and its form on the disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    messages_from_dict,
    messages_to_dict,
)

from langchain_qwen.cli.terminal import read_text
from langchain_qwen.errors import InvalidMessagesError, InvalidParameterError
from langchain_qwen.regular_files import expanded


@dataclass
class Conversation:
    """What has been said.

    Attributes:
        system: The system message, if there is one.
        turns: Everything else, oldest first.
        unanswered: The last message when there was no answer to it; it is not one of the turns.
    """

    system: str | None = None
    turns: list[BaseMessage] = field(default_factory=list)
    unanswered: str | None = None

    @property
    def messages(self) -> list[BaseMessage]:
        """What the model sees."""
        return [SystemMessage(self.system), *self.turns] if self.system else list(self.turns)

    def add(self, text: str, answer: AIMessage) -> None:
        """Remember one exchange."""
        self.turns += [HumanMessage(text), answer]
        self.unanswered = None

    def save(self, path: Path, *, overwrite: bool) -> None:
        """Write the messages as JSON, in LangChain's form.

        Raises:
            InvalidParameterError: The file exists, or cannot be written.
            InvalidMessagesError: The system message is no Unicode text.
        """
        content = json.dumps(messages_to_dict(self.messages), ensure_ascii=False, indent=2) + "\n"
        try:
            encoded = content.encode("utf-8")
            with expanded(path).open("wb" if overwrite else "xb") as file:
                file.write(encoded)
        except UnicodeEncodeError as error:  # what was typed, or --system, was of another encoding
            raise InvalidMessagesError(
                "the system message is not UTF-8 text; /system TEXT sets another one, and then /save works"
            ) from error
        except FileExistsError as error:
            raise InvalidParameterError(f"{path} exists; /save! {path} overwrites it") from error
        except OSError as error:
            raise InvalidParameterError(f"{path} cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path) -> Conversation:
        """Read what `save` wrote, or any list that LangChain's `messages_to_dict` made.

        Raises:
            InvalidParameterError: The file cannot be read.
            InvalidMessagesError: It holds something else.
        """
        text = read_text(path)
        try:
            entries = json.loads(text)
            if not isinstance(entries, list):
                raise TypeError("not a list")
            messages = messages_from_dict(entries)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidMessagesError(f"{path} holds no conversation that /save wrote") from error
        system = None
        if messages and isinstance(messages[0], SystemMessage):
            system = messages.pop(0).text
        return cls(system, messages)
