"""From any input that LangChain's models and agents take to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue

from langchain_qwen.errors import InvalidMessagesError, InvalidParameterError, UnknownParameterError

_NAMES = ("input", "messages")


def messages_of(value: Any) -> list[BaseMessage]:
    """The conversation in an input.

    Args:
        value: A string, a message, a prompt value, messages in any of LangChain's spellings, a dict with "input" or
            "messages", or an object with `.messages`, such as a chat history.

    Raises:
        InvalidMessagesError: For anything else.
    """
    if isinstance(value, str):
        return [HumanMessage(value)]
    if isinstance(value, BaseMessage):
        return [value]
    if isinstance(value, PromptValue):
        return value.to_messages()
    if isinstance(value, Mapping):
        names = [name for name in _NAMES if name in value]
        if len(names) != 1:
            raise InvalidMessagesError(
                f"a dict needs one of 'input' and 'messages'; it has: {', '.join(map(str, value)) or 'none'}"
            )
        if names == ["input"]:
            _check_no_history(value)
        return messages_of(value[names[0]])
    if hasattr(value, "messages"):
        return messages_of(value.messages)
    if isinstance(value, Sequence):
        try:
            # Most are messages already, and long histories come here at every step of an agent.
            return list(value) if all(isinstance(one, BaseMessage) for one in value) else convert_to_messages(value)
        except (ValueError, NotImplementedError, TypeError) as error:
            raise InvalidMessagesError(f"these are no messages: {error}") from error
    raise InvalidMessagesError(
        f"a {type(value).__name__} is no conversation; pass a string, messages or a prompt value"
    )


def _check_no_history(value: Mapping[Any, Any]) -> None:
    """Chains that keep a history hand it over beside the input, where nothing would read it."""
    for name, one in value.items():
        if name != "input" and isinstance(one, Sequence) and one and all(isinstance(m, BaseMessage) for m in one):
            raise InvalidMessagesError(
                f"the messages in {name!r} stand beside the input and would be left out; put both into one list of "
                f"messages, as a prompt with MessagesPlaceholder({name!r}) does"
            )


def variables_of(value: Any) -> dict[str, Any]:
    """What a dict holds beside its conversation, for the variables of a prompt."""
    return {name: one for name, one in value.items() if name not in _NAMES} if isinstance(value, Mapping) else {}


def check_kind(taken_by: object, given: object, kind: type) -> None:
    """Raise where a part is given something else than the part that it works with, before it is used.

    Raises:
        InvalidParameterError: It is of another kind.
    """
    if not isinstance(given, kind):
        raise InvalidParameterError(
            f"{type(taken_by).__name__} takes a {kind.__name__}, not one {type(given).__name__}"
        )


def check_no_arguments(taken_by: Any, arguments: Mapping[str, Any]) -> None:
    """Raise where a call brings arguments to what takes none.

    A chain gives them to its first step, so those that are meant for its model would be lost.

    Raises:
        UnknownParameterError: There are some.
    """
    if arguments:
        name = next(iter(arguments))
        raise UnknownParameterError(
            f"{type(taken_by).__name__} has no parameter {name!r}. A chain gives what a call brings to its first step "
            f"alone; if it is meant for the model, bind it to that: model.bind({name}=...)"
        )


def followed_by(content: str | list[str | dict[Any, Any]], text: str) -> str | list[str | dict[Any, Any]]:
    """A message's content with text behind it: in the same string, or in a block of its own."""
    return content + text if isinstance(content, str) else [*content, {"type": "text", "text": text}]
