"""What is written on messages: pins and summaries. Marks live in `additional_kwargs`, so every store keeps them."""

from __future__ import annotations

from langchain_core.messages import BaseMessage, SystemMessage

_MARK = "langchain_qwen_history"


def pin(message: BaseMessage) -> BaseMessage:
    """A copy of the message that is never cleared, summarised or dropped, and neither is what belongs to it."""
    return message.model_copy(update={"additional_kwargs": {**message.additional_kwargs, _MARK: "pinned"}})


def is_pinned(message: BaseMessage) -> bool:
    """Whether `pin` marked the message."""
    return message.additional_kwargs.get(_MARK) == "pinned"


def summary_message(text: str) -> SystemMessage:
    """A block of summary, which a later trim recognises."""
    return SystemMessage(text, additional_kwargs={_MARK: "summary"})


def is_summary(message: BaseMessage) -> bool:
    """Whether the message is a block of summary that a trim put there."""
    return message.additional_kwargs.get(_MARK) == "summary"
