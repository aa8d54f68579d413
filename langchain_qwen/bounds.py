"""What the sizes of a model, its vocabulary and its window, allow a call to ask for."""

from __future__ import annotations

from collections.abc import Mapping

from langchain_qwen.errors import ContextOverflowError, InvalidParameterError
from langchain_qwen.parameters import MAX_ANSWER_TOKENS


def check_bias(logit_bias: Mapping[int, float] | None, vocab_size: int) -> None:
    """Raise `InvalidParameterError` for a token that the vocabulary lacks."""
    for token in logit_bias or ():
        if not 0 <= token < vocab_size:
            raise InvalidParameterError(
                f"logit_bias names the token {token}; this model's tokens go from 0 to {vocab_size - 1}"
            )


def answer_room(prompt_tokens: int, max_tokens: int | None, window: int, at_least: str = "") -> int:
    """How long the answer may get.

    Raises:
        ContextOverflowError: When the prompt and the answer that was asked for are longer than the window.
    """
    room = window - prompt_tokens
    reserved = max_tokens or 1
    if room < reserved:
        raise ContextOverflowError(
            f"the prompt has {at_least}{prompt_tokens} tokens and {reserved} are reserved for the answer, but the "
            f"context window holds {window}: {at_least}{reserved - room} too many. Shorten or trim the messages, or "
            "lower `max_tokens`",
            prompt_tokens=prompt_tokens,
            reserved_tokens=reserved,
            context_window=window,
        )
    return max_tokens or min(room, MAX_ANSWER_TOKENS)
